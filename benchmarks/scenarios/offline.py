"""Offline scenario in the measured process: all examples are available at once, k streams process them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.errors import SettingError
from benchmarks.scenarios.arrivals import Nanoseconds
from benchmarks.scenarios.streams import Halt, run_streams
from benchmarks.scenarios.waiting import Clock, Sleep, wait_until

__all__ = ["offline_calls", "run_offline"]

_RESERVE = 1.1


def offline_calls(call_ns: float, streams: int, duration_ns: int, min_calls: int = 662) -> int:
    """Return how many calls last `duration_ns` even if the model is a tenth faster than expected, as LoadGen does.

    Parameters
    ----------
    call_ns : float
        Duration of one warm call, in nanoseconds.
    streams : int
        Streams that share the calls.
    duration_ns : int
        Target duration.
    min_calls : int, default=662
        Minimum number of calls.

    Raises
    ------
    SettingError
        `call_ns` is not positive.
    """
    if not call_ns > 0:
        raise SettingError(f"a call must last longer than 0 ns, got {call_ns}")
    return max(min_calls, math.ceil(_RESERVE * duration_ns * streams / call_ns))


def run_offline(
    calls: Sequence[Callable[[], None]], n_calls: int, clock: Clock, sleep: Sleep
) -> tuple[Nanoseconds, Nanoseconds]:
    """Make `n_calls` calls, each on the first free stream.

    Parameters
    ----------
    calls : sequence of callable
        One per stream; synchronous.
    n_calls : int
        Total calls.
    clock, sleep : callable
        See `benchmarks.scenarios.waiting`.

    Returns
    -------
    issued_ns, done_ns : ndarray of shape (n_calls,)
        Nanoseconds from the common start, in the order in which the calls started.
    """
    issued, done = (np.full(n_calls, -1, np.int64) for _ in range(2))
    numbers, halt = itertools.count(), Halt()

    def loop(stream: int, start_ns: int) -> None:
        call = calls[stream]
        wait_until(start_ns, clock, sleep, 0)
        while (index := next(numbers)) < n_calls and not halt.asked:
            before = clock()
            call()
            done[index] = clock()
            issued[index] = before

    start_ns = run_streams(loop, len(calls), clock, halt)
    return issued - start_ns, done - start_ns
