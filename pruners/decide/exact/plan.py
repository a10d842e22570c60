"""Exact: the counts that keep the most importance within a predicted time, as a mixed integer program.

Constraints for products of counts (`pruners.decide.exact.program`) are added while the relaxed program's bound falls,
and then while a solution's predicted time exceeds its limit. A residual block that may be removed is a group of its own
with count 0 or 1; the groups that go with it have count 0 exactly if the block does. HiGHS solves the program to a gap
that is reported.

References
----------
Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (HALP), NeurIPS 2022, arXiv:2210.06659, with both sides
of a layer free as in Sun et al., "Multi-Dimensional Pruning", CVPR 2025, arXiv:2406.12079.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

from pruners.decide.budget import Budget, time_budget
from pruners.decide.choices import Choices
from pruners.decide.exact.program import GAP, kept_by_count, program_of
from pruners.decide.greedy import greedy_counts
from pruners.decide.latency import LatencyModel
from pruners.errors import MethodError, TargetError

__all__ = ["TIME_LIMIT_S", "ExactPlan", "exact_counts", "exact_plan", "kept_importance"]

TIME_LIMIT_S = 30.0
_TIME_IS_UP = 1
"""Status of scipy's `milp`."""
_OF_TIME_LEFT = 0.7
"""Share of the time left that one solve may take; the rest is kept in case its plan is too slow."""


class ExactPlan(NamedTuple):
    """What the solver decided.

    Parameters
    ----------
    counts : dict of str to int
        Kept count of each group; 0 for those that go with a block.
    blocks : tuple of str
        Residual blocks to remove.
    gap : float
        How much more importance a better plan could keep at most, as a share of the kept importance.
    """

    counts: dict[str, int]
    blocks: tuple[str, ...]
    gap: float


def exact_counts(
    choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget, *, max_removed: int | None = None
) -> dict[str, int]:
    """Return the counts that keep the most importance while the predicted time meets the budget.

    Parameters
    ----------
    choices : Choices
        The legal counts.
    scores : Mapping of str to sequence of float
        One number per present unit of each of ``choices.movable``, comparable between groups. Kept importance is
        their sum; negative scores count as 0.
    budget : Budget
        Limits on predicted times, all of which are met.
    max_removed : int, optional
        The most units that may be removed.

    Raises
    ------
    MethodError
        The budget is not on a predicted time.
    TargetError
        The budget cannot be reached, or not by removing at most `max_removed` units.
    """
    return exact_plan(choices, scores, budget, max_removed=max_removed).counts


