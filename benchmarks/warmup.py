"""When a model is warm. Pure logic on durations: no clock, no model."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal

from benchmarks.errors import SettingError

__all__ = ["WarmUp", "WarmUpLimits"]

_WINDOW = 5
# Rank sums of 5 against 5 outside [4, 21] happen by chance in less than 10 % of the cases (Mann-Whitney U, two-sided).
_U_LOW, _U_HIGH = 4, 21


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpLimits:
    """How long warming up may and must take.

    Parameters
    ----------
    min_ns : int, default=300 ms
        Nanoseconds of calls that are made in any case.
    max_ns : int, default=10 s
        Nanoseconds of calls after which warming up ends, steady or not.
    chunk_ns : int, default=10 ms
        Calls are looked at in chunks of this many nanoseconds, by their median; a longer call is a chunk of its own.
    tolerance : float, default=0.02
        Change between neighbouring windows that does not matter, as a share.
    """

    min_ns: int = 300_000_000
    max_ns: int = 10_000_000_000
    chunk_ns: int = 10_000_000
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.min_ns <= self.max_ns or self.chunk_ns < 1 or not 0 <= self.tolerance < 1:
            raise SettingError(f"these limits of the warm-up contradict each other: {self}")


class WarmUp:
    """Takes durations one by one and says when they are steady.

    Steady: of the last ten chunks the younger five and the older five have the same median within `tolerance`, or are
    so mixed that the rank-sum test sees no difference. The first is for quiet machines, the second for noisy ones, on
    which two medians never agree to 2 %.

    Parameters
    ----------
    limits : WarmUpLimits
        See there.
    """

    def __init__(self, limits: WarmUpLimits) -> None:
        self._limits = limits
        self._total_ns = 0
        self._chunk: list[int] = []
        self._chunk_total_ns = 0
        self._medians: list[float] = []
        self._ended: Literal["steady", "budget"] | None = None

    def add(self, duration_ns: int) -> None:
        """Take the duration of one call, in nanoseconds."""
        self._total_ns += duration_ns
        self._chunk.append(duration_ns)
        self._chunk_total_ns += duration_ns
        if self._chunk_total_ns >= self._limits.chunk_ns:
            self._medians.append(median(self._chunk))
            self._chunk, self._chunk_total_ns = [], 0
            if self._total_ns >= self._limits.min_ns and self._is_steady():
                self._ended = "steady"
        if self._ended is None and self._total_ns >= self._limits.max_ns:
            self._ended = "budget"

    @property
    def ended(self) -> Literal["steady", "budget"] | None:
        """Why warming up is over; None while it is not."""
        return self._ended

    @property
    def latency_ns(self) -> float:
        """Latency at the end, in nanoseconds: median of the last window."""
        return median(self._medians[-_WINDOW:] or self._chunk)

    def _is_steady(self) -> bool:
        if len(self._medians) < 2 * _WINDOW:
            return False
        older, younger = self._medians[-2 * _WINDOW : -_WINDOW], self._medians[-_WINDOW:]
        if abs(median(younger) / median(older) - 1) <= self._limits.tolerance:
            return True
        below = sum((a < b) + 0.5 * (a == b) for a in older for b in younger)
        return _U_LOW <= below <= _U_HIGH
