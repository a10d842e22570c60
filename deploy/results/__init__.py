"""Results files, and the measurements that fill them.

`results` holds the records of ``results.json`` and reads older versions; `gather` assembles them from a run, a
bench or a journal; `bench_grid` measures models at every point of a grid, `layer_profiles` layer by layer.
`calls` has the functions of `import deploy`; it shares `bench_grid` and `layer_profiles` with the commands.
`frame` turns rows into a pandas frame.
"""

__all__: list[str] = []
