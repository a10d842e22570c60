"""Studies of the measuring itself, each a command: ``python -m benchmarks.studies.<name>``."""

__all__: list[str] = []
