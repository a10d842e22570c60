"""``deploy study``: studies that take many networks or many measurements. One file per command."""

__all__: list[str] = []
