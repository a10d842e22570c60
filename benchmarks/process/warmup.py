"""Warm-up detection: decide from call durations when a model is steady. Pure logic, without a clock or a model."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from benchmarks.errors import SettingError

__all__ = ["WarmUp", "WarmUpLimits"]

_Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

_CHUNK_CALLS = 500
_ENOUGH_CALLS = 10_000
_FEWEST = 10
"""Fewest chunks for a test, and the number that the test for a late step uses."""
_GROUPS = 24
_WATCHED_NS = 2_000_000_000
_FULL_TOLERANCE_NS = 1_000_000_000
_FULL_MARGIN_NS = 400_000_000
# Median of the scan over 10 to 24 groups of pure noise, so that every second look at noise ends the warm-up: a change
# watched too briefly also looks like noise, and must not pass for it.
_NOISE_Z = 1.9
_ONE_SIDED_90 = 1.2816
# The chunks are tested again when there are 10 % more, because each look is another chance to be wrong.
_NEXT_LOOK = 1.1
# Multiple of the minimum time, and number of chunks, spent on ruling out a change hidden by noise.
_PATIENCE = 5
_PATIENCE_CHUNKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpLimits:
    """Minimum and maximum length of the warm-up, and its tolerances.

    Parameters
    ----------
    min_ns : int, default=150 ms
        Minimum nanoseconds of calls; ten thousand very short calls are also enough.
    max_ns : int, default=10 s
        Nanoseconds of calls after which the warm-up ends, steady or not.
    chunk_ns : int, default=5 ms
        Calls are grouped in chunks of this many nanoseconds or of 500 calls and judged by their median; a longer call
        is its own chunk.
    tolerance : float, default=0.01
        Detected change that does not matter, as a share, once calls have been watched for a second. It is
        proportionally smaller before, because only the start of a slow change is visible then.
    margin : float, default=0.02
        Change that must be ruled out, as a share, once calls have been watched for 0.4 seconds; proportionally smaller
        before.
    """

    min_ns: int = 150_000_000
    max_ns: int = 10_000_000_000
    chunk_ns: int = 5_000_000
    tolerance: float = 0.01
    margin: float = 0.02

    def __post_init__(self) -> None:
        shares = 0 <= self.tolerance < 1 and 0 < self.margin < 1
        if not 0 <= self.min_ns <= self.max_ns or self.chunk_ns < 1 or not shares:
            raise SettingError(f"these limits of the warm-up contradict each other: {self}")


class WarmUp:
    """Takes call durations one by one and decides when they are steady.

    It uses the last two thirds of all chunks, at most two seconds of them: the longer a model has been getting faster,
    the longer it is watched. The chunks are merged into fewer than 48 groups, whose medians are less correlated than
    single calls. Steady means three things:

    * no change point: of all splits of the groups in two, the one whose rank sums differ most (Pettitt's scan, each
      split by its own standard error) differs no more than in noise, or its two sides agree within the tolerance;
    * no late step: the same for the last ten chunks;
    * enough evidence: the interval of the shift between the older and the younger half (Hodges and Lehmann, 90 % to
      each side) is within the margin. If noise makes that impossible, this condition is dropped after five times the
      minimum time, and the absence of a change point suffices.

    Ranks make it robust to hiccups and heavy tails. If groups are still correlated, standard errors are widened by
    their lag-1 correlation, but never so far that two clean halves could pass for noise.

    Parameters
    ----------
    limits : WarmUpLimits
        Minimum and maximum length of the warm-up, and its tolerances.

    References
    ----------
    A. N. Pettitt, A Non-parametric Approach to the Change-point Problem, Applied Statistics 28 (1979). J. L. Hodges and
    E. L. Lehmann, Estimates of Location Based on Rank Tests, Annals of Mathematical Statistics 34 (1963).
    """

    def __init__(self, limits: WarmUpLimits) -> None:
        self._limits = limits
        self._total_ns = 0
        self._n_calls = 0
        self._chunk: list[int] = []
        self._chunk_total_ns = 0
        self._medians: list[float] = []
        self._ends_ns: list[int] = []
        self._next_look = float(_FEWEST)
        self._ended: Literal["steady", "budget"] | None = None

    def add(self, duration_ns: int) -> None:
        """Take the duration of one call, in nanoseconds."""
        self._total_ns += duration_ns
        self._n_calls += 1
        self._chunk.append(duration_ns)
        self._chunk_total_ns += duration_ns
        if self._chunk_total_ns >= self._limits.chunk_ns or len(self._chunk) == _CHUNK_CALLS:
            self._medians.append(median(self._chunk))
            self._ends_ns.append(self._total_ns)
            self._chunk, self._chunk_total_ns = [], 0
            enough = self._total_ns >= self._limits.min_ns or self._n_calls >= _ENOUGH_CALLS
            if enough and len(self._medians) >= self._next_look:
                self._next_look = _NEXT_LOOK * len(self._medians)
                self._ended = "steady" if self._is_steady() else None
        if self._ended is None and self._total_ns >= self._limits.max_ns:
            self._ended = "budget"

    @property
    def ended(self) -> Literal["steady", "budget"] | None:
        """Why the warm-up ended; None while it has not."""
        return self._ended

    @property
    def n_calls(self) -> int:
        """Calls taken so far."""
        return self._n_calls

    @property
    def total_ns(self) -> int:
        """Nanoseconds of the calls taken so far."""
        return self._total_ns

    @property
    def latency_ns(self) -> float:
        """Latency at the end, in nanoseconds: median of the last chunks."""
        return median(self._medians[-_FEWEST // 2 :] or self._chunk)

    def _is_steady(self) -> bool:
        tolerance = self._limits.tolerance * min(1.0, self._total_ns / _FULL_TOLERANCE_NS)
        margin = self._limits.margin * min(1.0, self._total_ns / _FULL_MARGIN_NS)
        if _changes(_grouped(self._medians[-_FEWEST:]), tolerance, correlated=False):
            return False
        since = max(len(self._medians) // 3, bisect_left(self._ends_ns, self._total_ns - _WATCHED_NS))
        groups = _grouped(self._medians[min(since, len(self._medians) - _FEWEST) :])
        if _changes(groups, tolerance, correlated=True):
            return False
        return _is_within(groups, margin) or self._is_patience_at_end()

    def _is_patience_at_end(self) -> bool:
        many = len(self._medians) >= _PATIENCE_CHUNKS or self._total_ns >= self._limits.max_ns / 4
        return many and self._total_ns >= _PATIENCE * self._limits.min_ns


def _grouped(medians: list[float]) -> _Floats:
    """Return the log medians of equal groups, at most 47; the oldest values that do not fit are dropped."""
    size = max(1, len(medians) // _GROUPS)
    kept = np.array(medians[len(medians) % size :], np.float64)
    logs: _Floats = np.log(np.maximum(np.median(kept.reshape(-1, size), axis=1), 1.0))
    return logs


def _changes(values: _Floats, tolerance: float, *, correlated: bool) -> bool:
    """Return whether the values change at some point, by more than noise and by more than the tolerance."""
    n = values.size
    after = np.arange(1, n)
    signs = np.sign(values[None, :] - values[:, None]).sum(axis=1)
    scores = np.cumsum(signs)[:-1] / np.sqrt(after * (n - after) * (n + 1) / 3)
    split = int(np.argmax(np.abs(scores))) + 1
    older, younger = values[:split], values[split:]
    if abs(float(np.median(younger) - np.median(older))) <= tolerance:
        return False
    widening = _widening(older, younger) if correlated else 1.0
    return bool(abs(scores[split - 1]) > _NOISE_Z * math.sqrt(widening))


def _is_within(values: _Floats, margin: float) -> bool:
    """Return whether the shift from the older to the younger half is known to be within the margin."""
    older, younger = values[: values.size // 2], values[values.size // 2 :]
    shifts = np.sort((younger[None, :] - older[:, None]).ravel())
    error = math.sqrt(shifts.size * (values.size + 1) / 12 * _widening(older, younger))
    order = max(0, int(shifts.size / 2 - _ONE_SIDED_90 * error))
    return bool(-margin < shifts[order] and shifts[-1 - order] < margin)


def _widening(older: _Floats, younger: _Floats) -> float:
    """Return the variance inflation of a rank sum for correlated values: (1 + rho) / (1 - rho).

    rho is the lag-1 correlation of the ranks within the parts, with its bias of 2 / n added. A trend also makes
    neighbours similar, so the factor is capped where two halves without overlap would still be more than noise.
    """
    within = np.concatenate([older - np.median(older), younger - np.median(younger)])
    n = within.size
    if not within.any():
        return 1.0
    ranks = np.argsort(np.argsort(within)) - (n - 1) / 2
    rho = max(0.0, float(ranks[1:] @ ranks[:-1] / (ranks @ ranks)) + 2 / n)
    clean_halves = 0.75 * n**2 / (n + 1)
    most = max(1.0, clean_halves / (1.05 * _NOISE_Z) ** 2)
    return most if rho >= 1 else min(most, (1 + rho) / (1 - rho))
