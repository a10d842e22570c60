"""Turn a target and its constraints into legal choices, a budget, and a limit on one removal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Protocol

import numpy as np

from pruners.decide.budget import Budget, TimeLimit, time_budget
from pruners.decide.choices import Choices, choices_of
from pruners.decide.counts import ratio_counts
from pruners.decide.latency import BlockCount
from pruners.errors import TargetError
from pruners.groups import ChannelGroup
from pruners.target import Constraints, Target

__all__ = ["Costed", "budget_of", "fast_choices", "goal_of", "removal_limit", "require_one_removal"]


class Costed(Protocol):
    """A network whose costs are known for any kept counts and removed blocks, such as `pruners.graph.Graph`."""

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """All channel groups."""

    @property
    def whole(self) -> Mapping[str, str]:
        """Layers that lose no channel of their own, and why; the largest first."""

    def macs(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Multiply-accumulates for one example."""

    def parameters(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Elements of all parameters."""

    def weight_bytes(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Bytes of all parameters and buffers."""

    def activation_bytes(self, kept: Mapping[str, int] | None = None, blocks: Collection[str] = ()) -> int:
        """Bytes of the outputs of convolutions, linear layers and matrix products, for one example."""


def budget_of(target: Target, graph: Costed, blocks: Collection[str] = ()) -> Budget:
    """Return the budget of a target that is a share of a cost, for the network without some residual blocks.

    Raises
    ------
    TargetError
        The target gives ratios, which have no budget; or its latency table is for another network, or does not cover
        the network without these blocks.
    """
    if target.table is not None:
        return _time_budget(target, graph, blocks)
    match target.of:
        case "flops" | "macs":
            cost = graph.macs
        case "params":
            cost = graph.parameters
        case "weight_bytes":
            cost = graph.weight_bytes
        case "activation_bytes":
            cost = graph.activation_bytes
        case "ratios" | "latency":
            raise TargetError("a target of ratios has no budget; its counts are given")
    dense = cost()
    without = partial(cost, blocks=blocks) if blocks else cost
    return Budget(cost=without, limit=target.kept_fraction * dense, of=target.of, dense_cost=dense, whole=graph.whole)


def _time_budget(target: Target, graph: Costed, blocks: Collection[str]) -> Budget:
    sizes = {group.name: group.n_units for group in graph.groups}
    times = []
    for each in (target, *target.also):
        table = each.table
        assert table is not None
        groups = {name: size for name, size in table.sizes.items() if name not in table.blocks}
        unknown = next((name for name, size in groups.items() if sizes.get(name) != size), None)
        if unknown is not None:
            raise TargetError(
                f"the latency table is of another network: it has a group {unknown!r} of {table.sizes[unknown]}"
            )
        if not set(blocks) <= set(table.blocks):
            raise TargetError(
                "the latency table knows no network without some of its residual blocks: build it with blocks, or "
                "prune channels alone"
            )
        dense_ns = each.dense_ns or table.time_ns()
        times.append(TimeLimit(table, each.kept_fraction * dense_ns, dense_ns, gone=table.without(blocks)))
    return time_budget(times, graph.whole)


def fast_choices(choices: Choices, budget: Budget) -> Choices:
    """Return the choices without counts that are slower than a larger one, whatever the other groups keep.

    If channels off a multiple run in a slower kernel, 17 of them take longer than 32. A budget of another cost keeps
    all counts.

    Raises
    ------
    TargetError
        A latency table does not know a group with several counts: in its predictions that takes no time.
    """
    for limit in budget.times:
        if (lacking := next((name for name in choices.movable if name not in limit.model.sizes), None)) is not None:
            raise TargetError(
                f"the latency table has no group {lacking!r}, which may lose units: it is of another network, or made "
                "with other outputs or attention; build it again, or exclude the group"
            )
    factors: dict[str, set[tuple[BlockCount, int]]] = {}
    for limit in budget.times:
        for factor in (factor for term in limit.model.terms for factor in term.factors):
            factors.setdefault(factor.group, set()).add((factor, limit.model.block))
    legal = dict(choices.legal)
    for name, counts in choices.legal.items():
        # Without `off`, block counts never fall as a count grows.
        if any(factor.off for factor, _ in factors.get(name, ())):
            filled = np.array([[factor(count, block) for factor, block in factors[name]] for count in counts])
            slower = [
                bool(((filled[at + 1 :] <= filled[at]).all(1) & (filled[at + 1 :] < filled[at]).any(1)).any())
                for at in range(len(counts))
            ]
            legal[name] = tuple(count for count, slow in zip(counts, slower, strict=True) if not slow)
    return Choices(legal, choices.forced)


def goal_of(target: Target, constraints: Constraints, graph: Costed) -> tuple[Choices, Budget]:
    """Return the legal choices and the budget.

    For a speed target, counts that are slower than larger ones are left out (`fast_choices`). Ratios become a budget
    in units with each group's own count as its floor, so that a method that removes step by step ends there too.

    Raises
    ------
    SelectorError, TargetError, NothingToPruneError
        As `choices_of` and `ratio_counts`.
    """
    choices = choices_of(graph.groups, constraints)
    if target.of != "ratios":
        budget = budget_of(target, graph)
        return fast_choices(choices, budget), budget
    final = ratio_counts(choices, graph.groups, target.ratios)
    whole = choices.whole

    def units_left(counts: Mapping[str, int]) -> int:
        return sum((whole | dict(counts)).values())

    return choices.at_least(final), Budget(cost=units_left, limit=sum(final.values()), of="units")


def removal_limit(constraints: Constraints, choices: Choices) -> int | None:
    """Return how many units one removal may take from the free groups in `choices`; None if unlimited.

    The smaller of ``max_units_per_step`` and the rounded-down ``max_fraction_per_step`` of all their units, at least 1.
    """
    limits = []
    if constraints.max_units_per_step is not None:
        limits.append(constraints.max_units_per_step)
    if constraints.max_fraction_per_step is not None:
        limits.append(max(1, int(constraints.max_fraction_per_step * sum(choices.whole.values()) + 1e-9)))
    return min(limits, default=None)


def require_one_removal(constraints: Constraints, choices: Choices, counts: Mapping[str, int]) -> None:
    """Check that a method that prunes only once may reach `counts` in one step.

    Raises
    ------
    TargetError
        The constraints allow fewer units in one removal.
    """
    limit = removal_limit(constraints, choices)
    whole = choices.whole
    removed = sum(size - counts.get(name, size) for name, size in whole.items())
    if limit is not None and removed > limit:
        raise TargetError(
            f"the target takes {removed} units at once, but max_units_per_step or max_fraction_per_step allow {limit}: "
            "take a method that removes in steps, or loosen them"
        )
