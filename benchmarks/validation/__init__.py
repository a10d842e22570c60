"""Studies of the measuring itself, each a command: ``python -m benchmarks.validation.<name>``."""

__all__: list[str] = []
