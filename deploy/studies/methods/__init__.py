"""Study that compares pruning methods on one network: accuracy over seeds, and measured speed.

`recipe` becomes `jobs`, which `schedule` gives to an executor (`executor`, `cluster`); `child` and `work` run one job.
Then come `measuring`, `results`, `summary`, `tables`, `formatting`, `plot` and `page`. `study` chains them.
"""

__all__: list[str] = []
