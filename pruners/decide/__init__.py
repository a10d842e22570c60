"""Decide how many units each group keeps, and which: pure functions of scores, cost, target and constraints.

`choices` lists the legal counts and `goal` turns a target into a budget; `decisions` says how many units each group
keeps and `units` which ones. Every decision but `exact` is an order of legal steps (`moves`) that `landing` follows
until the budget is met. Imports no torch.
"""

__all__: list[str] = []
