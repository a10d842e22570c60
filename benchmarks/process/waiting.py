"""Who is told that work goes on while this process measures, or waits for another one.

What shows how far the work is (a `Watcher`) may wake up by itself, but not while something is timed (`hushed`). Then it
is told when this process is awake anyway: at each question to a child, and in the middle of a wait that is long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

__all__ = ["LONG_S", "Watcher", "hushed", "look", "part_of", "quiet", "watched_by"]

LONG_S = 5.0
"""A wait is interrupted after so many seconds: a block of calls, which takes milliseconds, never is."""


class Watcher(Protocol):
    """Shows how far the work is."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is to be shown."""

    def due_s(self) -> float:
        """Return the seconds until it has something to show."""

    def show(self) -> None:
        """Show it, where it is time to."""

    def hushed(self) -> AbstractContextManager[None]:
        """Wake up by itself no more until the end of the block."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` in this block; another thread has none."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def look() -> None:
    """Let the watcher show how far the work is: this process is awake."""
    if (watcher := _watcher.get()) is not None:
        watcher.show()


def hushed() -> AbstractContextManager[None]:
    """Let the watcher wake up by itself no more: something is timed, or somebody else tells how far the work is."""
    watcher = _watcher.get()
    return nullcontext() if watcher is None else watcher.hushed()


def quiet() -> bool:
    """Tell whether the watcher is not to show anything."""
    watcher = _watcher.get()
    return watcher is not None and watcher.quiet


def part_of(left_s: float | None) -> float | None:
    """Return how long to wait at once where `left_s` seconds are left, None for no end; nobody who watches: all."""
    if (watcher := _watcher.get()) is None or watcher.quiet:
        return left_s
    long_s = max(LONG_S, watcher.due_s())
    return long_s if left_s is None else min(left_s, long_s)
