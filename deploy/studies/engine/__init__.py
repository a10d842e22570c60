"""Engine that all studies run on: `process` is the child process of one job, `schedule` starts the missing jobs.

`reasons` turns an exception of a job into the line of its row.
"""

__all__: list[str] = []
