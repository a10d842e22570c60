"""How long each phase of a child takes; it tells its parent what it is doing, so that a killed child has a phase."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Clock", "last_event"]


class Clock:
    """Wall time of phases, and a file with one line a phase.

    Parameters
    ----------
    events : Path
        Lines of JSON are appended to it.
    """

    def __init__(self, events: Path) -> None:
        self._events = events
        self.seconds: dict[str, float] = {}
        self.phase = "start"

    @contextmanager
    def measure(self, phase: str, *, limit_s: float | None = None) -> Iterator[None]:
        """Add the time of a block to that of `phase`.

        Parameters
        ----------
        phase : str
            Its name.
        limit_s : float, optional
            After so many seconds of this block the parent ends the process.
        """
        self.phase = phase
        with self._events.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": phase, "limit_s": limit_s, "at": time.time()}) + "\n")
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 3)
            if limit_s is not None:
                with self._events.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"phase": phase, "limit_s": None, "at": time.time()}) + "\n")


def last_event(events: Path) -> tuple[str, float | None]:
    """Return the phase that was begun last, and when it has to end, in seconds since the epoch; None: no limit."""
    try:
        lines = [line for line in events.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    except FileNotFoundError:
        return "start", None
    if not lines:
        return "start", None
    event = json.loads(lines[-1])
    return str(event["phase"]), None if event["limit_s"] is None else float(event["at"]) + float(event["limit_s"])
