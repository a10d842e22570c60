"""``deploy history``: results over time. One file per command."""

__all__: list[str] = []
