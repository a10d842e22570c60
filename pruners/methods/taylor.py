"""Taylor expansion pruning: score, remove a little, fine-tune a little, until the target is met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from pruners.base import Method, MethodSettings, Outcome, budget_of, plan_of
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices, choices_of
from pruners.decide.counts import ratio_counts
from pruners.decide.greedy import greedy_counts
from pruners.decide.units import top_units
from pruners.errors import MethodError
from pruners.importance.scores import Scores, flops_regularise, l2_normalise, marginal_mflops

if TYPE_CHECKING:
    from torch import Tensor

    from pruners.graph import Graph
    from pruners.importance.taylor import TaylorScores
    from pruners.plan import PruningPlan
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
    """Greedy removal of the feature maps whose loss would change least, to first order.

    Each step scores the units of the present network on fresh training batches (equation 8, see
    `pruners.importance.taylor`), normalises them within each group (l2), subtracts the FLOPs term, removes the
    lowest of the *whole* network, cuts them out for real, and fine-tunes with ``task.train``.

    **FLOPs term.** ``score - flops_strength * MFLOPs``, where the paper takes the FLOPs of one map of its own
    convolution, ``2*H*W*(Cin*K^2 + 1) / 1e6``. Here it is the marginal cost of one unit of the group in the present
    network: FLOPs before less FLOPs after its removal, for one example, over 1e6. For a single convolution that is the
    paper's number (a bias is not counted) plus what the layers that read the map save; for coupled layers it is what
    all of them save.

    **Schedule.** By default the target is reached in `steps` removals, each taking an equal share of the FLOPs (or
    parameters, or units) that have to go: minutes instead of days. The paper's own schedule is ``units_per_step=1``:

    ========================== ============== ====================================================================
    experiment                 updates between fine-tuning
    ========================== ============== ====================================================================
    VGG-16 on Birds-200        30             SGD, batch 32, learning rate 1e-4, momentum 0.9, weight decay 1e-4
    AlexNet on Flowers-102     10             SGD, batch 32, learning rate 1e-3 before pruning
    AlexNet on ImageNet        100 or 1000    SGD, batch 32, learning rate 1e-4, momentum 0.9, weight decay 1e-4
    ========================== ============== ====================================================================

    It takes lambda 1e-3 for the FLOPs term, scores on the updates' own batches, and stops at a target accuracy or cost.
    The learning rate is that of ``task.train``, the caller's.

    ``Pruned.history`` has a row for each removal: ``removal`` (from 1), ``units_removed``, ``units_left`` (of the
    groups that may be pruned), ``macs``, ``parameters`` (both after it), ``loss_before`` (mean of ``examples_scored``).

    With a target of ratios each group goes down to its own count, and scores decide in which order and which units.

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

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        from pruners.graph import trace
        from pruners.surgery import apply

        if self.settings.updates_between and task.train is None:
            raise MethodError(
                f"method {self.name!r} fine-tunes between removals: the task has to hand in train, or set "
                "updates_between=0"
            )
        choices, budget = _goal(task, graph)
        budget.require_reachable(choices)
        assert task.batches is not None, "the base class checked it"
        batches = iter(task.batches())
        model, present = task.model, graph
        counts = choices.whole
        plan: PruningPlan | None = None
        history: list[Mapping[str, Any]] = []
        for limit in self._limits(budget):
            if budget.met(counts):
                break
            if budget.cost(counts) <= limit:
                continue
            if plan is not None:
                present = trace(model, task.example_inputs, policy=graph.policy)
            left = choices.left(counts)
            found = self._score(task, present, left, batches)
            before = counts
            counts = greedy_counts(
                left,
                self._ranked(found.scores, graph, before),
                Budget(cost=budget.cost, limit=limit, of=budget.of),
                max_units=self.settings.units_per_step,
            )
            kept = top_units(found.scores, {name: counts[name] for name in found.scores})
            step = plan_of(self, present, kept)
            model = apply(model, step, graph=present, check=False)
            plan = step if plan is None else plan.then(step)
            if self.settings.updates_between and task.train is not None:
                task.train(model, self.settings.updates_between)
            history.append(_row(len(history) + 1, found, before, counts, graph))
            if task.progress is not None:
                dense = budget.cost({})
                done = (dense - budget.cost(counts)) / (dense - budget.limit)
                task.progress(f"removal {len(history)}: {sum(counts.values())} units left", min(1.0, done))
        assert plan is not None, "a limit below the dense cost takes at least one removal"
        return Outcome(plan=plan, model=model, history=tuple(history))

    def _limits(self, budget: Budget) -> Iterator[float]:
        """Yield what the network may cost after each removal; without end where units are counted out."""
        dense, last = budget.cost({}), self.settings.steps
        if self.settings.units_per_step is not None:
            yield from repeat(budget.limit)
        for step in range(1, last):
            yield dense - (dense - budget.limit) * step / last
        yield budget.limit

    def _score(
        self, task: PruningTask, present: Graph, left: Choices, batches: Iterator[tuple[Tensor, Tensor]]
    ) -> TaylorScores:
        from pruners.importance.taylor import taylor_scores

        wanted = self.settings.batches_per_step
        drawn = list(islice(batches, wanted))
        if len(drawn) < wanted:
            raise MethodError(f"method {self.name!r}: the task's batches ended; they have to go on without end")
        assert task.loss is not None, "the base class checked it"
        return taylor_scores(
            present, drawn, task.loss, groups=[name for name, legal in left.legal.items() if len(legal) > 1]
        )

    def _ranked(self, scores: Scores, graph: Graph, counts: Mapping[str, int]) -> Scores:
        """Normalise and add the FLOPs term, at the marginal cost of a unit in the network of `counts`."""
        if self.settings.normalise:
            scores = l2_normalise(scores)
        if not self.settings.flops_strength:
            return scores
        return flops_regularise(scores, marginal_mflops(graph.macs, counts, scores), self.settings.flops_strength)


def _goal(task: PruningTask, graph: Graph) -> tuple[Choices, Budget]:
    """Return what may be decided and the budget; ratios become a budget of units with each group's count as floor."""
    choices = choices_of(graph.groups, task.constraints)
    if task.target.of != "ratios":
        return choices, budget_of(task, graph)
    final = ratio_counts(choices, graph.groups, task.target.ratios)
    whole = choices.whole

    def units_left(counts: Mapping[str, int]) -> int:
        return sum((whole | dict(counts)).values())

    return choices.at_least(final), Budget(cost=units_left, limit=sum(final.values()), of="units")


def _row(
    number: int, found: TaylorScores, before: Mapping[str, int], counts: Mapping[str, int], graph: Graph
) -> Mapping[str, Any]:
    left = sum(counts.values())
    return {
        "removal": number,
        "units_removed": sum(before.values()) - left,
        "units_left": left,
        "macs": graph.macs(counts),
        "parameters": graph.parameters(counts),
        "loss_before": found.loss,
        "examples_scored": found.n_examples,
    }