def exact_plan(
    choices: Choices,
    scores: Mapping[str, Sequence[float]],
    budget: Budget,
    *,
    blocks: Collection[str] = (),
    max_removed: int | None = None,
) -> ExactPlan:
    """Return counts and removed residual blocks: depth competes with width, as in Multi-Dimensional Pruning.

    A block's importance is that of the units that go with it.

    Parameters
    ----------
    choices, scores, budget, max_removed
        As in `exact_counts`.
    blocks : collection of str
        Residual blocks that may be removed; the latency models cover them.

    Raises
    ------
    MethodError, TargetError
        As `exact_counts`.
    """
    if not budget.times:
        raise MethodError("the decision 'exact' solves targets of latency; take greedy, global, local or uniform")
    # In one of several steps the limit is a multiple of the final one.
    limits = (replace(each, limit_ns=budget.limit * each.limit_ns) for each in budget.times)
    budget = time_budget(limits, budget.whole)
    budget.require_reachable(choices, blocks)
    end = time.monotonic() + TIME_LIMIT_S
    model = budget.times[0].model
    # A group that goes only with its block (of one unit, say) is neither decided nor timed.
    known = choices.legal.keys() | model.sizes.keys()
    inside = {block: [name for name in model.blocks[block] if name in known] for block in blocks}
    legal = _with_blocks(choices, model, inside)
    program = program_of(choices, legal, scores, budget.times, inside, max_removed)
    bound = program.tighten(_OF_TIME_LEFT * TIME_LIMIT_S)
    best, kept = dict[str, int](), -1.0
    while not best or (_gap(kept, bound) > GAP and time.monotonic() < end):
        solved = program.solve(integral=True, seconds=_OF_TIME_LEFT * (end - time.monotonic()))
        if solved.x is None:
            break
        # Every product is bounded from below only, so each of these is a bound on what any plan keeps.
        bound = min(bound, -float(solved.mip_dual_bound))
        counts = {
            name: max(each, key=lambda count, name=name: solved.x[program.column[name, count]])  # type: ignore[misc]
            for name, each in legal.items()
        }
        meets = all(each.share(counts) <= 1 for each in budget.times)
        if not meets:
            program.exclude(counts, solved.x)
            counts = _smaller(choices, scores, budget, counts, [name for name in blocks if not counts[name]])
        removed = sum(size - counts.get(name, 0) for name, size in choices.whole.items())
        if counts and (max_removed is None or removed <= max_removed) and program.kept(counts) > kept:
            best, kept = counts, program.kept(counts)
        if meets:
            break
    if not best and max_removed is None:
        everything = {**choices.ceiling, **dict.fromkeys(blocks, 1)}
        none = dict.fromkeys([*blocks, *(name for names in inside.values() for name in names)], 0)
        for gone, without in (([], {}), (list(blocks), none)):
            best = best or _smaller(choices, scores, budget, {**everything, **without}, gone)
        bound, kept = min(bound, program.kept(everything)), program.kept(best)
    if not best:
        raise TargetError(
            f"no plan of at most {max_removed} removed units meets the target; allow more units in one removal"
            if max_removed is not None and solved.status != _TIME_IS_UP
            else f"the solver found no plan within {TIME_LIMIT_S:g} s: {solved.message}"
        )
    return ExactPlan(
        counts={name: best[name] for name in choices.legal},
        blocks=tuple(name for name in blocks if not best[name]),
        gap=_gap(kept, bound),
    )


def _smaller(
    choices: Choices,
    scores: Mapping[str, Sequence[float]],
    budget: Budget,
    plan: Mapping[str, int],
    gone: Sequence[str],
) -> dict[str, int]:
    """Return greedily decided counts within the budget, none above those of `plan`; empty if there are none."""
    legal = {name: tuple(c for c in each if c <= plan[name]) or each[-1:] for name, each in choices.legal.items()}
    forced = {name: size for name, size in choices.whole.items() if size != legal[name][-1]}
    left = Choices(legal, forced)
    times = time_budget(replace(each, gone={**each.gone, **each.model.without(gone)}) for each in budget.times)
    if not times.met(left.floor):
        return {}
    return {**plan, **{name: n for name, n in greedy_counts(left, scores, times).items() if plan[name]}}


def kept_importance(choices: Choices, scores: Mapping[str, Sequence[float]], counts: Mapping[str, int]) -> float:
    """Return the share of the total importance that the best units keep at these counts."""
    values = {name: kept_by_count(choices, scores, name) for name in choices.legal}
    whole = sum(float(by_count[choices.whole[name]]) for name, by_count in values.items())
    return sum(float(values[name][counts[name]]) for name in values) / whole if whole else 1.0


def _gap(kept: float, bound: float) -> float:
    missed = max(bound - kept, 0.0)
    return (missed / kept if kept else inf) if missed else 0.0


def _with_blocks(
    choices: Choices, model: LatencyModel, inside: Mapping[str, Collection[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the legal counts of all groups to decide and, as groups of 0 or 1, of the blocks that may be removed."""
    legal = dict(choices.legal)
    for block, names in inside.items():
        legal[block] = (0, 1)
        for name in names:
            legal[name] = (0, *legal.get(name, (model.sizes[name],)))
    return legal
