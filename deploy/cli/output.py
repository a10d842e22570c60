"""Output of the commands: progress on stderr, the answer on stdout.

`watched` shows the progress of a command, see `deploy.run.progress`; output to stdout ends its live line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TextIO, cast

import typer
from pydantic import BaseModel
from rich.console import Console

from deploy.exit_codes import OK, UNFIT
from deploy.files.advice import Place, advised, fitting
from deploy.files.printable import printable
from deploy.report.table import Table
from deploy.report.terminal import as_text, print_block, print_table
from deploy.run.progress import Progress, StepsBar

__all__ = [
    "json_array",
    "leave",
    "note",
    "print_answer",
    "print_json",
    "print_line",
    "print_tables",
    "say",
    "tell",
    "watched",
]


class _Watched(NamedTuple):
    """The running command."""

    progress: Progress
    steps: StepsBar


_command: ContextVar[_Watched | None] = ContextVar("command", default=None)


@contextmanager
def watched(title: str, *, quiet: bool, options: frozenset[str], recipe: bool) -> Iterator[None]:
    """Show the progress of a command, and adapt its messages to it.

    Parameters
    ----------
    title : str
        Its name, shown until it names a step.
    quiet : bool
        Show nothing but what it prints by `say`.
    options, recipe
        What its messages may name, see `deploy.files.advice.Place`.
    """
    progress = Progress(quiet=quiet)
    stdout = sys.stdout
    with progress.steps(title) as steps:
        before = _command.set(_Watched(progress, steps))
        sys.stdout = cast("TextIO", _Stdout(stdout, progress))
        try:
            with advised(Place(options, recipe)):
                yield
        finally:
            sys.stdout = stdout
            _command.reset(before)


class _Stdout:
    """Standard output, which ends the live progress line before anything is written."""

    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._progress.answer()
        return self._stream.write(text)


def tell(line: str) -> None:
    """Name the current step of a command; not shown with ``--quiet``."""
    if (command := _command.get()) is None:
        say(line)
    else:
        command.steps.step(line)


def note(line: str) -> None:
    """Print one lasting line on stderr; not shown with ``--quiet``."""
    if (command := _command.get()) is None:
        say(line)
    else:
        command.progress.note(fitting(line))


def say(line: str) -> None:
    """Print one line on stderr, made printable; its advice is adapted to the command."""
    line = fitting(line)
    if (command := _command.get()) is None:
        typer.echo(printable(line), err=True)
    else:
        command.progress.say(line)


def print_line(line: str = "") -> None:
    """Print one line on stdout, made printable."""
    typer.echo(printable(line))


def print_json(text: str) -> None:
    """Print a JSON document on stdout; control characters are escaped as in JSON."""
    typer.echo(printable(text, "\n"))


def leave(code: int, *, told: bool = False) -> None:
    """End the command with the exit code of its measurement; one line says if the machine was unfit.

    Parameters
    ----------
    code : int
        See `deploy.exit_codes`.
    told : bool, default=False
        Whether the answer already says what the code means.

    Raises
    ------
    typer.Exit
        The code is not 0.
    """
    if code == UNFIT and not told:
        say(
            "deploy: the machine was not fit for measuring (the reasons are next to the numbers): measure again when "
            "it is quieter, or accept the numbers with --accept-unfit"
        )
    if code != OK:
        raise typer.Exit(code)


def json_array(records: Iterable[BaseModel]) -> str:
    """Write records as one JSON array."""
    return "[" + ",\n".join(record.model_dump_json(indent=1) for record in records) + "]"


def print_answer(text: str) -> None:
    """Print a paragraph on stdout, as wide as the terminal, then an empty line."""
    console = Console(highlight=False)
    print_block(as_text(text, style="bold"), console)
    console.print()


def print_tables(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal."""
    console = Console(highlight=False)
    for table in tables:
        print_table(table, console)
