"""Statistics of one pytest-benchmark row, by its own definitions, from samples in seconds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

__all__ = ["stats_of"]


def stats_of(seconds: Sequence[float]) -> dict[str, Any]:
    """Return the statistics that pytest-benchmark stores for rounds with these times.

    Parameters
    ----------
    seconds : sequence of float
        One per round, at least one, in the order they were made.

    Returns
    -------
    dict
        Times in seconds, ``ops`` in calls per second; quartiles by method 2 of even and method 3 of odd sizes.

    References
    ----------
    pytest-benchmark 5.3.1, ``pytest_benchmark.stats.Stats``.
    """
    ordered = sorted(seconds)
    n, total = len(ordered), float(np.sum(ordered))
    mean = float(np.mean(ordered))
    stddev = float(np.std(ordered, ddof=1)) if n > 1 else 0.0
    q1, q3 = _quartiles(ordered)
    iqr = q3 - q1
    low, high = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    beyond_stddev = _beyond(ordered, mean - stddev, mean + stddev)
    beyond_iqr = _beyond(ordered, low, high)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": n,
        "median": median(ordered),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_iqr,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_iqr}",
        "ld15iqr": ordered[bisect_left(ordered, low)],
        "hd15iqr": ordered[bisect_right(ordered, high) - 1],
        "ops": n / total if total else 0.0,
        "total": total,
        "data": list(seconds),
        "iterations": 1,
    }


def _quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    size = len(ordered)
    if size == 1:
        return ordered[0], ordered[0]
    if size % 2 == 0:
        return median(ordered[: size // 2]), median(ordered[size // 2 :])
    n, rest = divmod(size, 4)
    if rest == 1:
        return (
            0.25 * ordered[n - 1] + 0.75 * ordered[n],
            0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1],
        )
    return (
        0.75 * ordered[n] + 0.25 * ordered[n + 1],
        0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
    )


def _beyond(ordered: Sequence[float], low: float, high: float) -> int:
    return bisect_left(ordered, low) + len(ordered) - bisect_right(ordered, high)
