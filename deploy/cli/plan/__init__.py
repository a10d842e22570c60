"""``deploy plan``: read, draw, compare, apply and transfer pruning plans. One file per command."""

__all__: list[str] = []
