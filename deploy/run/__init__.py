"""`deploy run`: `pipeline` goes from a recipe to its results, stage by stage (`stages`, `run_stages`).

`child` is the process of the torch half: `prepare` chains its `steps`, watched by `progress`; `measure` and `pairs` do
the measuring.
"""

__all__: list[str] = []
