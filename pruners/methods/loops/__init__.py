"""How methods go through a network: step by step, layer by layer or by training, with the cuts on the way."""

__all__: list[str] = []
