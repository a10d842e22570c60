"""Gates: a trainable number for each unit, trained with the network and folded away at the end."""

__all__: list[str] = []
