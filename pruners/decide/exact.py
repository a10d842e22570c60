"""Exact: the counts that keep the most importance within a predicted time, as a mixed integer program.

One binary variable stands for each legal count of each group. Where two groups meet in a layer its time grows with the
product of their numbers of blocks; the product of the first number and each binary of the second is a variable that
linear constraints tie to both. A residual block that may go is a group of its own, of 0 or 1; those that go with it may
have the count 0, and have it exactly where the block does. HiGHS solves the program to a gap that is reported.

References
----------
Shen et al., "Structural Pruning via Latency-Saliency Knapsack" (HALP), NeurIPS 2022, arXiv:2210.06659, with both sides
of a layer free as in Sun et al., "Multi-Dimensional Pruning", CVPR 2025, arXiv:2406.12079.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from pruners.decide.budget import Budget, TimeLimit
from pruners.decide.choices import Choices
from pruners.decide.latency import BlockCount, LatencyModel
from pruners.decide.moves import ascending_scores
from pruners.errors import MethodError, TargetError

__all__ = ["GAP", "TIME_LIMIT_S", "ExactPlan", "exact_counts", "exact_plan", "kept_importance"]

GAP = 1e-3
"""Share of the kept importance by which a better plan may have been missed."""
TIME_LIMIT_S = 30.0
_MARGIN = 1e-6
"""Share of a limit by which the solver may be off."""

Floats = NDArray[np.float64]


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
    model = budget.times[0].model
    legal = _with_blocks(choices, model, blocks)
    together = {block: model.blocks[block] for block in blocks}
    program = _program(choices, legal, scores, budget.times, together, max_removed)
    solved = milp(
        -program.value,
        constraints=LinearConstraint(program.matrix, program.least, program.most),
        integrality=program.integral,
        bounds=Bounds(0, program.upper),
        options={"time_limit": TIME_LIMIT_S, "mip_rel_gap": GAP},
    )
    if solved.x is None:
        raise TargetError(
            f"no plan of at most {max_removed} removed units meets the target; allow more units in one removal"
            if max_removed is not None
            else f"the solver found no plan within {TIME_LIMIT_S:g} s: {solved.message}"
        )
    counts = {
        name: max(each, key=lambda count, name=name: solved.x[program.column[name, count]])  # type: ignore[misc]
        for name, each in legal.items()
    }
    return ExactPlan(
        counts={name: counts[name] for name in choices.legal},
        blocks=tuple(name for name in blocks if not counts[name]),
        gap=float(solved.mip_gap),
    )


def kept_importance(choices: Choices, scores: Mapping[str, Sequence[float]], counts: Mapping[str, int]) -> float:
    """Return the share of all importance that the best units keep at these counts."""
    values = {name: _values(choices, scores, name) for name in choices.legal}
    whole = sum(float(by_count[choices.whole[name]]) for name, by_count in values.items())
    return sum(float(values[name][counts[name]]) for name in values) / whole if whole else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """Maximise ``value @ x`` under ``least <= matrix @ x <= most``, ``0 <= x <= upper``."""

    value: Floats
    matrix: csr_array
    least: Floats
    most: Floats
    upper: Floats
    integral: Floats
    column: Mapping[tuple[str, int], int]


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
    n_counts = len(column)
    rows: list[tuple[dict[int, float], float, float]] = []
    for name, counts in legal.items():
        rows.append(({column[name, count]: 1.0 for count in counts}, 1.0, 1.0))
    for block, names in blocks.items():
        rows += [({column[block, 0]: 1.0, column[name, 0]: -1.0}, 0.0, 0.0) for name in names]
    upper = [1.0] * n_counts
    known: dict[tuple[BlockCount, str, int], dict[int, int]] = {}

    def products(first: BlockCount, second: str, block: int) -> dict[int, int]:
        """Return for each count of the second group the variable that is the blocks of the first there, else 0."""
        if (first, second, block) not in known:
            number = {count: float(first(count, block)) for count in legal[first.group]}
            of_count = {count: len(upper) + i for i, count in enumerate(legal[second])}
            known[first, second, block] = of_count
            most, least = max(number.values()), min(number.values())
            upper.extend([most] * len(of_count))
            split = dict.fromkeys(of_count.values(), 1.0)
            rows.append((split | {column[first.group, count]: -n for count, n in number.items()}, 0.0, 0.0))
            for count, index in of_count.items():
                rows.append(({index: 1.0, column[second, count]: -most}, -np.inf, 0.0))
                rows.append(({index: 1.0, column[second, count]: -least}, 0.0, np.inf))
        return known[first, second, block]

    for limit in times:
        model, costs, constant = limit.model, defaultdict[int, float](float), limit.model.base_ns
        for term in model.terms:
            factor, free = term.ns, []
            for each in term.factors:
                if each.group in legal:
                    free.append(each)
                else:
                    factor *= each(model.sizes[each.group], model.block)
            if not free:
                constant += factor
            elif len({each.group for each in free}) == 1:
                name = free[0].group
                for count in legal[name]:
                    costs[column[name, count]] += factor * prod(each(count, model.block) for each in free)
            else:
                first, second = sorted(free, key=lambda each: -len(legal[each.group]))
                for count, index in products(first, second.group, model.block).items():
                    costs[index] += factor * second(count, model.block)
        # Nanoseconds as a share of the limit: numbers of one size for the solver.
        row = {index: ns / limit.limit_ns for index, ns in costs.items() if ns}
        rows.append((row, -np.inf, 1 - _MARGIN - constant / limit.limit_ns))
    if max_removed is not None:
        whole = choices.whole
        removed = {
            index: float(whole[name] - count) for (name, count), index in column.items() if count < whole.get(name, 0)
        }
        rows.append((removed, -np.inf, float(max_removed)))

    value = np.zeros(len(upper))
    for name in choices.legal:
        kept = _values(choices, scores, name)
        for count in legal[name]:
            value[column[name, count]] = kept[count]
    total = sum(value[column[name, counts[-1]]] for name, counts in choices.legal.items())
    entries = [(i, j, factor) for i, (row, _, _) in enumerate(rows) for j, factor in row.items()]
    at, to, factors = (np.array(part) for part in zip(*entries, strict=True))
    return _Program(
        value=value / total if total else value,
        matrix=csr_array((factors, (at, to)), shape=(len(rows), len(upper))),
        least=np.array([least for _, least, _ in rows]),
        most=np.array([most for _, _, most in rows]),
        upper=np.array(upper),
        integral=np.concatenate([np.ones(n_counts), np.zeros(len(upper) - n_counts)]),
        column=column,
    )
