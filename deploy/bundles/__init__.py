"""A bundle: the folder of one exported network.

`manifest` and `pruning` are the records in its ``bundle.json``; `bundle` reads and verifies it without torch, `write`
writes it, `of_pruned` writes one from the result of a pruning method, and `rebuild` rebuilds the torch network.
"""

__all__: list[str] = []
