"""Keep a progress display (`Watcher`) updated while this process measures, or waits for another one.

A watcher may wake up by itself, but not while something is timed (`hushed`). Then it is called when this process is
awake anyway: at each question to a child, and during a long wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

__all__ = ["LONG_S", "Watcher", "hushed", "look", "part_of", "quiet", "watched_by"]

LONG_S = 5.0
"""A wait is interrupted after this many seconds; a block of calls, which takes milliseconds, never is."""


class Watcher(Protocol):
    """Shows the progress of the work."""

    @property
    def quiet(self) -> bool:
        """Whether nothing should be shown."""

    def due_s(self) -> float:
        """Return the seconds until the next update is due."""

    def show(self) -> None:
        """Show the progress if an update is due."""

    def hushed(self) -> AbstractContextManager[None]:
        """Do not wake up by itself until the end of the block."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Use `watcher` in this block; other threads have none."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


def look() -> None:
    """Let the watcher show the progress, as this process is awake."""
    if (watcher := _watcher.get()) is not None:
        watcher.show()


def hushed() -> AbstractContextManager[None]:
    """Keep the watcher from waking up by itself: something is timed, or the progress is reported elsewhere."""
    watcher = _watcher.get()
    return nullcontext() if watcher is None else watcher.hushed()


def quiet() -> bool:
    """Return whether the watcher should show nothing."""
    watcher = _watcher.get()
    return watcher is not None and watcher.quiet


def part_of(left_s: float | None) -> float | None:
    """Return how long to wait in one go when `left_s` seconds are left (None: no limit); all, without a watcher."""
    if (watcher := _watcher.get()) is None or watcher.quiet:
        return left_s
    long_s = max(LONG_S, watcher.due_s())
    return long_s if left_s is None else min(left_s, long_s)
