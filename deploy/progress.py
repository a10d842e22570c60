"""Bars and lines on stderr while the torch half of a run works; one line a step where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["Bar", "Progress"]


class Bar:
    """One bar; `set` is the callback that pruning methods know."""

    def __init__(self, console: Console, rich_bar: RichProgress, task: TaskID) -> None:
        self._console = console
        self._bar = rich_bar
        self._task = task

    def set(self, message: str, fraction_done: float) -> None:
        """Show `message` and a share of the work in [0, 1]."""
        self._bar.update(self._task, completed=100 * fraction_done, note=message)


class Progress:
    """Where the torch half of a run says what it does."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    @contextmanager
    def bar(self, title: str) -> Iterator[Bar]:
        """Show a bar while the block runs, and its title once in a log."""
        if not self.console.is_terminal:
            self.console.print(title)
        with self._rich() as rich_bar:
            yield Bar(self.console, rich_bar, rich_bar.add_task(title, total=100, note=""))

    def _rich(self) -> RichProgress:
        return RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
