"""A pruned network carried on: plans over stages, and weights from one network to another."""

__all__: list[str] = []
