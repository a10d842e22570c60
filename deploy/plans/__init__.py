"""Pruning plans on their own: `source` reads one with the network that it was made for.

`difference` compares two, `applied` makes a bundle of one, and `transferred` makes a plan for another network.
"""

__all__: list[str] = []
