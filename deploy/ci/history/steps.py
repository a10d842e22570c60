"""Where the level of a series of numbers changed, and by how much.

ruptures proposes where, scipy's rank test decides which of the proposals stand. What was compared, and the error rates,
stand in docs/ci/history.md; `deploy.studies.changes` measures them.

Nothing is said of the newest commits: a change wants `FEWEST` commits behind it. One or two high values in the end may
be the beginning of a change or outliers, and nobody can tell.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

from benchmarks.stats.summary import robust_deviation
from deploy.errors import ExtraMissingError
from prune_deploy import how_to_install

__all__ = [
    "FEWEST",
    "RULE",
    "Change",
    "Values",
    "changes_of_counts",
    "find_changes",
    "noise_of",
    "require_finder",
    "without_outliers",
]

FEWEST = 3
"""Commits on each side of a change, at least."""
_NO_RUPTURES = (3, 14)
_PENALTY = 30.0
"""Of one more change, in variances of the noise."""
_ALPHA = 1e-3
"""Of the rank test between the commits before and after: the place was chosen, so it is much smaller than 5 %."""
_CLIP, _WINDOW = 4.0, 7
"""How far a value may lie from the median of its neighbours before it is taken for an outlier: in deviations of the
noise, and the number of neighbours with itself."""
_LEAST_NOISE = 5e-4
"""Share of the value: steps of what is counted in pages or clock ticks are not read as noiseless."""
_EXACT = 2500
"""Pairs of values: beyond them the test is as good as exact."""
_Z = 1.959964

RULE = "1"
"""Changes with anything above: what was judged by another rule is judged again."""

Values = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of level.

    Parameters
    ----------
    at : int
        Place of the first value after it.
    before, after : float
        Medians of the values up to the change before and to the next one.
    change : float
        How far the level went, as a share of that before.
    low, high : float
        Ends of the 95 % interval of `change`; equal to it where the number is counted.
    p : float
        Of the rank test between the values before and after; 0 where the number is counted.
    """

    at: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p: float


def require_finder() -> None:
    """Find out whether changes can be looked for here.

    Raises
    ------
    ExtraMissingError
        ruptures or scipy is not installed.
    """
    for library in ("ruptures", "scipy"):
        if find_spec(library) is None:
            if library == "ruptures" and sys.version_info >= _NO_RUPTURES:
                raise ExtraMissingError("change points need ruptures, which has no release for this Python yet")
            raise ExtraMissingError(f"change points need {library}: {how_to_install('history')}")


def changes_of_counts(values: Sequence[float]) -> list[Change]:
    """Return every change of a number that is counted, not measured: each is one, however small.

    Parameters
    ----------
    values : sequence of float
        One a commit, in order.
    """
    return [
        Change(at, before, after, _share(before, after), _share(before, after), _share(before, after), 0.0)
        for at, (before, after) in enumerate(pairwise(values), 1)
        if before != after
    ]


def find_changes(values: Sequence[float], smallest: float) -> list[Change]:
    """Return where the level of measured values changed.

    Parameters
    ----------
    values : sequence of float
        One a commit, in order; positive.
    smallest : float
        Smallest change that counts, as a share.

    Raises
    ------
    ExtraMissingError
        ruptures or scipy is not installed.
    ValueError
        A value is not positive.
    """
    require_finder()
    if len(values) < 2 * FEWEST:
        return []
    if min(values) <= 0:
        raise ValueError(f"changes are looked for in positive values, got {min(values):g}")
    logs = np.log(np.asarray(values, np.float64))
    return _confirmed(logs, _proposed(logs), smallest)


def noise_of(logs: Values) -> float:
    """Return the deviation of the noise, from the differences of neighbours: a step is one of many."""
    return max(robust_deviation(np.diff(logs).tolist()) / math.sqrt(2), _LEAST_NOISE)


def without_outliers(logs: Values) -> Values:
    """Bring values that lie far from the median of their neighbours near it; a step stays as it is."""
    from scipy.ndimage import median_filter

    middle, most = median_filter(logs, size=_WINDOW, mode="nearest"), _CLIP * noise_of(logs)
    clipped: Values = np.clip(logs, middle - most, middle + most)
    return clipped


def _proposed(logs: Values) -> list[int]:
    """Return where least squares would cut the series, each cut paid for; outliers are brought near first."""
    import ruptures

    scaled = without_outliers(logs) / noise_of(logs)
    found = ruptures.KernelCPD(kernel="linear", min_size=FEWEST).fit(scaled.reshape(-1, 1)).predict(pen=_PENALTY)
    return [int(cut) for cut in found[:-1]]


def _confirmed(logs: Values, cuts: list[int], smallest: float) -> list[Change]:
    """Drop the weakest cut, and look at its neighbours again, until all of them stand."""
    while cuts:
        ends = [0, *cuts, len(logs)]
        parts = [logs[begin:end] for begin, end in pairwise(ends)]
        pairs = list(pairwise(parts))
        ps = [_rank_test(*pair) for pair in pairs]
        sizes = [abs(float(np.median(after) - np.median(before))) for before, after in pairs]
        weakest = int(np.argmax(ps))
        if ps[weakest] <= _ALPHA:
            weakest = int(np.argmin(sizes))
            if sizes[weakest] >= math.log1p(smallest):
                return [_change(cut, *pair, p) for cut, pair, p in zip(cuts, pairs, ps, strict=True)]
        del cuts[weakest]
    return []


def _rank_test(before: Values, after: Values) -> float:
    """Return the p-value of Mann and Whitney's test: exact where that is quick and no two values are equal."""
    from scipy.stats import mannwhitneyu

    n, m = len(before), len(after)
    exact = n * m <= _EXACT and len(np.unique(np.concatenate((before, after)))) == n + m
    return float(mannwhitneyu(before, after, method="exact" if exact else "asymptotic").pvalue)


def _change(at: int, before: Values, after: Values, p: float) -> Change:
    """Estimate a change by Hodges and Lehmann: the median of all differences, its interval by the rank test."""
    differences = np.sort(np.subtract.outer(after, before).ravel())
    n, m = len(before), len(after)
    rank = max(0, math.floor(n * m / 2 - _Z * math.sqrt(n * m * (n + m + 1) / 12)) - 1)
    return Change(
        at=at,
        before=math.exp(np.median(before)),
        after=math.exp(np.median(after)),
        change=math.expm1(np.median(differences)),
        low=math.expm1(differences[rank]),
        high=math.expm1(differences[-1 - rank]),
        p=p,
    )


def _share(before: float, after: float) -> float:
    return after / before - 1 if before else math.inf
