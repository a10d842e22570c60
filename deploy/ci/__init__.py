"""Performance checks for continuous integration: limits that a model must keep, judged on the machine of the job.

`check_file` holds the limits, `check_report` the verdicts.
"""

__all__: list[str] = []
