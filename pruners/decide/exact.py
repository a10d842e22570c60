"""Exact: the counts that keep the most importance within a predicted time, as a mixed integer program.

One binary variable stands for each legal count of each group. Where two groups meet in a layer its time grows with the
product of their numbers of blocks. Each product is a variable that linear constraints hold from below, where all of the
time pulls: with a step for each number of blocks, and ``y`` for "as many are filled", it is the sum over all pairs of
steps of their heights times ``y y'``, and that is at least 0 and at least ``y + y' - 1``. There are too many such
constraints to list, so they are added where a solution violates them: while the relaxed program's bound falls, and then
while a solution is predicted to take longer than it may. A residual block that may go is a group of its own, of 0 or 1;
those that go with it may have the count 0, and have it exactly where the block does. HiGHS solves the program to a gap
that is reported.

References
----------
Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (HALP), NeurIPS 2022, arXiv:2210.06659, with both sides
of a layer free as in Sun et al., "Multi-Dimensional Pruning", CVPR 2025, arXiv:2406.12079; McCormick, "Computability of
Global Solutions to Factorable Nonconvex Programs", Mathematical Programming 10, 1976 (the two bounds of a product);
Kelley, "The Cutting-Plane Method for Solving Convex Programs", SIAM Journal 8, 1960 (adding what is violated).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from pruners.decide.budget import Budget, TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.greedy import greedy_counts
from pruners.decide.latency import BlockCount, LatencyModel
from pruners.decide.moves import ascending_scores
from pruners.errors import MethodError, TargetError

__all__ = ["GAP", "TIME_LIMIT_S", "ExactPlan", "Product", "Row", "exact_counts", "exact_plan", "kept_importance"]

GAP = 1e-3
"""Share of the kept importance by which a better plan may have been missed."""
TIME_LIMIT_S = 30.0
_MARGIN, _SCALE = 1e-6, 10.0
"""Share of a limit by which the solver may be off, and of the largest product by which it may lie too low; what a limit
is to the solver, so that its own tolerance, which is 1e-6, is a tenth of the margin."""
_ROUNDS, _WORTH = 40, 1e-6
"""Times the relaxed program is solved at most, and what a round has to lower its bound by for there to be another."""
_TIME_IS_UP = 1
"""Status of scipy's `milp`."""
_OF_TIME_LEFT = 0.7
"""Share of the time left that one solution may take: what it leaves is for the case that it is too slow."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class ExactPlan(NamedTuple):
    """What the solver decided.

    Parameters
    ----------
    counts : dict of str to int
        Of each group; 0 of those that go with a block.
    blocks : tuple of str
        Residual blocks that go.
    gap : float
        Share of the kept importance by which a better plan may have been missed.
    """

    counts: dict[str, int]
    blocks: tuple[str, ...]
    gap: float


def exact_counts(
    choices: Choices, scores: Mapping[str, Sequence[float]], budget: Budget, *, max_removed: int | None = None
) -> dict[str, int]:
    """Return the counts of the highest kept importance whose predicted time meets the budget.

    Parameters
    ----------
    choices : Choices
        What may be decided.
    scores : Mapping of str to sequence of float
        One number per present unit of each of ``choices.movable``, comparable between groups. Importance kept is
        their sum; negative ones count as 0.
    budget : Budget
        Of predicted times, all of which are met.
    max_removed : int, optional
        Units that may go at most.

    Raises
    ------
    MethodError
        The budget is not one of a latency model.
    TargetError
        It cannot be reached, or not by `max_removed` units.
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

    What a block is worth is the importance of the units that go with it.

    Parameters
    ----------
    choices, scores, budget, max_removed
        As `exact_counts` has them.
    blocks : collection of str
        Residual blocks that may go; the latency models know them.

    Raises
    ------
    MethodError, TargetError
        As `exact_counts`.
    """
    if not budget.times:
        raise MethodError("the decision 'exact' solves targets of latency; take greedy, global, local or uniform")
    budget.require_reachable(choices, blocks)
    end = time.monotonic() + TIME_LIMIT_S
    model = budget.times[0].model
    legal = _with_blocks(choices, model, blocks)
    program = _program(choices, legal, scores, budget.times, {name: model.blocks[name] for name in blocks}, max_removed)
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
    """Return counts within the budget, none above those of `plan`, decided greedily; empty where there are none."""
    legal = {name: tuple(c for c in each if c <= plan[name]) or each[-1:] for name, each in choices.legal.items()}
    forced = {name: size for name, size in choices.whole.items() if size != legal[name][-1]}
    left = Choices(legal, forced)
    times = time_budget(replace(each, gone={**each.gone, **each.model.without(gone)}) for each in budget.times)
    if not times.met(left.floor):
        return {}
    return {**plan, **{name: n for name, n in greedy_counts(left, scores, times).items() if plan[name]}}


def kept_importance(choices: Choices, scores: Mapping[str, Sequence[float]], counts: Mapping[str, int]) -> float:
    """Return the share of all importance that the best units keep at these counts."""
    values = {name: _values(choices, scores, name) for name in choices.legal}
    whole = sum(float(by_count[choices.whole[name]]) for name, by_count in values.items())
    return sum(float(values[name][counts[name]]) for name in values) / whole if whole else 1.0


def _gap(kept: float, bound: float) -> float:
    missed = max(bound - kept, 0.0)
    return (missed / kept if kept else inf) if missed else 0.0


class Row(NamedTuple):
    """The constraint ``least <= factors @ x[columns] <= most``."""

    columns: Integers
    factors: Floats
    least: float
    most: float


class Product(NamedTuple):
    """The variable that is the product of two groups' numbers of blocks, as a share of the largest one.

    Parameters
    ----------
    column : int
        Of the variable.
    first, second : array of int
        Columns of the counts of each group, of which one is 1 and the others are 0.
    of_first, of_second : array of float
        Numbers of blocks of these counts; not negative, nor all 0.
    """

    column: int
    first: Integers
    of_first: Floats
    second: Integers
    of_second: Floats

    def cut(self, x: Floats) -> Row | None:
        """Return a constraint that every plan meets and `x` does not; None where there is none.

        Any of the two bounds may be taken of each pair of steps. Here it is the larger one at `x`, which makes it the
        constraint that `x` violates most; where `x` is a plan it is the product itself.
        """
        steps, place = np.unique(self.of_first, return_inverse=True)
        others, other_place = np.unique(self.of_second, return_inverse=True)
        filled, others_filled = (
            np.bincount(where, x[columns])[::-1].cumsum()[::-1]
            for where, columns in ((place, self.first), (other_place, self.second))
        )
        # Of each step of the first, how many of the second it is taken with: both only fall, so they are the lowest.
        # Every plan fills the lowest step of both.
        taken = len(others) - np.searchsorted(others_filled[::-1], 1 + _MARGIN - filled, side="right")
        taken = np.maximum.accumulate(np.maximum(taken, 1)[::-1])[::-1]
        taken[0] = len(others)
        with_other = len(steps) - np.searchsorted(taken[::-1], np.arange(len(others)), side="right")
        largest = steps[-1] * others[-1]
        heights = np.diff(steps, prepend=0.0) * others[taken - 1] / largest
        other_heights = np.diff(others, prepend=0.0) * steps[with_other - 1] / largest
        factors, other_factors = heights.cumsum()[place], other_heights.cumsum()[other_place]
        total = float(heights.sum())
        least = factors @ x[self.first] + other_factors @ x[self.second] - total
        if least - x[self.column] <= _MARGIN:
            return None
        columns = np.concatenate([[self.column], self.first, self.second])
        return Row(columns, np.concatenate([[1.0], -factors, -other_factors]), -total, inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """Maximise ``value @ x`` under `rows` and ``0 <= x <= 1``; the first variables are those of `column`, integers."""

    value: Floats
    column: Mapping[tuple[str, int], int]
    products: Sequence[Product]
    rows: list[Row]

    def solve(self, *, integral: bool, seconds: float) -> Any:
        """Return the solution of `scipy.optimize.milp`, or that of the relaxed program."""
        at = np.repeat(np.arange(len(self.rows)), [len(row.columns) for row in self.rows])
        to, factors = (np.concatenate([row[part] for row in self.rows]) for part in (0, 1))
        matrix = csr_array((factors, (at, to)), shape=(len(self.rows), len(self.value)))
        return milp(
            -self.value,
            constraints=LinearConstraint(matrix, [row.least for row in self.rows], [row.most for row in self.rows]),
            integrality=np.arange(len(self.value)) < len(self.column) if integral else None,
            bounds=Bounds(0, 1),
            # Presolved, the bound of a mixed program has been one that a plan exceeds (SciPy 1.17).
            options={"time_limit": max(seconds, 0.0), "mip_rel_gap": GAP, "presolve": not integral},
        )

    def tighten(self, seconds: float) -> float:
        """Cut off solutions of the relaxed program while its bound falls, and return that."""
        bound, end = inf, time.monotonic() + seconds
        for _ in range(_ROUNDS):
            relaxed = self.solve(integral=False, seconds=end - time.monotonic())
            if relaxed.status != 0:
                break
            cuts = self._cuts(np.maximum(relaxed.x, 0.0))
            falls, bound = bound + relaxed.fun > _WORTH, -float(relaxed.fun)
            if not falls or not cuts:
                break
            self.rows.extend(cuts)
        return bound

    def kept(self, counts: Mapping[str, int]) -> float:
        """Return what a plan keeps."""
        return sum(float(self.value[self.column[choice]]) for choice in counts.items())

    def exclude(self, counts: Mapping[str, int], x: Floats) -> None:
        """Cut off a solution whose plan takes longer than it may."""
        columns = np.array([self.column[choice] for choice in counts.items()])
        plan = x.copy()
        plan[: len(self.column)] = 0.0
        plan[columns] = 1.0
        # Where its products are right but for rounding, the plan itself is all that can be excluded.
        self.rows.extend(self._cuts(plan) or [Row(columns, np.ones(len(columns)), -inf, len(columns) - 1.0)])

    def _cuts(self, x: Floats) -> list[Row]:
        return [cut for product in self.products if (cut := product.cut(x)) is not None]


def _values(choices: Choices, scores: Mapping[str, Sequence[float]], name: str) -> Floats:
    """Return the importance that group `name` keeps with 0, 1, ... of its units, the best ones."""
    if name not in scores:
        return np.zeros(choices.whole[name] + 1)
    best_first = np.maximum(ascending_scores(choices, scores, name)[::-1], 0)
    return np.concatenate([[0.0], np.cumsum(best_first)])


def _with_blocks(choices: Choices, model: LatencyModel, blocks: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the legal counts of all groups that are decided and, as groups of 0 or 1, of the blocks that may go."""
    legal = dict(choices.legal)
    for block in blocks:
        legal[block] = (0, 1)
        for name in model.blocks[block]:
            legal[name] = (0, *legal.get(name, (model.sizes[name],)))
    return legal


