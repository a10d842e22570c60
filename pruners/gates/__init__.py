"""Trainable units: a number for each unit that is trained with the network, and folded away at the end."""

__all__: list[str] = []
