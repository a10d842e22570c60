"""``deploy history``: results over time. One file a command."""

__all__: list[str] = []
