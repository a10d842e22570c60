"""Pruning methods compared on one network: accuracy over seeds, and measured speed.

`recipe` to `jobs`, which `schedule` gives to an executor (`executor`, `cluster`); `child` and `work` are one job;
`measuring`, then `results`, `summary`, `tables`, `formatting`, `plot` and `page`. `study` chains them.
"""

__all__: list[str] = []
