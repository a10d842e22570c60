"""How well changes of level are found in histories of results: simulated ones, whose steps are known.

`histories` makes them, `finders` are who looks, `study` counts what they find.
"""

__all__: list[str] = []
