"""The two forms of a smaller network: its own class with smaller modules, or a graph; and masks."""

__all__: list[str] = []
