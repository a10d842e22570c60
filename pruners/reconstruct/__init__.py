"""Keep what the next layer computes: its inputs and outputs sampled, and channels and weights chosen to reproduce them.

Shared by the methods that choose channels so (`pruners.methods.thinet`, `pruners.methods.regression`) and by the
recovery that compensates any choice (`pruners.recover.reconstruct`).
"""

__all__: list[str] = []
