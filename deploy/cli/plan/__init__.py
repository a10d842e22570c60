"""``deploy plan``: read, draw, compare, apply and transfer pruning plans. One file a command."""

__all__: list[str] = []
