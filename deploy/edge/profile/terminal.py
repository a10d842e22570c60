"""A profile in the terminal: the answer first, in lines of 80 columns, ASCII."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.machine.board.records import CoreKind
from deploy.edge.profile.headline import headline, labels, missing
from deploy.edge.profile.record import Profile
from deploy.edge.profile.tables import profile_tables
from deploy.exit_codes import measured_code
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.doubts import noise_parts
from deploy.report.formatting import size
from deploy.report.terminal import as_text, print_table

__all__ = ["board_line", "print_profile", "profile_code", "profile_lines"]

_WIDTH = 80
_NAME = 16


def print_profile(
    profile: Profile,
    *,
    output: Path | None = None,
    page: Path | None = None,
    verbose: bool = False,
    console: Console | None = None,
) -> None:
    """Print the answer, and with `verbose` all tables below.

    Parameters
    ----------
    profile : Profile
        The measured profile.
    output, page : Path, optional
        Paths of the profile and its page.
    verbose : bool, default=False
        Whether to print the tables too.
    console : Console, optional
        Defaults to stdout.
    """
    console = console or Console(highlight=False)
    for line in profile_lines(profile, output=output, page=page):
        console.print(as_text(line), soft_wrap=True)
    if verbose:
        console.print()
        for table in profile_tables(profile):
            print_table(table, console)


def profile_code(profile: Profile) -> int:
    """Return the exit code of a profile; a network slower than the other is a result, not an error."""
    return measured_code(profile.results.all_measurements(), accept_unfit=profile.results.accepts_unfit)


def profile_lines(profile: Profile, *, output: Path | None = None, page: Path | None = None) -> list[str]:
    """Write the answer of a profile.

    Parameters
    ----------
    profile : Profile
        The measured profile.
    output, page : Path, optional
        Paths of the profile and its page.
    """
    lines = [" -> ".join(labels(profile)), f"  {board_line(profile)}", ""]
    for fact in headline(profile):
        lines += _hanging(fact.title, " -> ".join(fact.values))
        lines += _hanging("", "; ".join(filter(None, fact.details)))
    lines.append("")
    code = profile_code(profile)
    answer = answer_of(profile.results, code)
    noise = answer.noise.grade or "not looked at"
    lines += _hanging("noise", ", ".join((noise, *noise_parts(answer))))
    for part, why in missing(profile):
        lines += _hanging(f"not: {part}", why)
    kept = ", ".join(map(str, filter(None, (page, output)))) or "-v prints all tables, -o and --page keep them"
    lines += _hanging("see", kept)
    lines += _hanging(f"exit {code}", answer.ending.sentence if code else "profiled")
    if answer.ending.remedy and code:
        lines += _hanging("to do", answer.ending.remedy)
    return lines


def board_line(profile: Profile) -> str:
    """Describe the board in one line."""
    board = profile.board
    name = board.model or board.cpu or "a board that does not tell its name"
    kinds = ", ".join(_cores(kind, name) for kind in board.kinds) or "cores not told"
    memory = "" if board.memory_bytes is None else f", {size(board.memory_limit_bytes or board.memory_bytes)}"
    return f"{name}: {kinds}{memory}"


def _cores(kind: CoreKind, name: str) -> str:
    number = len(kind.cores)
    if kind.name == name:
        return "1 core" if number == 1 else f"{number} cores"
    return f"{number} x {kind.title}"


def _hanging(name: str, words: str) -> Iterator[str]:
    head = f"  {name:<{_NAME}}"
    yield from textwrap.wrap(words, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) or [head.rstrip()]
