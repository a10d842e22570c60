"""Find where the level of a series of numbers changed, and by how much.

ruptures proposes change points, and scipy's rank test decides which of them stand. The compared methods and the error
rates are in docs/ci/history.md; `deploy.studies.changes` measures them.

The newest commits are not judged: a change needs `FEWEST` commits after it. One or two high values at the end may be
the start of a change or outliers; it is too early to tell.
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
"""Minimum number of commits on each side of a change."""
_NO_RUPTURES = (3, 14)
_PENALTY = 30.0
"""Penalty of one more change, in variances of the noise."""
_ALPHA = 1e-3
"""Level of the rank test between the commits before and after; far below 5 % because the place was chosen."""
_CLIP, _WINDOW = 4.0, 7
"""Largest distance from the median of the neighbours before a value counts as an outlier, in deviations of the noise;
and the number of neighbours, itself included."""
_LEAST_NOISE = 5e-4
"""Share of the value: values counted in pages or clock ticks are not taken for noiseless."""
_EXACT = 2500
"""Pairs of values above which the asymptotic test is as good as the exact one."""
_Z = 1.959964

RULE = "1"
"""To be raised when anything above changes: series judged by another rule are judged again."""

Values = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of level.

    Parameters
    ----------
    at : int
        Index of the first value after it.
    before, after : float
        Medians of the values since the previous change and up to the next one.
    change : float
        Change of the level, as a share of the level before.
    low, high : float
        Ends of the 95 % interval of `change`; equal to it for a counted number.
    p : float
        p-value of the rank test between the values before and after; 0 for a counted number.
    """

    at: int
    before: float
    after: float
    change: float
    low: float
    high: float
    p: float


def require_finder() -> None:
    """Check that the libraries that find changes are installed.

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
    """Return every change of a counted number, however small.

    Parameters
    ----------
    values : sequence of float
        One per commit, in order.
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
        One per commit, in order; positive.
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
    """Return the deviation of the noise, from differences of neighbours, among which steps are rare."""
    return max(robust_deviation(np.diff(logs).tolist()) / math.sqrt(2), _LEAST_NOISE)


def without_outliers(logs: Values) -> Values:
    """Clip values far from the median of their neighbours; steps are unchanged."""
    from scipy.ndimage import median_filter

    middle, most = median_filter(logs, size=_WINDOW, mode="nearest"), _CLIP * noise_of(logs)
    clipped: Values = np.clip(logs, middle - most, middle + most)
    return clipped


def _proposed(logs: Values) -> list[int]:
    """Return the cuts of a penalised least-squares fit, after clipping outliers."""
    import ruptures

    scaled = without_outliers(logs) / noise_of(logs)
    found = ruptures.KernelCPD(kernel="linear", min_size=FEWEST).fit(scaled.reshape(-1, 1)).predict(pen=_PENALTY)
    return [int(cut) for cut in found[:-1]]


def _confirmed(logs: Values, cuts: list[int], smallest: float) -> list[Change]:
    """Drop the weakest cut and test again until all remaining cuts stand."""
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
    """Return the p-value of the Mann-Whitney test, exact if that is fast and no two values are equal."""
    from scipy.stats import mannwhitneyu

    n, m = len(before), len(after)
    exact = n * m <= _EXACT and len(np.unique(np.concatenate((before, after)))) == n + m
    return float(mannwhitneyu(before, after, method="exact" if exact else "asymptotic").pvalue)


def _change(at: int, before: Values, after: Values, p: float) -> Change:
    """Estimate a change by Hodges-Lehmann: median of all differences, with the interval of the rank test."""
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
