"""Data sets: where they lie, how they are divided, and what a network is given of them."""

__all__: list[str] = []
