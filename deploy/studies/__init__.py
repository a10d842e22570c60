"""Studies that ask one question of a recipe's network; each is a module that computes and one that tells."""

__all__: list[str] = []
