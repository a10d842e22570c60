"""``deploy study RECIPE``: pruning methods compared on one network, with equal budgets, recoveries and seeds."""

__all__: list[str] = []
