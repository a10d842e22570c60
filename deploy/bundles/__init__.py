"""A bundle: the folder of one exported network.

`manifest` and `pruning` are the records in its ``bundle.json``; `bundle` reads and verifies it without torch, `write`
makes it, `of_pruned` from what a method gave back, and `rebuild` builds the torch network again.
"""

__all__: list[str] = []
