"""Pruned networks that papers published, measured beside their dense parents.

`catalogue` reads what is published (``catalogue/*.yaml``), `build` makes the networks (some from `networks`) in a
child that `export` starts; `study` measures, `tables` shows.
"""

__all__: list[str] = []
