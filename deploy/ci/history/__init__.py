"""Results over time, in one SQLite file.

`schema` and `database` are the file, `records` what one run leaves in it, `derive` makes that of a report, `store` puts
it in and reads it back.
"""

__all__: list[str] = []
