"""Time the phases of a child; its events tell the parent in which phase a killed child was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Clock", "last_event"]


class Clock:
    """Wall time of phases, and a file with one line per phase.

    Parameters
    ----------
    events : Path
        File that JSON lines are appended to.
    """

    def __init__(self, events: Path) -> None:
        self._events = events
        self.seconds: dict[str, float] = {}
        self.phase = "start"

    @contextmanager
    def measure(self, phase: str, *, limited: bool = False) -> Iterator[None]:
        """Add the time of a block to that of `phase`.

        Parameters
        ----------
        phase : str
            Its name.
        limited : bool, default=False
            This block has its own time limit, which the parent enforces.
        """
        self.phase = phase
        self._say(limited=limited)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 3)
            if limited:
                self._say(limited=False)

    def _say(self, *, limited: bool) -> None:
        with self._events.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": self.phase, "since": time.time() if limited else None}) + "\n")


def last_event(events: Path) -> tuple[str, float | None]:
    """Return the last phase, and when its own time limit started (seconds since the epoch), if it has one."""
    if not events.is_file():
        return "start", None
    lines = [line for line in events.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    if not lines:
        return "start", None
    event = json.loads(lines[-1])
    return str(event["phase"]), event["since"]
