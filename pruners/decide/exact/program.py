"""The mixed integer program of the exact decision: variables, constraints, and the cuts that stand for products.

One binary variable stands for each legal count of each group. Where two groups meet in a layer its time grows with the
product of their numbers of blocks. Each product is a variable that linear constraints hold from below, where all of the
time pulls: with a step for each number of blocks, and ``y`` for "as many are filled", it is the sum over all pairs of
steps of their heights times ``y y'``, and that is at least 0 and at least ``y + y' - 1``. There are too many such
constraints to list, so they are added where a solution violates them.

References
----------
McCormick, "Computability of Global Solutions to Factorable Nonconvex Programs", Mathematical Programming 10, 1976 (the
two bounds of a product); Kelley, "The Cutting-Plane Method for Solving Convex Programs", SIAM Journal 8, 1960 (adding
what is violated).
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
"""Share of the kept importance by which a better plan may have been missed."""
_MARGIN, _SCALE = 1e-6, 10.0
"""Share of a limit by which the solver may be off, and of the largest product by which it may lie too low; what a limit
is to the solver, so that its own tolerance, which is 1e-6, is a tenth of the margin."""
_ROUNDS, _WORTH = 40, 1e-6
"""Times the relaxed program is solved at most, and what a round has to lower its bound by for there to be another."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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
class Program:
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


def program_of(
    choices: Choices,
    legal: Mapping[str, tuple[int, ...]],
    scores: Mapping[str, Sequence[float]],
    times: Sequence[TimeLimit],
    blocks: Mapping[str, Collection[str]],
    max_removed: int | None,
) -> Program:
    """Return the program of what may be decided; its variables are the counts of `legal`, then the products.

    Parameters
    ----------
    choices : Choices
        The groups whose units count, and the units they have.
    legal : Mapping of str to tuple of int
        Counts of each group that is decided, ascending; 0 or 1 of each block.
    scores : Mapping of str to sequence of float
        As `pruners.decide.exact.plan.exact_counts` has them.
    times : sequence of TimeLimit
        All of them are met.
    blocks : Mapping of str to collection of str
        Groups that go with each block that may go.
    max_removed : int, optional
        Units that may go at most.
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
    """Return the importance that group `name` keeps with 0, 1, ... of its units, the best ones."""
    if name not in scores:
        return np.zeros(choices.whole[name] + 1)
    best_first = np.maximum(ascending_scores(choices, scores, name)[::-1], 0)
    return np.concatenate([[0.0], np.cumsum(best_first)])
