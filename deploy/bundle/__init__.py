"""A bundle: the folder of a pruned network, and the manifest that says what is in it."""

__all__: list[str] = []
