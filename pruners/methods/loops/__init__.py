"""Shared pruning loops: step by step, layer by layer or by training, with the cuts in between."""

__all__: list[str] = []
