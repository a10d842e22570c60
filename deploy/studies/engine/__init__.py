"""What all studies run on: `process` is the child of one job, with its limits; `schedule` starts the missing jobs.

`reasons` turns what a job raises into the line of its row.
"""

__all__: list[str] = []
