"""What is written and read back: measurements, comparisons, noise and memory, each with a version."""

__all__: list[str] = []
