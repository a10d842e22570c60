"""Any criterion with any decision: score units, reduce over members, normalise, decide, in one step or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from pruners.base import Method, MethodSettings, Outcome, plan_facts, plan_of
from pruners.decide.blocks import held_blocks
from pruners.decide.budget import Budget
from pruners.decide.decisions import decide
from pruners.decide.exact.plan import exact_plan
from pruners.decide.goal import goal_of, require_one_removal
from pruners.decide.isomorphic import isomorphic_classes, tensor_kinds
from pruners.decide.units import top_units
from pruners.errors import MethodError
from pruners.importance.criteria import create_criterion, criterion_names
from pruners.importance.normalise import Normalisation, normalise
from pruners.importance.reduce import Reduction
from pruners.importance.scores import Scores
from pruners.methods.loops.stepwise import Schedule, Scored, Step, draw, prune_in_steps
from pruners.task import Stream

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.importance.criterion import Criterion
    from pruners.task import PruningTask

__all__ = ["ByCriterion", "CriterionSettings"]


class CriterionSettings(MethodSettings):
    """Settings of `ByCriterion`."""

    criterion: str = Field("l2", description=f"where the score of each unit comes from: {', '.join(criterion_names())}")
    options: dict[str, Any] = Field(
        default_factory=dict, description="options of the criterion, as its class lists them"
    )
    reduction: Reduction | None = Field(
        None, description="over the members of a group: mean, sum or max; default: the criterion's own"
    )
    normalisation: Normalisation | None = Field(
        None,
        description="how the scores of each group are normalised: none, l1, l2, max, mean, std, lamp or log; default: "
        "mean, or log for a speed target and a criterion of the loss",
    )
    decision: Literal["local", "uniform", "global", "greedy", "exact"] | None = Field(
        None,
        description="what turns scores into counts; default: greedy, or exact for a speed target that is not met some "
        "units at a time",
    )
    structures: Literal["units", "both"] = Field(
        "units", description="what may be removed: units, or residual blocks as well (for a speed target, all at once)"
    )
    isomorphic: bool = Field(
        False,
        description="rank only within classes of groups of the same structure, with the same share removed from each "
        "class",
    )
    steps: PositiveInt = Field(1, description="removals, each taking an equal share of what has to go")
    units_per_step: PositiveInt | None = Field(
        None, description="remove this many units each time instead, for as many steps as that takes"
    )
    batches_per_step: PositiveInt = Field(10, description="batches that units are scored on before each removal")
    updates_between: NonNegativeInt = Field(0, description="fine-tuning updates after each removal")

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in criterion_names():
            raise ValueError(f"unknown criterion; choose from {', '.join(criterion_names())}")
        return name

    @model_validator(mode="after")
    def _options_fit(self) -> CriterionSettings:
        if self.options:
            create_criterion(self.criterion, **self.options)
        if self.decision == "exact" and self.isomorphic:
            raise ValueError("decision exact does not rank within classes of groups: take greedy, or isomorphic false")
        if self.structures == "both" and (
            self.steps > 1
            or self.units_per_step
            or self.updates_between
            or self.isomorphic
            or self.decision not in (None, "exact")
        ):
            raise ValueError(
                "structures both decides exactly and all at once: steps 1, no units_per_step, updates_between or "
                "isomorphic"
            )
        return self


class ByCriterion(Method):
    """Rank units by a criterion, and remove the lowest as a decision says.

    The pieces are chosen independently: the **criterion** gives a number for each unit and member (a layer that
    produces the channels, a BatchNorm, or a feature map; see `pruners.importance.criteria`), the **reduction** turns
    these into one number per unit, the **normalisation** makes groups comparable, and the **decision** turns scores
    into counts (`pruners.decide.decisions`). After "l1" and "l2" a unit of a wide group scores lower than one of a
    narrow group, so wide groups shrink first, down to their floor; after "mean" the width has no influence. With
    ``isomorphic`` units are ranked only within classes of groups of the same structure. In several steps the network
    is rescored before each removal, and with ``updates_between`` fine-tuned after it.

    Papers as settings:

    ====================== ===========================================================================================
    L1 (Li 2017)           criterion l1, decision uniform; or a target of ratios
    Slimming (Liu 2017)    criterion bn_scale, normalisation none, decision global
    FPGM (He 2019)         criterion fpgm, decision uniform
    Taylor (2017)          criterion taylor, normalisation l2, units_per_step 1, updates_between 30; `taylor` adds
                           the paper's FLOPs term
    Taylor-FO-BN (2019)    criterion taylor_fo_bn, normalisation none, units_per_step 100, batches_per_step 30 on
                           batches of 256 with updates in between
    LAMP (2021)            criterion l2, normalisation lamp, decision global (for channels instead of weights)
    Isomorphic (2024)      criterion taylor_fo, normalisation mean, isomorphic true, batches_per_step 100
    ====================== ===========================================================================================

    Under a target of speed the scores of a criterion of the loss (Taylor, OBD, Hessian) are compared as the changes of
    the loss that they are, and what a group keeps counts by its logarithm (normalisation log): their plain sum would
    take nearly all of a group as readily as a little of each. Other targets and criteria take the mean of each group as
    its unit.

    With ``structures: both`` depth competes with width (Sun et al. 2025): residual blocks that the latency table knows
    may be removed whole, and are valued by the units that are removed with them.

    Groups that the criterion cannot rank (no filters, no BatchNorm, no feature map) stay whole; ``Pruned.unranked``
    names them. Criteria based on weights need no data; the others need the task's batches, and those based on
    derivatives a loss too. Under ``torch.distributed`` data-driven scores cover the batches of all processes, and all
    follow process 0's plan.

    ``Pruned.history`` has a row for each removal: ``removal`` (from 1), ``units_removed``, ``units_left``, ``macs``,
    ``parameters`` (both after it), ``examples_scored`` (by this process); with
    ``structures: both`` the solver's ``gap``.

    References
    ----------
    The criterion's, see its class, and for members, reductions and decisions of a group:
    Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", CVPR 2023, arXiv:2301.12900. For blocks:
    Sun et al., "Multi-Dimensional Pruning: Joint Channel, Layer and Block Pruning with Latency Constraint", CVPR 2025,
    arXiv:2406.12079.
    """

    name: ClassVar[str] = "criterion"
    paper: ClassVar[str] = "that of its criterion; Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900 (groups)"
    Settings: ClassVar[type[MethodSettings]] = CriterionSettings
    settings: CriterionSettings

    def require_data(self, task: PruningTask) -> None:
        """Check that a task provides the batches and the loss of the criterion, and the training in between.

        Raises
        ------
        MethodError
            One of them is missing.
        """
        super().require_data(task)
        criterion = create_criterion(self.settings.criterion, **self.settings.options)
        if criterion.needs_data and (task.batches is None or (criterion.needs_loss and task.loss is None)):
            lacking = "batches" if task.batches is None else "a loss"
            raise MethodError(
                f"criterion {criterion.name!r} scores units on training data: the task has to hand in {lacking}"
            )

    def _unrankable(self, task: PruningTask, graph: Graph) -> Mapping[str, str]:
        criterion = create_criterion(self.settings.criterion, **self.settings.options)
        return criterion.unrankable(task.model, graph)

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        settings = self.settings
        criterion = create_criterion(settings.criterion, **settings.options)
        batches = self._batches(task, criterion)
        classes = isomorphic_classes(graph.groups, tensor_kinds(task.model)) if settings.isomorphic else None

        def score(step: Step, others: tuple[str, ...] = ()) -> Scored:
            return self._score(task, criterion, step, batches, others)

        if settings.structures == "both":
            return self._with_blocks(task, graph, criterion, score)

        def decided(step: Step, scores: Scores, budget: Budget, most: int | None) -> dict[str, int]:
            comparable = normalise(scores, self._normalisation(criterion, budget))
            at_once = bool(budget.times) and most is None and classes is None
            name = settings.decision or ("exact" if at_once else "greedy")
            return decide(name, step.left, comparable, budget, max_removed=most, classes=classes)

        schedule = Schedule(
            steps=settings.steps, units_per_step=settings.units_per_step, updates_between=settings.updates_between
        )
        return prune_in_steps(self, task, graph, schedule, score, decided, batches=batches)

    def _normalisation(self, criterion: Criterion, budget: Budget) -> Normalisation:
        return self.settings.normalisation or ("log" if budget.times and criterion.needs_loss else "mean")

    def _with_blocks(
        self, task: PruningTask, graph: Graph, criterion: Criterion, score: Callable[[Step, tuple[str, ...]], Scored]
    ) -> Outcome:
        """Decide units and residual blocks together, once. A block with a group that cannot be scored stays.

        Raises
        ------
        MethodError
            The target is not one of speed, or its table has no residual block that may be removed.
        """
        choices, budget = goal_of(task.target, task.constraints, graph)
        held = held_blocks(graph.blocks, graph.groups, task.constraints)
        single = {group.name for group in graph.groups if group.n_units == 1}
        goes_with = budget.times[0].model.blocks if budget.times else {}
        blocks = [
            name
            for name in budget.known_blocks
            if name not in held and choices.legal.keys() | single >= set(goes_with[name])
        ]
        inside = {each for name in blocks for each in goes_with[name]}
        if not blocks:
            raise MethodError(
                f"method {self.name!r} with structures both takes a target of speed whose table knows residual blocks "
                "that may go; take structures units"
            )
        # A block is worth what its units are, also of groups that lose none by themselves.
        step = Step(number=1, model=task.model, present=graph, dense=graph, left=choices, counts=choices.whole)
        scored = score(step, tuple(name for name in choices.legal if name in inside and name not in choices.movable))
        comparable = normalise(scored.scores, self._normalisation(criterion, budget))
        counts, removed, gap = exact_plan(choices, comparable, budget, blocks=blocks)
        require_one_removal(task.constraints, choices, counts)
        kept = top_units(scored.scores, {name: counts[name] for name in scored.scores if counts[name]})
        plan = plan_of(self, graph, kept, removed)
        return Outcome(
            plan=plan, history=({"removal": 1, **plan_facts(graph, counts, plan), **scored.facts, "gap": gap},)
        )

    def _batches(self, task: PruningTask, criterion: Criterion) -> Stream | None:
        if not criterion.needs_data:
            return None
        assert task.batches is not None, "require_data checked it"
        return Stream(task.batches())

    def _score(
        self, task: PruningTask, criterion: Criterion, step: Step, batches: Stream | None, others: tuple[str, ...]
    ) -> Scored:
        """Score the units of the groups that can lose some, and of `others`."""
        from pruners.importance.evidence import Evidence

        drawn = [] if batches is None else draw(batches, self.settings.batches_per_step, self.name)
        evidence = Evidence(
            model=step.model,
            graph=step.present,
            groups=(*step.left.movable, *others),
            batches=drawn,
            loss=task.loss,
            seed=task.seed,
        )
        scores = criterion.scores(evidence, self.settings.reduction)
        return Scored(scores=scores, facts={"examples_scored": sum(len(inputs) for inputs, _ in drawn)})
