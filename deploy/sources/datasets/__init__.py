"""Data sets: where they are found, how they are split, and how images are prepared for a network."""

__all__: list[str] = []
