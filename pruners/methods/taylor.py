"""Taylor expansion pruning: score, remove a little, fine-tune a little, until the target is met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pruners.base import Method, MethodSettings, Outcome
from pruners.decide.budget import Budget
from pruners.decide.greedy import greedy_counts
from pruners.importance.criteria import create_criterion
from pruners.importance.normalise import normalise
from pruners.importance.scores import Scores, flops_regularise, marginal_mflops
from pruners.methods.loops.stepwise import Schedule, Scored, Step, draw, prune_in_steps
from pruners.task import Stream

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["Taylor", "TaylorSettings"]


class TaylorSettings(MethodSettings):
    """Settings of `Taylor`; its docstring gives the paper's values."""

    steps: PositiveInt = Field(10, description="removals, each taking an equal share of what has to go")
    units_per_step: PositiveInt | None = Field(
        None, description="remove this many units each time instead, for as many steps as that takes"
    )
    batches_per_step: PositiveInt = Field(10, description="batches that units are scored on before each removal")
    updates_between: NonNegativeInt = Field(30, description="fine-tuning updates after each removal")
    flops_strength: NonNegativeFloat = Field(1e-3, description="lambda of the FLOPs term; 0 leaves it out")
    normalise: bool = Field(True, description="divide the scores of each group by their l2 norm")


class Taylor(Method):
    """Greedily remove the feature maps whose removal would change the loss least, to first order.

    Each step scores the units of the current network on fresh training batches (equation 8, see
    `pruners.importance.measures.taylor`), normalises the scores within each group (l2), subtracts the FLOPs term, cuts
    out the lowest units of the *whole* network, and fine-tunes with ``task.train``.

    **FLOPs term.** ``score - flops_strength * MFLOPs``, where the paper takes the FLOPs of one map of its own
    convolution, ``2*H*W*(Cin*K^2 + 1) / 1e6``. Here it is the marginal cost of one unit of the group in the current
    network: FLOPs before minus FLOPs after its removal, for one example, over 1e6. For a single convolution that is the
    paper's number (a bias is not counted) plus what the layers that read the map save; for coupled layers it is what
    all of them save.

    With a target of speed, the time of a unit as predicted by the latency table replaces the FLOPs term: units with the
    lowest score for the time they take are removed first (`pruners.decide.greedy`).

    **Schedule.** By default the target is reached in `steps` removals, each an equal share of the FLOPs (or parameters,
    units or time) to remove: minutes instead of days. The paper's schedule is ``units_per_step=1``:

    ========================== ============== ====================================================================
    experiment                 updates between fine-tuning
    ========================== ============== ====================================================================
    VGG-16 on Birds-200        30             SGD, batch 32, learning rate 1e-4, momentum 0.9, weight decay 1e-4
    AlexNet on Flowers-102     10             SGD, batch 32, learning rate 1e-3 before pruning
    AlexNet on ImageNet        100 or 1000    SGD, batch 32, learning rate 1e-4, momentum 0.9, weight decay 1e-4
    ========================== ============== ====================================================================

    The paper uses lambda 1e-3 for the FLOPs term, scores on the batches of the updates, and stops at a target accuracy
    or cost. The learning rate is that of the caller's ``task.train``.

    ``Pruned.history`` has a row for each removal: ``removal`` (from 1), ``units_removed``, ``units_left`` (of the
    groups that may be pruned), ``macs``, ``parameters`` (both after it), ``loss_before`` (mean of ``examples_scored``).

    With a target of ratios each group shrinks to its own count; scores decide the order and the units.

    References
    ----------
    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference",
    ICLR 2017, arXiv:1611.06440.
    """

    name: ClassVar[str] = "taylor"
    paper: ClassVar[str] = (
        "Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017, "
        "arXiv:1611.06440"
    )
    needs_data: ClassVar[bool] = True
    Settings: ClassVar[type[MethodSettings]] = TaylorSettings
    settings: TaylorSettings

    def _unrankable(self, task: PruningTask, graph: Graph) -> Mapping[str, str]:
        return create_criterion("taylor").unrankable(task.model, graph)

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.importance.measures.taylor import taylor_scores

        assert task.batches is not None and task.loss is not None, "the base class checked it"
        batches, loss = Stream(task.batches()), task.loss
        settings = self.settings

        def score(step: Step) -> Scored:
            drawn = draw(batches, settings.batches_per_step, self.name)
            taylor = taylor_scores(step.present, drawn, loss, groups=step.left.movable)
            return Scored(
                scores=taylor.scores, facts={"loss_before": taylor.loss, "examples_scored": taylor.n_examples}
            )

        def decide(step: Step, scores: Scores, budget: Budget, most: int | None) -> dict[str, int]:
            by_flops = not budget.times
            return greedy_counts(step.left, self._ranked(scores, graph, step.counts, by_flops), budget, max_units=most)

        schedule = Schedule(
            steps=settings.steps, units_per_step=settings.units_per_step, updates_between=settings.updates_between
        )
        return prune_in_steps(self, task, graph, schedule, score, decide, batches=batches)

    def _ranked(self, scores: Scores, graph: Graph, counts: Mapping[str, int], by_flops: bool) -> Scores:
        """Normalise; if `by_flops`, apply the FLOPs term, the marginal cost of a unit in the network of `counts`."""
        if self.settings.normalise:
            scores = normalise(scores, "l2")
        if not by_flops or not self.settings.flops_strength:
            return scores
        return flops_regularise(scores, marginal_mflops(graph.macs, counts, scores), self.settings.flops_strength)
