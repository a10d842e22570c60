"""`KeptShare`: the method of the grid; it keeps the most units, regardless of the weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from deploy.tables.kept_share import kept_share_scores
from pruners.base import Method, Outcome, plan_facts, plan_of
from pruners.decide.exact.plan import exact_plan
from pruners.decide.goal import goal_of

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["KeptShare"]


class KeptShare(Method):
    """Maximise, within the time, the sum over groups of the square root of the share of units kept.

    The first units of a group are kept. The importance is that of `deploy.bundles.pruning.SpeedLanding`; it does not
    depend on the weights, so networks with random weights can be compared.
    """

    name: ClassVar[str] = "kept share"
    paper: ClassVar[str] = "none: a stand-in for scores"

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        choices, budget = goal_of(task.target, task.constraints, graph)
        begin = time.monotonic()
        counts, _, gap = exact_plan(choices, kept_share_scores(choices), budget)
        seconds = time.monotonic() - begin
        plan = plan_of(self, graph, {name: tuple(range(count)) for name, count in counts.items()})
        return Outcome(plan=plan, history=({**plan_facts(graph, counts, plan), "gap": gap, "seconds": seconds},))
