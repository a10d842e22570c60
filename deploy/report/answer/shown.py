"""Results as shown in Python: `repr`, notebook view, and the rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import nan
from typing import Any

from deploy.files.printable import printable
from deploy.report.answer.deriving import answer_of
from deploy.report.answer.records import Answer, BackendAnswer
from deploy.report.formatting import duration, interval, ratio, score, size
from deploy.results.results import Results

__all__ = ["ShownByAnswer", "show_results"]

_MOST = 1900
"""Most characters of a `repr`."""
_NONE = "-"


class ShownByAnswer:
    """Shows results by their `Answer`; see `deploy.results.results.Shows`."""

    def text(self, results: Results) -> str:
        """Return the answer in a few lines."""
        answer = answer_of(results)
        rows = ["  ".join(cell for cell in _said(*_cells(row)) if cell != _NONE) for row in answer.backends]
        lines = [f"Results: {answer.subject} ({answer.machine})", *rows, *_facts(answer)]
        text = "\n  ".join(printable(line) for line in lines)
        return text if len(text) <= _MOST else f"{text[:_MOST]}..."

    def html(self, results: Results) -> str:
        """Return the same for a notebook: one table, and lines below it."""
        answer = answer_of(results)
        titles = ("verdict", "backend", "speed-up", "time", "promised", "why")
        head = "".join(f"<th>{title}</th>" for title in titles)
        body = "".join(
            "<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in _cells(row)) + "</tr>" for row in answer.backends
        )
        facts = "<br>".join(_safe(line) for line in _facts(answer))
        return (
            f"<div><b>{_safe(answer.subject)}</b> ({_safe(answer.machine)})"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{facts}</div>"
        )

    def rows(self, results: Results) -> list[dict[str, Any]]:
        """Return one row for each backend at one number of threads and batch; unknown numbers are NaN."""
        return [_row(row) for row in answer_of(results).backends]


def show_results() -> None:
    """Show all results by their answer."""
    Results.shown_by = ShownByAnswer()


def _cells(row: BackendAnswer) -> tuple[str, ...]:
    times = [duration(side.p50_ns) for side in (row.baseline, row.candidate) if side is not None]
    return (
        row.verdict,
        row.place,
        _NONE if row.speedup is None else interval(row.speedup),
        " -> ".join(times) or _NONE,
        _NONE if row.promised is None else ratio(row.promised),
        row.reason or _NONE,
    )


def _said(verdict: str, place: str, speedup: str, times: str, promised: str, why: str) -> tuple[str, ...]:
    """Return the cells as written without column titles."""
    return verdict, place, speedup, times, promised if promised == _NONE else f"promised {promised}", why


def _facts(answer: Answer) -> Iterator[str]:
    scores = answer.scores
    if scores is not None and scores.after is not None:
        before = "" if scores.before is None else f"{score(scores.metric, scores.before)} -> "
        yield f"{scores.metric} {before}{score(scores.metric, scores.after)} {scores.verdict}".rstrip()
    before = "" if answer.size.before is None else f"{size(answer.size.before)} -> "
    yield f"size {before}{size(answer.size.after)}"
    if answer.checked.wrong:
        yield f"wrong answers: {', '.join(answer.checked.wrong)}"
    if answer.noise.grade is not None:
        yield f"noise {answer.noise.grade} ({answer.noise.signs} signs)"
    yield f"exit code {answer.ending.code}: {answer.ending.sentence}"


def _row(row: BackendAnswer) -> dict[str, Any]:
    numbers: dict[str, float | None] = {}
    for name, side in (("baseline", row.baseline), ("candidate", row.candidate)):
        for field in ("p50_ns", "p90_ns", "p99_ns", "per_second", "peak_bytes"):
            numbers[f"{name}_{field}"] = None if side is None else getattr(side, field)
    for name in ("value", "low", "high"):
        cell = "speedup" if name == "value" else f"speedup_{name}"
        numbers[cell] = None if row.speedup is None else getattr(row.speedup, name)
    numbers |= {"promised": row.promised, "realised": row.realised}
    return {
        "place": printable(row.place),
        "verdict": row.verdict,
        **{name: nan if number is None else float(number) for name, number in numbers.items()},
        "reason": printable(row.reason),
    }


def _safe(text: str) -> str:
    return escape(printable(text))
