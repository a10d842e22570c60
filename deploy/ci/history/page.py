"""Render a history as one HTML file without scripts: a chart per series, with a table of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from markupsafe import Markup

from deploy.ci.history.figures import (
    CHANGE_WORDS,
    METRICS,
    about,
    change_line,
    change_words,
    interval_words,
    open_commits,
    point_table,
    title_of,
    value_words,
)
from deploy.ci.history.judging import Judged, KeptChange
from deploy.ci.history.series import CommitPoint
from deploy.report.drawing.series import Level, Mark, series_plot
from deploy.report.formatting import NOTHING, minute
from deploy.report.pages.rendering import render

__all__ = ["Shown", "history_page"]

_NEWEST = 10
"""Number of changes listed above the charts."""
_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "_ns": ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")),
    "_bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1.0, "bytes")),
}
_POWERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_MORE_IS_BETTER = frozenset({"throughput_per_s", "speedup", "accuracy", "psnr"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A series with its points.

    Parameters
    ----------
    judged : Judged
        The series and its changes.
    commits : tuple of CommitPoint
        In order; at least one.
    """

    judged: Judged
    commits: tuple[CommitPoint, ...]


def history_page(name: str, shown: Sequence[Shown]) -> str:
    """Return the whole page; the same history gives the same page.

    Parameters
    ----------
    name : str
        Name of the file.
    shown : sequence of Shown
        Sorted by model; may be empty.
    """
    changes = sorted(
        ((one, change) for one in shown for change in one.judged.changes or ()),
        key=lambda pair: pair[1].created_utc,
        reverse=True,
    )
    return render(
        "history.html",
        title=f"{name}: results over time",
        lead=_lead(shown, len(changes)),
        explained=f"{CHANGE_WORDS} What is counted (file size, MACs, parameters) needs no test. Axes of values do not "
        "begin at 0. Hollow: not judged yet, or measured on a machine that was not fit.",
        changes_title="Changes" if len(changes) <= _NEWEST else f"The newest {_NEWEST} changes",
        changes=[_listed(one, change) for one, change in changes[:_NEWEST]],
        models=[
            {"name": model, "series": [_section(one) for one in of_model]}
            for model, of_model in groupby(shown, key=lambda one: one.judged.series.model)
        ],
    )


def _lead(shown: Sequence[Shown], n_changes: int) -> str:
    if not shown:
        return "There is no series to show."
    models = {one.judged.series.model for one in shown}
    days = sorted(point.created_utc[:10] for one in shown for commit in one.commits for point in commit.points)
    counted = f"{_number(len(shown), 'series', 'series')} of {_number(len(models), 'model', 'models')}"
    missing = sum(one.judged.changes is None for one in shown)
    unseen = f" In {missing} of them changes were not looked for." if missing else ""
    return f"{counted}, measured from {days[0]} to {days[-1]}: {_number(n_changes, 'change', 'changes')}.{unseen}"


def _number(n: int, one: str, more: str) -> str:
    return f"{n} {one if n == 1 else more}"


def _listed(one: Shown, change: KeptChange) -> dict[str, str]:
    metric = one.judged.series.metric
    size = change_words(metric, change)
    return {
        "anchor": _anchor(one),
        "series": title_of(one.judged.series),
        "size": size,
        "tone": _tone(metric, change),
        "words": change_line(metric, change).removeprefix(f"{size} "),
    }


def _anchor(one: Shown) -> str:
    return f"series-{one.judged.series.id}"


def _tone(metric: str, change: KeptChange) -> str:
    return "gain" if (change.after > change.before) == (metric in _MORE_IS_BETTER) else "loss"


def _section(one: Shown) -> dict[str, Any]:
    series, table = one.judged.series, point_table(one.judged, one.commits)
    title = f"{METRICS.get(series.metric, series.metric)}{f' on {series.place}' if series.place else ''}"
    return {
        "anchor": _anchor(one),
        "title": title,
        "picture": Markup(_plot(one)),
        "caption": about(one.judged, one.commits),
        "table": replace(table, title=f"{title_of(series)} (series {series.id}), table", caption=""),
    }


def _plot(one: Shown) -> str:
    series, commits = one.judged.series, one.commits
    metric = series.metric
    not_judged = set(map(id, open_commits(metric, commits)))
    marks = [
        Mark(
            value=commit.value,
            low=commit.points[0].low if len(commit.points) == 1 else None,
            high=commit.points[0].high if len(commit.points) == 1 else None,
            words=_hover(metric, commit),
            date=(commit.points[0].committed_utc or commit.points[0].created_utc)[:10],
            tone="unfit" if commit.unfit else "open" if id(commit) in not_judged else "",
        )
        for commit in commits
    ]
    told = [change_line(metric, change) for change in one.judged.changes or ()]
    described = f"{_number(len(commits), 'commit', 'commits')}, the last at {value_words(metric, commits[-1].value)}. "
    described += f"Changes: {'; '.join(told) or 'none'}."
    unit = _unit(metric, max(mark.value for mark in marks))
    return series_plot(_anchor(one) + "-chart", title_of(series), described, unit, marks, _levels(one))


def _hover(metric: str, commit: CommitPoint) -> str:
    interval = interval_words(metric, commit)
    more = f" of {len(commit.points)} runs" if len(commit.points) > 1 else "" if interval == NOTHING else f" {interval}"
    unfit = ", machine not fit" if commit.unfit else ""
    value = value_words(metric, commit.value)
    return f"{commit.name}, {minute(commit.points[-1].created_utc)}: {value}{more}{unfit}"


def _levels(one: Shown) -> list[Level]:
    """Return the level before the first change, and the level after each."""
    metric = one.judged.series.metric
    places = {(commit.points[0].sha, commit.points[0].created_utc): place for place, commit in enumerate(one.commits)}
    # Another process may have added an earlier run of the same commit in the meantime.
    changes = [change for change in one.judged.changes or () if (change.sha, change.created_utc) in places]
    if not changes:
        return []
    begins = [0, *(places[change.sha, change.created_utc] for change in changes)]
    ends = [*begins[1:], len(one.commits)]
    values = [changes[0].before, *(change.after for change in changes)]
    words = ["", *(change_words(metric, change).partition(" [")[0] for change in changes)]
    tones = ["", *(_tone(metric, change) for change in changes)]
    return [
        Level(begin=begin, end=end, value=value, words=word, tone=tone)
        for begin, end, value, word, tone in zip(begins, ends, values, words, tones, strict=True)
    ]


def _unit(metric: str, high: float) -> tuple[float, str]:
    """Return the unit of the axis: its scale, and the axis label with metric and unit."""
    called = METRICS.get(metric, metric)
    for ending, units in _UNITS.items():
        if metric.endswith(ending):
            scale, unit = next((one for one in units if high >= one[0]), units[-1])
            return scale, f"{called} [{unit}]"
    match metric:
        case "accuracy":
            return 0.01, f"{called} [%]"
        case "psnr":
            return 1.0, f"{called} [dB]"
        case "speedup":
            return 1.0, f"{called} [times]"
        case "throughput_per_s":
            scale, prefix = next((one for one in _POWERS if high >= one[0]), _POWERS[-1])
            return scale, f"{called} [{prefix}/s]" if prefix else f"{called} [1/s]"
        case _:
            scale, prefix = next((one for one in _POWERS if high >= one[0]), _POWERS[-1])
            return scale, f"{called} [{prefix}]" if prefix else called
