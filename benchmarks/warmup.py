"""When a model is warm. Pure logic on durations: no clock, no model."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.errors import SettingError

__all__ = ["WarmUp", "WarmUpLimits"]

_MIN_WINDOW = 5
_CHUNK_CALLS = 500
_ENOUGH_CALLS = 10_000
# One standard error: what only looks like noise because it was watched too briefly is not believed to be noise.
_MAX_Z = 1.0
# The windows are looked at again when there are 10 % more chunks: each look is one more chance to be wrong.
_NEXT_LOOK = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpLimits:
    """How long warming up may and must take.

    Parameters
    ----------
    min_ns : int, default=300 ms
        Nanoseconds of calls that are made in any case; of very short calls ten thousand are enough.
    max_ns : int, default=10 s
        Nanoseconds of calls after which warming up ends, steady or not.
    chunk_ns : int, default=10 ms
        Calls are looked at in chunks of this many nanoseconds or of 500 calls, by their median; a longer call is a
        chunk of its own.
    tolerance : float, default=0.01
        Change between neighbouring windows that does not matter, as a share.
    """

    min_ns: int = 300_000_000
    max_ns: int = 10_000_000_000
    chunk_ns: int = 10_000_000
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.min_ns <= self.max_ns or self.chunk_ns < 1 or not 0 <= self.tolerance < 1:
            raise SettingError(f"these limits of the warm-up contradict each other: {self}")


class WarmUp:
    """Takes durations one by one and says when they are steady.

    The last third of all chunks is compared with the third before: the longer a model has been getting faster, the
    longer it is watched. The last five are compared with the five before: a late step shows. Steady means in both cases
    that the medians agree within `tolerance`, or that the two are so mixed that their rank sums differ by less than a
    standard error (Mann-Whitney U). The first is for quiet machines, the second for noisy ones, on which two medians
    never agree to 1 %.

    Parameters
    ----------
    limits : WarmUpLimits
        See there.
    """

    def __init__(self, limits: WarmUpLimits) -> None:
        self._limits = limits
        self._total_ns = 0
        self._n_calls = 0
        self._chunk: list[int] = []
        self._chunk_total_ns = 0
        self._medians: list[float] = []
        self._next_look = 0.0
        self._ended: Literal["steady", "budget"] | None = None

    def add(self, duration_ns: int) -> None:
        """Take the duration of one call, in nanoseconds."""
        self._total_ns += duration_ns
        self._n_calls += 1
        self._chunk.append(duration_ns)
        self._chunk_total_ns += duration_ns
        if self._chunk_total_ns >= self._limits.chunk_ns or len(self._chunk) == _CHUNK_CALLS:
            self._medians.append(median(self._chunk))
            self._chunk, self._chunk_total_ns = [], 0
            enough = self._total_ns >= self._limits.min_ns or self._n_calls >= _ENOUGH_CALLS
            if enough and self._is_steady():
                self._ended = "steady"
        if self._ended is None and self._total_ns >= self._limits.max_ns:
            self._ended = "budget"

    @property
    def ended(self) -> Literal["steady", "budget"] | None:
        """Why warming up is over; None while it is not."""
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
        """Latency at the end, in nanoseconds: median of the last window."""
        return median(self._medians[-_MIN_WINDOW:] or self._chunk)

    def _is_steady(self) -> bool:
        n_chunks = len(self._medians)
        if n_chunks < max(2 * _MIN_WINDOW, self._next_look):
            return False
        self._next_look = _NEXT_LOOK * n_chunks
        return all(self._agree(window) for window in {_MIN_WINDOW, max(_MIN_WINDOW, n_chunks // 3)})

    def _agree(self, window: int) -> bool:
        older, younger = self._medians[-2 * window : -window], self._medians[-window:]
        if abs(median(younger) / median(older) - 1) <= self._limits.tolerance:
            return True
        return abs(_rank_sum_z(older, younger)) < _MAX_Z


def _rank_sum_z(older: list[float], younger: list[float]) -> float:
    """Give the Mann-Whitney U of two samples of equal size n in standard errors; ties count as half."""
    n = len(older)
    ordered = sorted(older)
    u = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in younger) / 2
    return (u - n * n / 2) / math.sqrt(n * n * (2 * n + 1) / 12)
