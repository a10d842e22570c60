"""What continuous integration asks for: limits that a model must keep, judged on the machine of the job.

`check_file` says what is asked, `check_report` what came out of it.
"""

__all__: list[str] = []
