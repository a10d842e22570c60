"""Wait precisely for the next arrival: sleep for most of the time, then spin briefly.

A sleep ends late, by the timer slack (50 us on Linux by default) and the time a core takes to wake. Spinning ends on
time but occupies the core. So a stream sleeps until `SPIN_NS` before the arrival and then spins; it spins in C with the
interpreter's lock released, or a stream that finishes meanwhile would wait for the lock.

Measured on a shared two-core virtual machine, waiting 2 ms: with sleep alone, a stream is late by 85 us (median);
without timer slack, by 40 us; and with the last 200 us spent spinning, by 1.3 us, which takes a tenth of a core at that
rate.
"""

from __future__ import annotations

import ctypes
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

__all__ = ["SPIN_NS", "Clock", "Sleep", "sharp_timers", "spin_ns_for", "wait_until"]

Clock: TypeAlias = Callable[[], int]
"""Returns nanoseconds."""
Sleep: TypeAlias = Callable[[float], None]
"""Takes seconds."""

SPIN_NS = 200_000
"""Longer than a core takes to wake."""

_BLOCK = bytes(8192)  # zlib releases the lock for more than 5 KiB; a checksum of this takes about 2 us
_PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 29, 30


def spin_ns_for(compute_threads: int, cores: int) -> int:
    """Return how long idle streams may spin: not at all if they would take a core from a computing thread.

    Parameters
    ----------
    compute_threads : int
        Host threads that may compute at once, as read back from the compiled model.
    cores : int
        Cores that the process may use.
    """
    return SPIN_NS if compute_threads <= cores else 0


def wait_until(target_ns: int, clock: Clock, sleep: Sleep, spin_ns: int = SPIN_NS) -> None:
    """Wait until the clock shows `target_ns` or more; return at once if it already does.

    Parameters
    ----------
    target_ns : int
        Time on `clock`.
    clock, sleep : callable
        See `Clock` and `Sleep`.
    spin_ns : int
        Spin for this long before the target; 0 only sleeps.
    """
    while (left := target_ns - clock()) > 0:
        if left > spin_ns:
            sleep((left - spin_ns) / 1e9)
        else:
            zlib.crc32(_BLOCK)


@contextmanager
def sharp_timers() -> Iterator[None]:
    """Remove the timer slack from sleeps of this thread and of threads it starts meanwhile (on Linux)."""
    if sys.platform != "linux":
        yield
        return
    libc: Any = ctypes.CDLL(None)
    before = libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0)
    if before < 1:  # unknown, so it could not be restored
        yield
        return
    libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(before), 0, 0, 0)
