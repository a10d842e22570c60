"""Run several callers concurrently in one process, on threads that start and stop together."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

from benchmarks.scenarios.waiting import Clock, sharp_timers

__all__ = ["LEAD_NS", "Halt", "run_streams"]

LEAD_NS = 2_000_000
"""Delay from the moment all streams are ready to the start of the measured time."""


class Halt:
    """Flag that asks all streams to stop; each checks it between calls."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        self.asked = False


def run_streams(loop: Callable[[int, int], None], n_streams: int, clock: Clock, halt: Halt) -> int:
    """Run ``loop(stream, start_ns)`` for each stream at once and wait until all have returned.

    A single stream runs on the calling thread, several on separate threads. The garbage collector is off meanwhile.

    Parameters
    ----------
    loop : callable
        Takes the stream's number and the common start on the clock, which it must wait for itself.
    n_streams : int
        At least 1.
    clock : callable
        Returns nanoseconds.
    halt : Halt
        Set when a stream fails; the loops must check it.

    Returns
    -------
    int
        The common start.

    Raises
    ------
    Exception
        The first one raised by a loop, after all have returned.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with sharp_timers():
            return _run(loop, n_streams, clock, halt)
    finally:
        if was_enabled:
            gc.enable()


def _run(loop: Callable[[int, int], None], n_streams: int, clock: Clock, halt: Halt) -> int:
    start: list[int] = []
    failures: list[Exception] = []
    together = threading.Barrier(n_streams, lambda: start.append(clock() + LEAD_NS))

    def run(stream: int) -> None:
        try:
            together.wait()
            loop(stream, start[0])
        except threading.BrokenBarrierError:
            return
        except Exception as error:  # noqa: BLE001 - any error of a runtime is raised again once all have ended
            halt.asked = True
            failures.append(error)

    if n_streams == 1:
        run(0)
    else:
        threads = [threading.Thread(target=run, args=(stream,), daemon=True) for stream in range(n_streams)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            halt.asked = True
            together.abort()
            raise
    if failures:
        raise failures[0]
    return start[0]
