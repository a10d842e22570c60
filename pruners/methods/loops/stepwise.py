"""Shared loop of iterative methods: score, remove a little, fine-tune a little, until the target is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from pruners.base import Method, Outcome, key_of
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.goal import goal_of, removal_limit
from pruners.decide.units import top_units
from pruners.errors import MethodError, NothingToPruneError
from pruners.importance.scores import Scores
from pruners.task import Removals, Stream

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruners.graph import Graph
    from pruners.plan import PruningPlan
    from pruners.task import PruningTask

__all__ = ["Schedule", "Scored", "Step", "draw", "prune_in_steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How many removals there are, and how much each takes.

    Parameters
    ----------
    steps : int
        Removals, each taking an equal share of what must be removed.
    units_per_step : int or None
        Remove at most this many units each time instead, for as many steps as that takes.
    updates_between : int
        Fine-tuning updates after each removal.
    """

    steps: int
    units_per_step: int | None = None
    updates_between: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """Input of the decision on one removal.

    Parameters
    ----------
    number : int
        Of the removal, from 1.
    model : Module
        The current network.
    present : Graph
        Its trace.
    dense : Graph
        Trace of the task's network.
    left : Choices
        What may still be decided; scores are needed for ``left.movable``.
    counts : Mapping of str to int
        Current number of units of each group.
    """

    number: int
    model: nn.Module
    present: Graph
    dense: Graph
    left: Choices
    counts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores, and what they were computed from.

    Parameters
    ----------
    scores : dict of str to tuple of float
        One number per current unit; they decide which units of a group stay.
    facts : Mapping
        History entries about them, JSON values.
    """

    scores: Scores
    facts: Mapping[str, Any] = field(default_factory=dict)


def prune_in_steps(
    method: Method,
    task: PruningTask,
    graph: Graph,
    schedule: Schedule,
    score: Callable[[Step], Scored],
    decide: Callable[[Step, Scores, Budget, int | None], dict[str, int]],
    *,
    batches: Stream | None,
    train_before: Callable[[Step], nn.Module] | None = None,
) -> Outcome:
    """Remove and fine-tune until the target is met.

    The history has a row for each removal: ``removal`` (from 1), ``units_removed``, ``units_left`` (of the groups that
    may be pruned), ``macs``, ``parameters`` (both after it), and the ``facts`` of the scores. Under
    ``torch.distributed`` every process follows the plans of process 0. With ``task.keeper`` it resumes after the last
    saved removal.

    Parameters
    ----------
    method, task, graph
        As in `Method._decide`.
    schedule : Schedule
        How many removals there are, and how large.
    score : callable
        ``score(step)``: scores of the groups in ``step.left.movable``.
    decide : callable
        ``decide(step, scores, budget, max_units)``: kept count of each group in ``step.left``.
    batches : Stream or None
        What `score` draws from.
    train_before : callable, optional
        ``train_before(step)``: a trained copy of ``step.model``, which is scored and cut in its place. Every cut of
        such a copy is verified; it may pass because what is removed has no effect, the aim of that training.

    Raises
    ------
    SelectorError, TargetError, NothingToPruneError
        The target or the constraints name unknown layers, cannot be met, or leave nothing to remove.
    """
    from pruners.methods.loops.cutting import cut, retrace

    choices, budget = goal_of(task.target, task.constraints, graph)
    budget.require_reachable(choices)
    limits_of_units = (schedule.units_per_step, removal_limit(task.constraints, choices))
    most = min((n for n in limits_of_units if n is not None), default=None)
    model, present = task.model, graph
    counts = choices.whole
    if choices.allow(counts) and budget.met(counts):
        raise NothingToPruneError("the whole network is predicted to be as fast as the target asks for: ask for more")
    plan: PruningPlan | None = None
    history: list[Mapping[str, Any]] = []
    key, place = "", 0
    if task.keeper is not None:
        key = key_of(method, task)
        if (earlier := task.keeper.last(key, task)) is not None:
            model, plan, place, history = (
                earlier.model,
                earlier.plan,
                earlier.place,
                list(earlier.history),
            )
            counts = {**counts, **{name: len(units) for name, units in plan.kept.items()}}
            if batches is not None:
                batches.skip_to(earlier.drawn)
    for number, limit in enumerate(_limits(budget, schedule), start=1):
        if number <= place:
            continue
        if choices.allow(counts) and budget.met(counts):
            break
        if choices.allow(counts) and budget.cost(counts) <= limit:
            continue
        if plan is not None:
            present = retrace(task, graph, model, plan)
        before = counts
        step = Step(
            number=len(history) + 1,
            model=model,
            present=present,
            dense=graph,
            left=choices.left(counts).at_least(_joined(counts, present)),
            counts=before,
        )
        if train_before is not None:
            model = train_before(step)
            present = retrace(task, graph, model, plan)
            step = replace(step, model=model, present=present)
        scored = score(step)
        wanted = decide(step, scored.scores, replace(budget, limit=limit), most)
        kept = top_units(scored.scores, {name: wanted[name] for name in scored.scores})
        removal = cut(method, task, present, model, kept, check=train_before is not None)
        counts = {**before, **{name: len(units) for name, units in removal.plan.kept.items()}}
        model = removal.model
        plan = removal.plan if plan is None else plan.then(removal.plan)
        if schedule.updates_between:
            assert task.train is not None, "the base class checked it"
            task.train(model, schedule.updates_between)
        history.append({**_row(step.number, before, counts, graph), **scored.facts})
        if task.keeper is not None:
            drawn = 0 if batches is None else batches.drawn
            removals = Removals(place=number, plan=plan, model=model, history=tuple(history), drawn=drawn)
            task.keeper.keep(key, removals)
        if task.progress is not None:
            done = (budget.dense - budget.cost(counts)) / (budget.dense - budget.limit)
            of = f"/{schedule.steps}" if schedule.units_per_step is None else ""
            gone = 1 - history[-1]["macs"] / graph.macs()
            task.progress(f"removal {len(history)}{of}, {100 * gone:.0f} % of FLOPs gone", min(1.0, done))
    assert plan is not None, "a limit below the dense cost takes at least one removal"
    return Outcome(plan=plan, model=model, history=tuple(history))


def draw(batches: Iterator[tuple[Tensor, Tensor]], wanted: int, who: str) -> list[tuple[Tensor, Tensor]]:
    """Take the next `wanted` of the task's batches.

    Raises
    ------
    MethodError
        The batches ended.
    """
    drawn = list(islice(batches, wanted))
    if len(drawn) < wanted:
        raise MethodError(f"method {who!r}: the task's batches ended; they have to go on without end")
    return drawn


def _joined(counts: Mapping[str, int], present: Graph) -> dict[str, int]:
    """Return the counts of groups that are no longer separate groups: they stay as they are."""
    own = {group.name for group in present.groups}
    return {name: count for name, count in counts.items() if name not in own}


def _limits(budget: Budget, schedule: Schedule) -> Iterator[float]:
    """Yield the cost limit after each removal; the last limit repeats endlessly."""
    if schedule.units_per_step is None:
        for step in range(1, schedule.steps):
            yield budget.dense - (budget.dense - budget.limit) * step / schedule.steps
    yield from repeat(budget.limit)


def _row(number: int, before: Mapping[str, int], counts: Mapping[str, int], graph: Graph) -> Mapping[str, Any]:
    left = sum(counts.values())
    return {
        "removal": number,
        "units_removed": sum(before.values()) - left,
        "units_left": left,
        "macs": graph.macs(counts),
        "parameters": graph.parameters(counts),
    }
