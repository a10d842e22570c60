"""Bars and lines on stderr while the torch half of a run works; one line a step where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from deploy.report.formatting import score_brief

if TYPE_CHECKING:
    from rich.progress import TaskID

    from pruners.recover.fit import Epoch

__all__ = ["Bar", "Progress", "TrainingBar"]


class Bar:
    """One bar; `set` is the callback that pruning methods know."""

    def __init__(self, console: Console, rich_bar: RichProgress, task: TaskID) -> None:
        self._console = console
        self._bar = rich_bar
        self._task = task

    def set(self, message: str, fraction_done: float) -> None:
        """Show `message` and a share of the work in [0, 1]."""
        self._bar.update(self._task, completed=100 * fraction_done, note=message)


class TrainingBar(Bar):
    """The bar of a training; follows `pruners.recover.fit.TrainProgress`."""

    def __init__(self, console: Console, rich_bar: RichProgress, task: TaskID, title: str, epochs: int) -> None:
        super().__init__(console, rich_bar, task)
        self._title = title
        self._epochs = epochs

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Show how far the epoch is."""
        self.set(f"epoch {epoch}/{self._epochs} loss {loss:.3f}", (epoch - 1 + step / steps) / self._epochs)

    def epoch(self, row: Epoch) -> None:
        """Leave a line for each epoch in a log."""
        score = row.validation_score
        scored = "" if score is None else f", validation {score_brief(row.metric, score)}"
        line = f"epoch {row.epoch}/{self._epochs}: loss {row.train_loss:.3f}{scored}, {row.seconds:.1f} s"
        self.set(line, row.epoch / self._epochs)
        if not self._console.is_terminal:
            self._console.print(f"{self._title}: {line}")


class Progress:
    """Shows what the torch half of a run does."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._shown: RichProgress | None = None

    def say(self, line: str) -> None:
        """Leave a line, above the bars."""
        self.console.print(line, markup=False)

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """Show a bar while the block runs, and its title once in a log."""
        if not self.console.is_terminal:
            self.console.print(title)
        with self._display() as rich_bar, self._task(rich_bar, title) as task:
            yield Bar(self.console, rich_bar, task)

    @contextmanager
    def training(self, title: str, epochs: int) -> Iterator[TrainingBar]:
        """Show a bar for a training of so many epochs; below that of a step that it is part of."""
        with self._display() as rich_bar, self._task(rich_bar, title) as task:
            yield TrainingBar(self.console, rich_bar, task, title, epochs)

    @contextmanager
    def _task(self, rich_bar: RichProgress, title: str) -> Iterator[TaskID]:
        task = rich_bar.add_task(title, total=100, note="")
        try:
            yield task
        finally:
            rich_bar.remove_task(task)

    @contextmanager
    def _display(self) -> Iterator[RichProgress]:
        """Show what is there once: a terminal has one live display."""
        if self._shown is not None:
            yield self._shown
            return
        with self._rich() as rich_bar:
            self._shown = rich_bar
            try:
                yield rich_bar
            finally:
                self._shown = None

    def _rich(self) -> RichProgress:
        return RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
