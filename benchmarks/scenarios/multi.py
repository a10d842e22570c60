"""Multi-stream scenario in the measured process: n concurrent callers, each with one request in flight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scenarios.arrivals import Nanoseconds
from benchmarks.scenarios.definitions import MultiStream
from benchmarks.scenarios.streams import Halt, run_streams
from benchmarks.scenarios.waiting import Clock, Sleep, wait_until

__all__ = ["StreamSamples", "run_multi_stream"]


@dataclass(frozen=True, slots=True)
class StreamSamples:
    """The calls of one caller.

    Parameters
    ----------
    issued_ns, done_ns : ndarray of shape (n,)
        Nanoseconds from the common start.
    """

    issued_ns: Nanoseconds
    done_ns: Nanoseconds


def run_multi_stream(
    calls: Sequence[Callable[[], None]], settings: MultiStream, clock: Clock, sleep: Sleep
) -> tuple[StreamSamples, ...]:
    """Call from all streams at once; each continues until all have met their minima.

    Parameters
    ----------
    calls : sequence of callable
        One per stream; synchronous.
    settings : MultiStream
        Streams and duration.
    clock, sleep : callable
        See `benchmarks.scenarios.waiting`.

    Returns
    -------
    tuple of StreamSamples
        One per stream.
    """
    n_streams, halt = len(calls), Halt()
    issued, done = (np.full((n_streams, settings.max_calls), -1, np.int64) for _ in range(2))
    made = [0] * n_streams
    satisfied: list[int] = []
    own_calls = math.ceil(settings.min_calls / n_streams)

    def loop(stream: int, start_ns: int) -> None:
        call, my_issued, my_done = calls[stream], issued[stream], done[stream]
        end_ns = start_ns + settings.min_duration_ns
        am_satisfied = False
        wait_until(start_ns, clock, sleep, 0)
        for index in range(settings.max_calls):
            before = clock()
            call()
            after = clock()
            my_issued[index], my_done[index] = before, after
            made[stream] = index + 1
            if not am_satisfied and index + 1 >= own_calls and after >= end_ns:
                am_satisfied = True
                satisfied.append(stream)
            if len(satisfied) == n_streams or halt.asked:
                return
        halt.asked = True  # stop the others too

    start_ns = run_streams(loop, n_streams, clock, halt)
    return tuple(
        StreamSamples(issued[stream, :n] - start_ns, done[stream, :n] - start_ns) for stream, n in enumerate(made)
    )
