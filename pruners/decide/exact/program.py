"""The mixed integer program of the exact decision: variables, constraints, and cuts for products of counts.

Each legal count of each group has a binary variable. If two groups meet in a layer, its time grows with the product of
their block counts. Each product is a variable that linear constraints bound from below, as the time limits only push it
down: with a step for each block count, and ``y`` for "at least this many are filled", the product is the sum over all
pairs of steps of their heights times ``y y'``, which is at least 0 and at least ``y + y' - 1``. There are too many such
constraints to list, so they are added when a solution violates them.

References
----------
McCormick, "Computability of Global Solutions to Factorable Nonconvex Programs", Mathematical Programming 10, 1976 (the
two bounds of a product); Kelley, "The Cutting-Plane Method for Solving Convex Programs", SIAM Journal 8, 1960 (adding
violated constraints).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from pruners.decide.budget import TimeLimit
from pruners.decide.choices import Choices
from pruners.decide.latency import BlockCount
from pruners.decide.moves import ascending_scores

__all__ = ["GAP", "Product", "Program", "Row", "kept_by_count", "program_of"]

GAP = 1e-3
"""Gap to solve to: how much more importance a better plan could keep, as a share of the kept importance."""
_MARGIN, _SCALE = 1e-6, 10.0
"""Share of a limit by which the solver may be off, and of the largest product by which a product may be too low; value
of a limit in the solver, so that its own tolerance, which is 1e-6, is a tenth of the margin."""
_ROUNDS, _WORTH = 40, 1e-6
"""Most times the relaxed program is solved, and how much a round must lower its bound for another to follow."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Row(NamedTuple):
    """The constraint ``least <= factors @ x[columns] <= most``."""

    columns: Integers
    factors: Floats
    least: float
    most: float


class Product(NamedTuple):
    """The variable for the product of two groups' block counts, as a share of the largest product.

    Parameters
    ----------
    column : int
        Column of the variable.
    first, second : array of int
        Columns of the counts of each group, of which one is 1 and the others are 0.
    of_first, of_second : array of float
        Block counts at these kept counts; not negative, and not all 0.
    """

    column: int
    first: Integers
    of_first: Floats
    second: Integers
    of_second: Floats

    def cut(self, x: Floats) -> Row | None:
        """Return a constraint that every plan meets and `x` does not; None if there is none.

        Each pair of steps may use either of the two bounds. The larger one at `x` is used, which gives the constraint
        that `x` violates most; if `x` is a plan, the bound is the product itself.
        """
        steps, place = np.unique(self.of_first, return_inverse=True)
        others, other_place = np.unique(self.of_second, return_inverse=True)
        filled, others_filled = (
            np.bincount(where, x[columns])[::-1].cumsum()[::-1]
            for where, columns in ((place, self.first), (other_place, self.second))
        )
        # How many steps of the second each step of the first is paired with: both only fall, so these are the lowest.
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
class Program:
    """Maximise ``value @ x`` under `rows` and ``0 <= x <= 1``; the first variables are those of `column`, integers."""

    value: Floats
    column: Mapping[tuple[str, int], int]
    products: Sequence[Product]
    rows: list[Row]

    def solve(self, *, integral: bool, seconds: float) -> Any:
        """Return the solution by `scipy.optimize.milp`, of the program or of its relaxation."""
        at = np.repeat(np.arange(len(self.rows)), [len(row.columns) for row in self.rows])
        to, factors = (np.concatenate([row[part] for row in self.rows]) for part in (0, 1))
        matrix = csr_array((factors, (at, to)), shape=(len(self.rows), len(self.value)))
        return milp(
            -self.value,
            constraints=LinearConstraint(matrix, [row.least for row in self.rows], [row.most for row in self.rows]),
            integrality=np.arange(len(self.value)) < len(self.column) if integral else None,
            bounds=Bounds(0, 1),
            # With presolve, the bound of a mixed integer program has been exceeded by a plan (SciPy 1.17).
            options={"time_limit": max(seconds, 0.0), "mip_rel_gap": GAP, "presolve": not integral},
        )

    def tighten(self, seconds: float) -> float:
        """Cut off solutions of the relaxed program while its bound falls, and return the bound."""
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
        """Return the importance that a plan keeps."""
        return sum(float(self.value[self.column[choice]]) for choice in counts.items())

    def exclude(self, counts: Mapping[str, int], x: Floats) -> None:
        """Cut off a solution whose plan exceeds a time limit."""
        columns = np.array([self.column[choice] for choice in counts.items()])
        plan = x.copy()
        plan[: len(self.column)] = 0.0
        plan[columns] = 1.0
        # If its products are right up to rounding, only the plan itself can be excluded.
        self.rows.extend(self._cuts(plan) or [Row(columns, np.ones(len(columns)), -inf, len(columns) - 1.0)])

    def _cuts(self, x: Floats) -> list[Row]:
        return [cut for product in self.products if (cut := product.cut(x)) is not None]


def program_of(
    choices: Choices,
    legal: Mapping[str, tuple[int, ...]],
    scores: Mapping[str, Sequence[float]],
    times: Sequence[TimeLimit],
    blocks: Mapping[str, Collection[str]],
    max_removed: int | None,
) -> Program:
    """Return the program; its variables are the counts of `legal`, then the products.

    Parameters
    ----------
    choices : Choices
        The groups whose units count, and their sizes.
    legal : Mapping of str to tuple of int
        Legal counts of each group to decide, ascending; 0 and 1 for each block.
    scores : Mapping of str to sequence of float
        As in `pruners.decide.exact.plan.exact_counts`.
    times : sequence of TimeLimit
        Limits, all of which are met.
    blocks : Mapping of str to collection of str
        Groups that go with each block that may be removed.
    max_removed : int, optional
        The most units that may be removed.
    """
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
        """Return the variable of this product, shared by all limits; None if it is 0 in every plan."""
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
        # Nanoseconds as a share of the limit, so that the solver sees numbers of similar size.
        row = {index: _SCALE * ns / limit.limit_ns for index, ns in costs.items() if ns}
        entries.append((row, -inf, _SCALE * (1 - _MARGIN - constant / limit.limit_ns)))
    if max_removed is not None:
        whole = choices.whole
        removed = {at: float(whole[name] - count) for (name, count), at in column.items() if count < whole.get(name, 0)}
        entries.append((removed, -inf, float(max_removed)))
    variables = [product for product in products.values() if product is not None]
    value = np.zeros(len(column) + len(variables))
    for name in choices.legal:
        kept = kept_by_count(choices, scores, name)
        for count in legal[name]:
            value[column[name, count]] = kept[count]
    total = sum(value[column[name, counts[-1]]] for name, counts in choices.legal.items())
    return Program(
        value=value / total if total else value,
        column=column,
        products=variables,
        rows=[
            Row(np.array(list(row), np.int64), np.array(list(row.values()), np.float64), least, most)
            for row, least, most in entries
        ],
    )


def kept_by_count(choices: Choices, scores: Mapping[str, Sequence[float]], name: str) -> Floats:
    """Return the importance that group `name` keeps with its best 0, 1, ... units."""
    if name not in scores:
        return np.zeros(choices.whole[name] + 1)
    best_first = np.maximum(ascending_scores(choices, scores, name)[::-1], 0)
    return np.concatenate([[0.0], np.cumsum(best_first)])
