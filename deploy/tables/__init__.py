"""Latency tables for pruning: `plan_space` finds how the numbers in a network's ONNX file follow its widths."""

__all__: list[str] = []
