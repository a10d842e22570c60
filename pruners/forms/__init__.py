"""Forms of a pruned network: masked, as its own class, or as a graph.

`masking` zeroes what is removed. `forms` makes the compact network: `module_*` as its own class with smaller modules,
`graph_*` as a program cut from the exported graph. `compact` saves and loads either.
"""

__all__: list[str] = []
