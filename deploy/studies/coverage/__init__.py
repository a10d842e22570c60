"""How far pruning reaches: every network of a long list, pruned, proved, exported, run, beside another library."""

__all__: list[str] = []
