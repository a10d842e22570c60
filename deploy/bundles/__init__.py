"""A bundle: the folder of one exported network.

`manifest` and `pruning` are the records in its ``bundle.json``; `bundle` reads and verifies it without torch, `write`
makes it, and `rebuild` builds the torch network again.
"""

__all__: list[str] = []