def _program(
    choices: Choices,
    legal: Mapping[str, tuple[int, ...]],
    scores: Mapping[str, Sequence[float]],
    times: Sequence[TimeLimit],
    blocks: Mapping[str, Collection[str]],
    max_removed: int | None,
) -> _Program:
    column: dict[tuple[str, int], int] = {}
    for name, counts in legal.items():
        for count in counts:
            column[name, count] = len(column)
    entries: list[tuple[dict[int, float], float, float]] = [
        ({column[name, count]: 1.0 for count in counts}, 1.0, 1.0) for name, counts in legal.items()
    ]
    for block, names in blocks.items():
        entries += [({column[block, 0]: 1.0, column[name, 0]: -1.0}, 0.0, 0.0) for name in names]
    products: dict[tuple[BlockCount, BlockCount, int], Product | None] = {}

    def product_of(first: BlockCount, second: BlockCount, block: int) -> Product | None:
        """Return the one variable of this product, of whatever limits; None where no plan has any of it."""
        if (first, second, block) not in products:
            of_first, of_second = (np.array([float(f(n, block)) for n in legal[f.group]]) for f in (first, second))
            index = len(column) + sum(each is not None for each in products.values())
            at_first, at_second = (np.array([column[f.group, n] for n in legal[f.group]]) for f in (first, second))
            product = Product(index, at_first, of_first, at_second, of_second)
            products[first, second, block] = product if of_first.any() and of_second.any() else None
        return products[first, second, block]

    for limit in times:
        model, costs, constant = limit.model, defaultdict[int, float](float), limit.model.base_ns
        fixed = {**model.sizes, **{name: counts[0] for name, counts in legal.items() if len(counts) == 1}, **limit.gone}
        for term in model.terms:
            factor, free = term.ns, []
            for each in term.factors:
                if len(legal.get(each.group, ())) > 1 and each.group not in limit.gone:
                    free.append(each)
                else:
                    factor *= each(fixed[each.group], model.block)
            if not free:
                constant += factor
            elif len({each.group for each in free}) == 1:
                name = free[0].group
                for count in legal[name]:
                    costs[column[name, count]] += factor * prod(each(count, model.block) for each in free)
            else:
                first, second = sorted(free, key=lambda each: (each.group, each.width, each.off))
                if (product := product_of(first, second, model.block)) is not None:
                    costs[product.column] += factor * float(product.of_first.max() * product.of_second.max())
        # Nanoseconds as a share of the limit, so that the solver has numbers of one size.
        row = {index: _SCALE * ns / limit.limit_ns for index, ns in costs.items() if ns}
        entries.append((row, -inf, _SCALE * (1 - _MARGIN - constant / limit.limit_ns)))
    if max_removed is not None:
        whole = choices.whole
        removed = {at: float(whole[name] - count) for (name, count), at in column.items() if count < whole.get(name, 0)}
        entries.append((removed, -inf, float(max_removed)))
    variables = [product for product in products.values() if product is not None]
    value = np.zeros(len(column) + len(variables))
    for name in choices.legal:
        kept = _values(choices, scores, name)
        for count in legal[name]:
            value[column[name, count]] = kept[count]
    total = sum(value[column[name, counts[-1]]] for name, counts in choices.legal.items())
    return _Program(
        value=value / total if total else value,
        column=column,
        products=variables,
        rows=[
            Row(np.array(list(row), np.int64), np.array(list(row.values()), np.float64), least, most)
            for row, least, most in entries
        ],
    )
