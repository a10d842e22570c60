"""Unstructured pruning: single weights set to zero, shapes unchanged. A control for structured pruning."""

__all__: list[str] = []
