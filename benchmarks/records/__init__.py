"""Versioned records that are saved and loaded: measurements, comparisons, noise and memory."""

__all__: list[str] = []
