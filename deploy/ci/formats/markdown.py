"""A check report as Markdown that GitHub and GitLab render alike: verdict, rows to act on, the rest folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deploy.ci.check_report import CheckReport, CheckRow, Outcome
from deploy.ci.formats.figures import measured
from deploy.ci.formats.verdict import WORDS, attention, ending_of_check, kept, outcome_of, setting_of, verdict_of
from deploy.files.printable import printable
from deploy.report.answer.doubts import doubts_of
from deploy.report.answer.machine import machine_facts

__all__ = ["inline", "markdown_summary"]

_SIGNS: dict[Outcome, str] = {
    "failure": "\N{CROSS MARK}",
    "warning": "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}",
    "passed": "\N{WHITE HEAVY CHECK MARK}",
}
_LONGEST = 500
"""Maximum characters of one piece of external text."""
_MARKUP = re.compile(r"([\\`*_\[\]{}|~^])")
_REFERENCE = re.compile(r"([@#!%])(?=\w)|(?<=\w)(-)(?=\d)")
"""What both servers turn into links and notifications: @name, #1, !1, GH-1."""


def inline(text: str) -> str:
    """Escape external text so that it is shown verbatim on one line: no markup, HTML, mention or link."""
    shown = printable(text)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = _MARKUP.sub(r"\\\1", shown)
    # A zero-width character ends a reference; an entity inside a URL prevents automatic linking of plain text.
    shown = _REFERENCE.sub(lambda found: f"{found.group()}&#8203;", shown)
    shown = shown.replace("://", "&#58;//").replace("www.", "www&#46;")
    return shown.replace("$", "<span>$</span>")


def markdown_summary(report: CheckReport, most_bytes: int | None = None) -> str:
    """Return the summary.

    Parameters
    ----------
    report : CheckReport
        Report of one job.
    most_bytes : int, optional
        If longer, the folded parts and then the least severe rows are dropped, with a note.
    """
    rows = attention(report)
    folded = [_kept(report), _machine(report), _doubts(report)]
    text = _page(report, rows, folded)
    if most_bytes is None or _size(text) <= most_bytes:
        return text
    while folded:
        folded.pop()
        text = _page(report, rows, [*folded, _left_out(report, len(rows), folded)])
        if _size(text) <= most_bytes:
            return text
    # Binary search for the number of rows that fit.
    fits, too_many = 0, len(rows)
    while too_many - fits > 1:
        half = (fits + too_many) // 2
        if _size(_page(report, rows[:half], [_left_out(report, half, [])])) <= most_bytes:
            fits = half
        else:
            too_many = half
    return _page(report, rows[:fits], [_left_out(report, fits, [])])


def _page(report: CheckReport, rows: Sequence[CheckRow], folded: Iterable[str]) -> str:
    ending = ending_of_check(report)
    made_by = f"{report.environment.cpu or 'unknown processor'}, prune-deploy {report.tool_version}"
    parts = [
        f"## {_SIGNS[outcome_of(report)]} deploy check: {inline(verdict_of(report))}",
        f"Checked: {inline(setting_of(report))}. {inline(made_by)}.",
    ]
    if rows:
        parts += [_table(rows), _remedies(rows)]
    parts += folded
    parts.append(f"Exit code {ending.code}: {inline(ending.sentence)}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(rows: Iterable[CheckRow]) -> str:
    lines = ["| Model | Limit | Measured | Verdict |", "| :--- | :--- | ---: | :--- |"]
    for row in rows:
        verdict = f"{_SIGNS[row.outcome]} {WORDS[row.verdict]}"
        lines.append(f"| {inline(row.where)} | {inline(row.statement)} | {inline(measured(row))} | {verdict} |")
    return "\n".join(lines)


def _remedies(rows: Iterable[CheckRow]) -> str:
    """List why each row is not kept, and what to do about it."""
    return "\n".join(
        f"- **{inline(row.where)}**, {inline(row.limit)}: {inline(row.reason)}"
        + (f". To do: {inline(row.remedy)}" if row.remedy else "")
        for row in rows
    )


def _kept(report: CheckReport) -> str:
    rows = kept(report)
    if not rows:
        return ""
    return _folded("1 limit kept" if len(rows) == 1 else f"{len(rows)} limits kept", _table(rows))


def _machine(report: CheckReport) -> str:
    facts = [f"| {inline(name)} | {inline(value)} |" for name, value in machine_facts(report.environment)]
    return _folded("Machine", "\n".join(["| Fact | Value |", "| :--- | :--- |", *facts]))


def _doubts(report: CheckReport) -> str:
    lines = [
        f"- {inline(name)}: {inline(doubt.words)} ({inline(', '.join(doubt.where))})"
        for name, results in report.results.items()
        for doubt in doubts_of(results)
    ]
    if not lines:
        return ""
    return _folded("1 caveat" if len(lines) == 1 else f"{len(lines)} caveats", "\n".join(lines))


def _folded(title: str, body: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _left_out(report: CheckReport, n_rows: int, folded: Sequence[str]) -> str:
    """Return the note that says what did not fit."""
    missing = len(attention(report)) - n_rows
    what = [f"{missing} more {'row that is' if missing == 1 else 'rows that are'} not kept"] if missing else []
    names = ("the limits that are kept", "the machine", "the caveats")
    what += names[len(folded) :]
    return f"Left out, as there is no room for it: {', '.join(what)}. The report has them all."


def _size(text: str) -> int:
    return len(text.encode())
