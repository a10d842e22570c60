"""Study of which networks can be pruned, beside another library: a long list is pruned, proved, exported and run.

`catalogue` lists the networks (``networks.yaml``), `study` starts a `child` for each: `models`, then `ours` or `tp`,
then `checks`. `rows` are the records, `provenance` is what they depend on, `table` shows them.
"""

__all__: list[str] = []
