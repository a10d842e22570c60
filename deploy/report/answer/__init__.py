"""The answer of a measurement, independent of how it is shown: what was gained, and how far to trust it.

`records` holds `Answer` and its parts; `deriving` derives it from results, with `scores` (accuracy before and after),
`doubts` (reasons to distrust the numbers, grouped and graded), `ending` (the exit code in words) and `wishes` (what was
requested). `lines` writes it for a terminal; `machine` has the facts about the machine.
"""

__all__: list[str] = []
