"""Results as they are kept in files.

`results` holds the records of ``results.json`` and reads older versions; `gather` puts them together from a run, a
bench or a journal; `bench_grid` measures models at every point of a grid.
"""

__all__: list[str] = []
