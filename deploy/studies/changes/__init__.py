"""Study of how well changes of level are found in simulated histories, whose steps are known.

`histories` simulates them, `finders` are the methods compared, `study` counts what they find.
"""

__all__: list[str] = []
