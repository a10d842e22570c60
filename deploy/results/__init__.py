"""Results as they are kept in files.

`results` holds the records of ``results.json`` and reads older versions; `gather` puts them together from a run, a
bench or a journal; `bench_grid` measures models at every point of a grid.

`calls` has the functions of `import deploy`, `bench_grid` and `profile` what they share with the commands.
"""

__all__: list[str] = []
