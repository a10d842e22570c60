"""Prune to a speed measured on this machine: `pruning` measures and corrects, `landing` keeps the closest plan."""

__all__: list[str] = []
