"""`deploy run`: `pipeline` turns a recipe into results, stage by stage (`stages`, `run_stages`).

`child` is the process of the torch half: `prepare` chains its `steps`, reported by `progress`; `measure` and `pairs` do
the measuring. `speed` prunes to a measured speed.
"""

__all__: list[str] = []
