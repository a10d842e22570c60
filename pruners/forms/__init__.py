"""What a smaller network looks like: masked, as its own class, or as a graph.

`masking` sets what is removed to zero. `forms` makes the compact network: `module_*` its own class with smaller
modules, `graph_*` a program cut from the exported graph. `compact` saves and loads either.
"""

__all__: list[str] = []
