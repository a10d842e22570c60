"""Who turns numbers into counts: pure functions of scores, cost, target and constraints. Imports no torch.

`choices` says what may be decided at all and `goal` what is asked; `decisions` says how many units each group keeps and
`units` which ones. Every decision is an order of legal steps (`moves`) that `landing` follows until the budget is met.
"""

__all__: list[str] = []
