"""`ByCost`: a speed met by a share of another cost, for comparison with what is decided by time. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from pruners.base import PruningMethod
from pruners.decide.search import largest_within
from pruners.errors import TargetError
from pruners.target import Cost, Target
from pruners.task import Pruned, PruningTask

__all__ = ["ByCost"]


class ByCost(PruningMethod):
    """Prune by another method to the largest share of a cost that takes no longer than was asked for.

    The method prunes once for each share that is tried, ten times at most: for methods that do not train.

    Parameters
    ----------
    method : PruningMethod
        Decides the plan.
    of : Cost
        What it decides by.
    """

    name: ClassVar[str] = "by cost"
    paper: ClassVar[str] = "that of the method"
    removes = "channels"

    def __init__(self, method: PruningMethod, of: Cost) -> None:
        super().__init__()
        self.method = method
        self.of = of

    def prune(self, task: PruningTask) -> Pruned:
        """Prune the network of `task`, whose target is a time, or several.

        Raises
        ------
        TargetError
            At no share is the time met.
        """
        refused: list[TargetError] = []

        def longest(counts: Mapping[str, int]) -> float:
            """Return the time that is furthest beyond what was asked for, as a share of that."""
            asked = ((one.table, one.kept_fraction) for one in (task.target, *task.target.also))
            return max(table.time_ns(counts) / (share * table.time_ns()) for table, share in asked if table)

        def attempt(share: float) -> tuple[float, Pruned] | None:
            try:
                # Each share is another pruning: none goes on from what one before it kept.
                pruned = self.method.prune(replace(task, target=Target(of=self.of, kept_fraction=share), keeper=None))
            except TargetError as error:
                refused.append(error)
                return None
            return longest({name: len(kept) for name, kept in pruned.plan.kept.items()}), pruned

        found = largest_within(attempt, 1.0, longest({}))
        if found is None:
            reached = f": {refused[-1]}" if refused else ""
            raise TargetError(
                f"at no share of the {self.of} is the network {1 / task.target.kept_fraction:.2f}x as fast{reached}"
            )
        return found
