"""`deploy run`: the stages from a recipe to its results, and what watches them."""

__all__: list[str] = []
