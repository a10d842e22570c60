"""Results as they are kept in files.

`results` holds the records of ``results.json`` and reads older versions; `gather` puts them together from a run, a
bench or a journal; `bench_grid` measures models at every point of a grid, `layer_profiles` layer by layer.
`calls` has the functions of `import deploy`; it shares `layer_profiles`, as it does `bench_grid`, with the commands.
`frame` makes a pandas frame of rows.
"""

__all__: list[str] = []
