"""A check report as an HTML page: verdict and limits on the first screen, measurements of each model below."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from deploy.ci.check_report import CheckReport, CheckRow
from deploy.ci.formats.figures import limits_table, measured
from deploy.ci.formats.verdict import WORDS, attention, ending_of_check, kept, outcome_of, setting_of, verdict_of
from deploy.report.answer.machine import machine_facts
from deploy.report.drawing.bars import bar, scale_of
from deploy.report.formatting import NOTHING, minute
from deploy.report.page import model_parts
from deploy.report.pages.charts import Bar, Bars
from deploy.report.pages.rendering import render

__all__ = ["check_page"]


def check_page(report: CheckReport) -> str:
    """Return the whole page; the same report gives the same page."""
    ending = ending_of_check(report)
    return render(
        "check.html",
        title=report.title,
        verdict=verdict_of(report),
        outcome=outcome_of(report),
        code=ending.code,
        sentence=ending.sentence,
        charts=_charts(report),
        setting=setting_of(report),
        measured_on=report.environment.cpu or "unknown processor",
        day=minute(report.created_utc),
        version=report.tool_version,
        models=[
            {"name": name, **model_parts(results, f"model-{index}")}
            for index, (name, results) in enumerate(report.results.items())
        ],
        limits=limits_table(report),
        facts=_facts(report),
        machine=machine_facts(report.environment),
    )


def _charts(report: CheckReport) -> list[Bars]:
    parts = (("Not kept, the gravest first", attention(report)), ("Kept", kept(report)))
    return [Bars(title, _bars(rows, title[:1])) for title, rows in parts if rows]


def _bars(rows: Sequence[CheckRow], name: str) -> tuple[Bar, ...]:
    return tuple(_bar(row, f"limit-{name}-{index}") for index, row in enumerate(rows))


def _bar(row: CheckRow, name: str) -> Bar:
    value = measured(row)
    warning = "a warning by the check file, not a failure" if row.outcome == "warning" else ""
    told = [row.statement, row.reason, f"to do: {row.remedy}" if row.remedy else "", warning]
    return Bar(
        name=row.where,
        verdict=WORDS[row.verdict],
        value="" if value == NOTHING else value,
        detail="; ".join(filter(None, told)),
        tone=row.verdict,
        picture=_picture(row, name),
    )


def _picture(row: CheckRow, name: str) -> Markup:
    """Draw the measured value and the limit, if both are numbers."""
    if row.observed is None or row.allowed is None:
        return Markup()
    ends = None if row.low is None or row.high is None else (row.low, row.high)
    scale = scale_of([row.observed, row.allowed, *(ends or ())], 0.0)
    words = f"{row.where}: {measured(row)}, {WORDS[row.verdict]}; {row.statement}"
    return Markup(bar(name, words, scale, row.observed, ends, start=0.0, aim=row.allowed, tone=row.verdict))


def _facts(report: CheckReport) -> list[tuple[str, str]]:
    commit = report.commit
    facts = [
        ("check file", report.check_file),
        ("commit", "none" if commit is None else f"{commit.sha}{' with changes' if commit.dirty else ''}"),
        ("branch", (commit and commit.branch) or "none"),
        ("fingerprint of the machine", report.machine),
        ("budget", f"{report.budget_s:.0f} s"),
        ("took", f"{report.took_s:.0f} s"),
    ]
    return [(name, value) for name, value in facts if name != "branch" or commit is not None]
