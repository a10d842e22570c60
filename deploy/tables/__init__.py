"""Latency tables for pruning: `plan_space` says how a network's ONNX file follows its widths."""

__all__: list[str] = []
