"""Who turns numbers into counts: pure functions of scores, cost, target and constraints. Imports no torch.

`choices` says what may be decided at all, `counts` and `greedy` decide how many units each group keeps, `units` says
which ones.
"""

__all__: list[str] = []
