"""Progress on stderr: one live line on a terminal, otherwise a line every ten seconds.

For work that reports nothing for long, such as an export or a verification, a sleeping thread writes the line. While
something is timed there is no such thread: a line is written when the work itself reports, or when this process is
awake for another reason, see `benchmarks.process.waiting`.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from benchmarks.process.waiting import watched_by
from deploy.files.printable import over_the_last_line, printable
from deploy.report.formatting import score_brief

if TYPE_CHECKING:
    from pruners.recover.fit import Epoch

__all__ = ["QUIET", "Bar", "Progress", "StepsBar", "TrainingBar", "span"]

QUIET = "PRUNE_DEPLOY_QUIET"
"""Environment variable that makes a child process as quiet as its parent."""

_LINE_S = 10.0
"""Seconds between two lines of a log."""
_LIVE_S, _TIMED_LIVE_S = 0.2, 1.0
"""Seconds between two updates of a live line; longer while something is timed."""
_STARTING_S = 5.0
"""Seconds that Python and imports are assumed to have taken when a process creates its `Progress`."""
_EARLY_S = 3.0
"""Seconds before a remaining time is estimated, and before work that reports nothing is shown."""


def span(seconds: float) -> str:
    """Format seconds for people: ``"8 s"``, ``"3 min"``, ``"2 h 5 min"``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Bar:
    """Progress of one piece of work; `set` is the callback that pruning methods call."""

    def __init__(self, shown: Progress, title: str) -> None:
        self._shown = shown
        self._title = title
        self._note = ""
        self._share = 0.0
        self._began_s = shown.clock()
        self._from: tuple[float, float] | None = None

    @property
    def is_worth_a_line(self) -> bool:
        """Whether there is anything to say yet."""
        return True

    def set(self, message: str, fraction_done: float) -> None:
        """Show `message` and a share of the work in [0, 1]."""
        now = self._shown.clock()
        if self._from is None:  # an earlier process says nothing about the speed of this one
            resumed = now - self._began_s < 1.0
            self._from = (now, fraction_done) if resumed else (self._began_s, 0.0)
        self._note, self._share = message, fraction_done
        self._shown.show()

    def note(self, message: str) -> None:
        """Show `message`, with an unknown share of the work done."""
        self._note, self._share, self._from = message, 0.0, None
        self._shown.show()

    def text(self) -> str:
        """Return the line: what is being done, the share done, and the time left or so far."""
        now = self._shown.clock()
        parts = [self._note] if self._note else []
        if self._share > 0:
            parts.append(f"{100 * self._share:.0f} % done")
        start_s, start = self._from or (now, 0.0)
        if start < self._share < 1 and now - start_s >= _EARLY_S:
            parts.append(f"~{span((now - start_s) * (1 - self._share) / (self._share - start))} left")
        elif now - self._began_s >= 1:
            parts.append(f"{span(now - self._began_s)} so far")
        return f"{self._title}: {', '.join(parts)}" if parts else self._title


