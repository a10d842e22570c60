"""Study of pruned networks from papers, measured against their dense parents.

`catalogue` reads the published figures (``catalogue/*.yaml``), `build` makes the networks (some from `networks`) in a
child process that `export` starts; `study` measures, `tables` shows.
"""

__all__: list[str] = []
