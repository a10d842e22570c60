"""How far pruning reaches: every network of a long list pruned, proved, exported and run, beside another library.

`catalogue` lists the networks (``networks.yaml``), `study` starts a `child` for each: `models`, then `ours` or `tp`,
then `checks`. `rows` are the records, `provenance` is what they depend on, `table` shows them.
"""

__all__: list[str] = []
