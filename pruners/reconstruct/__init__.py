"""Choose channels and weights that reproduce the next layer's outputs, from samples of its inputs and outputs.

Shared by the methods that choose channels this way (`pruners.methods.thinet`, `pruners.methods.regression`) and by the
recovery for any choice of channels (`pruners.recover.reconstruct`).
"""

__all__: list[str] = []
