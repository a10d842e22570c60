"""``deploy study``: questions that take many networks or many measurements to answer. One file a command."""

__all__: list[str] = []