class TrainingBar(Bar):
    """Progress of a training; implements `pruners.recover.fit.TrainProgress`."""

    def __init__(self, shown: Progress, title: str, epochs: int) -> None:
        super().__init__(shown, title)
        self._epochs = epochs

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show the progress of the epoch."""
        self.set(f"epoch {epoch}/{self._epochs}, loss {loss:.3f}", (epoch - 1 + step / steps) / self._epochs)

    def epoch(self, row: Epoch) -> None:
        """Show the result of an epoch; the last one leaves a line."""
        score = row.validation_score
        scored = "" if score is None else f", validation {score_brief(row.metric, score)}"
        line = f"epoch {row.epoch}/{self._epochs}: loss {row.train_loss:.3f}{scored}, {row.seconds:.1f} s"
        if row.epoch == self._epochs:
            self._shown.note(f"{self._title}: {line}")
        else:
            self.set(line, row.epoch / self._epochs)


class StepsBar(Bar):
    """Progress of a whole command: the step that it named last."""

    def __init__(self, shown: Progress, title: str) -> None:
        super().__init__(shown, title)
        self._named = False

    @property
    def is_worth_a_line(self) -> bool:
        """Whether a step was named, or the command has been running for a while."""
        return self._named or self._shown.clock() - self._began_s >= _EARLY_S

    def step(self, line: str) -> None:
        """Start another step: a log shows the first at once, then one every ten seconds."""
        first, self._named = not self._named, True
        self._title, self._began_s = line, self._shown.clock()
        self._shown.begin(at_once=first)


class Progress:
    """Shows the progress of a command; a `benchmarks.process.waiting.Watcher` of the work in its bars.

    Parameters
    ----------
    stream : TextIO, optional
        Where to write; default: stderr.
    clock : callable
        Returns the time in seconds.
    quiet : bool, optional
        Show only lines passed to `say`; default: like the command that started this process, see `QUIET`.
    """

    def __init__(
        self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic, quiet: bool | None = None
    ) -> None:
        self.clock = clock
        self.quiet = QUIET in os.environ if quiet is None else quiet
        self._stream = stream
        self._work: list[Bar] = []
        self._said_s = clock() - _STARTING_S
        self._live = False
        self._hushed = 0
        self._answering = False
        self._lock = threading.RLock()
        self._stop: threading.Event | None = None

    def note(self, line: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self.say(line)

    def say(self, line: str) -> None:
        """Print a line."""
        with self._lock:
            self._clear()
            self._out.write(f"{printable(line)}\n")
            self._out.flush()
            self._said_s = self.clock()

    def begin(self, *, at_once: bool) -> None:
        """Show a step that begins: on a terminal at once, in a log when a line is due or `at_once`."""
        with self._lock:
            self._answering = False
            if at_once or self._tty:
                self._said_s = -math.inf
            self.show()

    def show(self) -> None:
        """Show the progress of the current work, if a line is due."""
        with self._lock:
            if self.quiet or self._answering or not self._work or self.due_s() > 0:
                return
            if not self._work[-1].is_worth_a_line:
                return
            text = self._work[-1].text()
            if not self._tty:
                self.say(text)
                return
            over_the_last_line(self._out, _whole_words(text, shutil.get_terminal_size().columns - 1))
            self._live, self._said_s = True, self.clock()

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Stop waking up by itself until the end of the block, as something is timed."""
        self._hushed += 1
        self._speak_or_not()
        try:
            yield
        finally:
            self._hushed -= 1
            self._speak_or_not()

    def due_s(self) -> float:
        """Return the seconds until a line is due; zero or less if it is due."""
        live_s = _TIMED_LIVE_S if self._hushed else _LIVE_S
        return self._said_s + (live_s if self._tty else _LINE_S) - self.clock()

    def answer(self) -> None:
        """Clear the terminal for the answer; nothing is shown until the next step."""
        with self._lock:
            self._clear()
            self._answering = True

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """Show the work of the block; a log shows its title at once."""
        with self._shown(Bar(self, title)) as bar:
            yield bar

    @contextmanager
    def steps(self, title: str) -> Iterator[StepsBar]:
        """Show the steps of a whole command; if it names none, its title after some seconds."""
        bar = StepsBar(self, title)
        self._enter(bar)
        try:
            with watched_by(self):
                yield bar
        finally:
            self._leave()

    @contextmanager
    def training(self, title: str, epochs: int) -> Iterator[TrainingBar]:
        """Show a training of `epochs` epochs."""
        with self._shown(shown := TrainingBar(self, title, epochs)):
            yield shown

    @contextmanager
    def _shown(self, bar: Bar) -> Iterator[Bar]:
        if not (self.quiet or self._tty):
            self.say(bar.text())
        self._enter(bar)
        try:
            with watched_by(self):
                yield bar
        finally:
            self._leave()

    def _enter(self, bar: Bar) -> None:
        self._work.append(bar)
        self._speak_or_not()

    def _leave(self) -> None:
        with self._lock:
            self._work.pop()
            self._clear()
        self._speak_or_not()

    def _speak_or_not(self) -> None:
        """Start or end the thread that shows progress for work that reports none."""
        wanted = bool(self._work) and not self.quiet and not self._hushed
        if wanted and self._stop is None:
            self._stop = threading.Event()
            threading.Thread(target=self._speak, args=(self._stop,), daemon=True).start()
        elif not wanted and self._stop is not None:
            self._stop.set()
            self._stop = None

    def _speak(self, stop: threading.Event) -> None:
        while not stop.wait(1.0 if self._tty else max(1.0, self.due_s())):
            self.show()

    def _clear(self) -> None:
        if self._live:
            over_the_last_line(self._out, "")
            self._live = False

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stderr

    @property
    def _tty(self) -> bool:
        return self._out.isatty()


def _whole_words(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width + 1].rpartition(" ")[0]
