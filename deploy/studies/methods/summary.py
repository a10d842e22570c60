"""Summarise cells: means and deviations over seeds, and which method won by more than the seed noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from deploy.sources.metric import Metric
from deploy.studies.methods.results import Cell, Scores, StudyResults

__all__ = [
    "Difference",
    "Mean",
    "Win",
    "against",
    "cells_of",
    "comparable",
    "mean_of",
    "paired",
    "rule",
    "scores_of",
    "too_slow",
    "wins",
]

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom."""
_T_MANY = 2.120  # a little too wide beyond the table, never too narrow


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds; `deviation` is the sample's, None with one seed."""

    value: float
    deviation: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one method is than another: mean over seeds, and half-width of its 95 % interval.

    Parameters
    ----------
    value : float
        In shares of the test images, or in dB.
    half_width : float or None
        None with fewer than two seeds.
    n : int
        Number of seeds that both have.
    """

    value: float
    half_width: float | None
    n: int

    @property
    def exceeds(self) -> bool | None:
        """Whether it exceeds the seed noise; None if unknown."""
        return None if self.half_width is None else abs(self.value) > self.half_width


@dataclass(frozen=True, slots=True)
class Win:
    """The method with the best mean test score at one budget after one recovery.

    Parameters
    ----------
    budget, recovery, method, second : str
        `second` is the runner-up; empty if there is only one method.
    mean : Mean
        Mean of the winner.
    margin : Difference or None
        Margin over the runner-up, on the seeds that both have.
    n_test : int
        Number of test images.
    slower : tuple of str
        Methods that are done, but with a network slower than the budget allows: they do not compete.
    """

    budget: str
    recovery: str
    method: str
    mean: Mean
    second: str
    margin: Difference | None
    n_test: int
    slower: tuple[str, ...] = ()


def mean_of(values: Sequence[float]) -> Mean | None:
    """Average over seeds; None without values."""
    if not values:
        return None
    return Mean(value=fmean(values), deviation=stdev(values) if len(values) > 1 else None, n=len(values))


def rule(metric: Metric) -> str:
    """Return the rule for when a difference counts as more than noise."""
    least = ", and a standard deviation of at least half a test image" if metric == "accuracy" else ""
    return (
        "A difference between two methods exceeds the seed noise when the 95 % interval of the mean of their "
        f"differences, seed by seed, holds no 0: Student's t with n - 1 degrees of freedom{least}. With one seed the "
        "noise is not known. The best of many methods is ahead by chance more often than the better of two."
    )


def paired(
    ours: dict[int, float], theirs: dict[int, float], n_test: int, metric: Metric = "accuracy"
) -> Difference | None:
    """Compare the scores of two methods seed by seed; None if they share no seed.

    Accuracies are multiples of 1 / `n_test`, so a few seeds often differ by exactly the same amount; the standard
    deviation of the differences is therefore taken as at least half of that.
    """
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    average = mean_of(differences)
    if average is None:
        return None
    half_width = None
    if average.deviation is not None:
        t = _T[average.n - 2] if average.n - 2 < len(_T) else _T_MANY
        least = 0.5 / n_test if metric == "accuracy" else 0.0
        half_width = t * max(average.deviation, least) / math.sqrt(average.n)
    return Difference(value=average.value, half_width=half_width, n=average.n)


def cells_of(results: StudyResults, *, method: str = "", budget: str = "", recovery: str = "") -> tuple[Cell, ...]:
    """Return the cells with these names; an empty name matches all."""
    return tuple(
        cell
        for cell in results.cells
        if method in ("", cell.method) and budget in ("", cell.budget) and recovery in ("", cell.recovery)
    )


def scores_of(
    cells: Iterable[Cell], of: Callable[[Cell], Scores | None] = lambda cell: cell.recovered
) -> dict[int, float]:
    """Return the test scores by seed, for the cells that have one."""
    return {cell.seed: scores.score_test for cell in cells if (scores := of(cell)) is not None}


def against(results: StudyResults, method: str, other: str, budget: str, recovery: str) -> Difference | None:
    """Compare two methods after one recovery."""
    ours, theirs = (cells_of(results, method=name, budget=budget, recovery=recovery) for name in (method, other))
    return paired(scores_of(ours), scores_of(theirs), _n_test(ours), results.metric)


def comparable(cells: Iterable[Cell]) -> bool:
    """Return whether a method is done with all its seeds, and no network is slower than the budget allows."""
    own = tuple(cells)
    return bool(own) and all(cell.outcome == "ok" and _met(cell) for cell in own)


def _met(cell: Cell) -> bool:
    return all(landing.met for landing in cell.speeds)


def wins(results: StudyResults) -> tuple[Win, ...]:
    """Find the best method per budget and recovery, among those that remove channels and are `comparable`.

    Methods that set single weights to zero are controls: their networks are not smaller. Methods are only compared
    after the same recovery: taking the best of each would be a choice made on test images.
    """
    best_of = []
    for budget, recovery, by_method in _groups(results):
        complete = {name: scores_of(own) for name, own in by_method.items() if comparable(own)}
        ranked = sorted(complete, key=lambda name: -fmean(complete[name].values()))
        if not ranked:
            continue
        best, second = ranked[0], ranked[1] if len(ranked) > 1 else ""
        mean = mean_of(list(complete[best].values()))
        assert mean is not None
        n_test = _n_test(cell for own in by_method.values() for cell in own)
        best_of.append(
            Win(
                budget=budget,
                recovery=recovery,
                method=best,
                mean=mean,
                second=second,
                margin=paired(complete[best], complete[second], n_test, results.metric) if second else None,
                n_test=n_test,
                slower=_slower(by_method),
            )
        )
    return tuple(best_of)


def too_slow(results: StudyResults) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return budget, recovery and methods where no method is `comparable` and some are slower than asked for."""
    return tuple(
        (budget, recovery, slower)
        for budget, recovery, by_method in _groups(results)
        if not any(map(comparable, by_method.values())) and (slower := _slower(by_method))
    )


def _groups(results: StudyResults) -> Iterator[tuple[str, str, dict[str, list[Cell]]]]:
    """Yield each budget and recovery with the cells of the methods that remove channels."""
    for budget in dict.fromkeys(cell.budget for cell in results.cells):
        for recovery in dict.fromkeys(cell.recovery for cell in results.cells):
            by_method: dict[str, list[Cell]] = {}
            for cell in cells_of(results, budget=budget, recovery=recovery):
                if cell.removes == "channels":
                    by_method.setdefault(cell.method, []).append(cell)
            yield budget, recovery, by_method


def _slower(by_method: Mapping[str, Sequence[Cell]]) -> tuple[str, ...]:
    return tuple(name for name, own in by_method.items() if not all(map(_met, own)))


def _n_test(cells: Iterable[Cell]) -> int:
    return max((cell.recovered.n_test for cell in cells if cell.recovered is not None), default=1)
