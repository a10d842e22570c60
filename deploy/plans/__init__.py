"""Work with pruning plans: `source` reads one with the network it was made for.

`difference` compares two, `applied` writes a bundle from one, and `transferred` makes a plan for another network.
"""

__all__: list[str] = []
