"""The machine: what it is, who holds it, how quiet it is, and what it can measure."""

__all__: list[str] = []
