"""A check report as lines for a terminal: the verdict, the rows that need attention, then the kept ones in short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from deploy.ci.check_report import CheckReport, CheckRow, Outcome, RowVerdict
from deploy.ci.formats.figures import limits_table, measured
from deploy.ci.formats.verdict import WORDS, attention, ending_of_check, kept, outcome_of, setting_of, verdict_of
from deploy.files.printable import printable
from deploy.report.answer.lines import hanging
from deploy.report.table import Table, left
from deploy.report.terminal import print_results, print_table

__all__ = ["print_check"]

_STYLES: dict[RowVerdict, str] = {
    "failed": "bold red",
    "broken": "bold red",
    "unfit": "bold yellow",
    "inconclusive": "bold yellow",
    "kept": "green",
}
_OF_ALL: dict[Outcome, str] = {"failure": "bold red", "warning": "bold yellow", "passed": "bold green"}
_INDENT = "  "
_FACT = 7
"""Width of the name of a fact below a row."""


def print_check(report: CheckReport, console: Console | None = None, *, page: str = "", verbose: bool = False) -> None:
    """Print a check report, answer first.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    console : Console, optional
        Defaults to stdout.
    page : str, optional
        Path of the page.
    verbose : bool, default=False
        Whether to print everything measured for each model.
    """
    console = console or Console(highlight=False)
    style = _OF_ALL[outcome_of(report)]
    _print(_opening(report, console.width, style), console)
    if verbose:
        print_table(limits_table(report), console)
        for name, results in report.results.items():
            _print([Text(printable(name), "bold"), Text()], console)
            print_results(results, console, verbose=True)
    elif rows := kept(report):
        print_table(_kept(rows), console)
    _print(_closing(report, console.width, style, page), console)


def _print(lines: Iterable[Text], console: Console) -> None:
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True, highlight=False)


def _opening(report: CheckReport, width: int, style: str) -> Iterator[Text]:
    """Yield the verdict, and each row that is not kept with what to do about it."""
    yield from hanging(Text(), Text(printable(f"deploy check: {verdict_of(report)}")), width, style=style)
    yield from hanging(Text(_INDENT), Text(printable(setting_of(report))), width)
    yield Text()
    for row in attention(report):
        yield from _row(row, width)
        yield Text()


def _closing(report: CheckReport, width: int, style: str, page: str) -> Iterator[Text]:
    if page:
        yield from hanging(Text(f"{_INDENT}{'page':<{_FACT}}"), Text(printable(page)), width)
    ending = ending_of_check(report)
    yield from hanging(Text(), Text(printable(f"exit {ending.code}: {ending.sentence}")), width, style=style)


def _row(row: CheckRow, width: int) -> Iterator[Text]:
    word = WORDS[row.verdict].upper()
    yield from hanging(
        Text(_INDENT) + Text(word, _STYLES[row.verdict]) + Text(_INDENT),
        Text(printable(f"{row.where}: {row.reason}")),
        width,
    )
    facts = (("limit", f"{row.statement} ({row.limit})"), ("to do", row.remedy))
    for name, words in facts:
        if words:
            yield from hanging(Text(f"{_INDENT * 2}{name:<{_FACT}}"), Text(printable(words)), width)
    if row.outcome == "warning":
        yield from hanging(
            Text(f"{_INDENT * 2}{'':<{_FACT}}"), Text("a warning by the check file, not a failure"), width
        )


def _kept(rows: Iterable[CheckRow]) -> Table:
    cells = tuple((row.where, row.statement, measured(row)) for row in rows)
    return Table("Kept", (*left("Model", "Limit"), "Measured"), cells)
