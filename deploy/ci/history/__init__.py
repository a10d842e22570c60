"""History of results over time, in one SQLite file.

`schema` and `database` define and open the file, `records` is what is kept of one run, `derive` makes these records
from a report, and `store` writes and reads them.
"""

__all__: list[str] = []
