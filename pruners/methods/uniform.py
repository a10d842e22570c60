"""The uniform baseline: the same kept fraction everywhere, units drawn at random."""

from __future__ import annotations

from random import Random as Generator
from typing import TYPE_CHECKING, ClassVar

from pruners.base import Method, Outcome, counts_of, plan_of
from pruners.decide.uniform import uniform_counts
from pruners.decide.units import top_units

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["Uniform"]


class Uniform(Method):
    """Keep the same fraction of every group, and draw which units (seeded).

    Baseline of `Rethinking the Value of Network Pruning`, where "uniform" refers to counts alone: the architecture
    is what a width multiplier would give, and is trained from scratch, so it does not matter which units stay. Here
    they are drawn at random, and three baselines build on each other:

    ========== ============================== ======================
    method     how many units a group keeps   which
    ========== ============================== ======================
    `random`   drawn                          drawn
    `uniform`  the same fraction everywhere   drawn
    `l1`       the same fraction everywhere   largest filters
    ========== ============================== ======================

    With a target of ratios the counts are given, and only the units are drawn.

    References
    ----------
    Liu, Sun, Zhou, Huang, Darrell, "Rethinking the Value of Network Pruning", ICLR 2019, arXiv:1810.05270, section 5.
    """

    name: ClassVar[str] = "uniform"
    paper: ClassVar[str] = "Liu et al., Rethinking the Value of Network Pruning, ICLR 2019, arXiv:1810.05270 (baseline)"

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        counts = counts_of(task, graph, uniform_counts)
        draw = Generator(task.seed)
        scores = {name: [draw.random() for _ in range(graph.group(name).n_units)] for name in counts}
        return Outcome(plan=plan_of(self, graph, top_units(scores, counts)))
