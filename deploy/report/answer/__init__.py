"""The answer of one measurement, before anybody shows it: what was bought, and how far it can be believed.

`records` holds `Answer` and its parts; `deriving` makes it from results, with `scores` (accuracy before and after),
`doubts` (what speaks against the numbers, grouped and graded), `ending` (the exit code in words) and `wishes` (what was
asked for). `lines` writes it for a terminal; `machine` is what is known of the machine.
"""

__all__: list[str] = []
