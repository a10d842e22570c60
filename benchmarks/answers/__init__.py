"""Whether a compiled model still answers right: references and where they come from."""

__all__: list[str] = []
