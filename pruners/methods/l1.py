"""L1-norm filter pruning: smallest filters first, in one shot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pruners.base import Method, Outcome, counts_of, plan_of
from pruners.decide.uniform import uniform_counts
from pruners.decide.units import top_units
from pruners.importance.criteria import create_criterion

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["L1"]


class L1(Method):
    """Remove the filters of smallest L1 norm in each layer.

    The norms of different layers are not comparable, so L1 ranks only *within* a group; how many units each group
    keeps is decided without it:

    * a target of **ratios** is the paper's own way: ``kept = floor(n_units * (1 - ratio))`` for each named group (the
      paper reads its ratios off sensitivity curves, one per stage, and skips sensitive layers);
    * a target of **FLOPs or parameters** keeps the same fraction of every group, the largest that meets the target
      (as the `uniform` baseline does, which draws its units at random: the difference between the two is the value of
      the ranking).

    Scores are independent (a filter's norm includes kernels whose input maps are removed too), the paper's first
    variant. Channels produced by several layers are ranked by the sum of their norms, see
    `pruners.importance.measures.l1`. Channels without filters (produced by a one-dimensional parameter) stay whole;
    ``Pruned.unranked`` names their groups. Fine-tuning is left to the caller: the paper retrains 40 epochs at a
    learning rate of 1e-3 (CIFAR-10).

    References
    ----------
    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710.
    """

    name: ClassVar[str] = "l1"
    paper: ClassVar[str] = "Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710"

    def _unrankable(self, task: PruningTask, graph: Graph) -> Mapping[str, str]:
        return create_criterion("l1").unrankable(task.model, graph)

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.importance.measures.l1 import l1_norms

        counts = counts_of(task, graph, uniform_counts)
        scores = l1_norms(graph.weights(), [graph.group(name) for name in counts])
        return Outcome(plan=plan_of(self, graph, top_units(scores, counts)))
