"""Bar charts, one scale each: of channel groups, of the layers of one model or two, or of any rows (`charted`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from benchmarks.layers.comparison import LayerComparison, LayerReport
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.records.measurement import Subject
from deploy.bundles.pruning import GroupCount
from deploy.report.drawing.bars import bar, scale_of
from deploy.report.formatting import duration, percent
from deploy.report.layer_tables import layer_title
from deploy.report.pages.rendering import render
from deploy.report.table import Table

__all__ = ["Bar", "Bars", "Row", "change", "chart_page", "charted", "group_bars", "layer_charts", "pair_bars"]

_SHOWN = 12
"""Number of layers with a bar, slowest first; the tables have all."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Parameters
    ----------
    name, verdict, value, detail : str
        Subject, verdict, number, and the details behind it or why there is no number.
    tone : str
        Sets the colour: the name of a verdict, or ``"candidate"``.
    picture : Markup
        Empty if nothing was measured.
    """

    name: str
    verdict: str
    value: str
    detail: str
    tone: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class Bars:
    """Rows on one scale.

    Parameters
    ----------
    title : str
        What they show.
    rows : tuple of Bar
        From top to bottom.
    marks : tuple of (float, str)
        Labels below: position in percent of the width, and words.
    caption : str
        Caption of all rows.
    slim : bool, default=False
        Whether rows are close together: for many rows that are not on the first screen.
    """

    title: str
    rows: tuple[Bar, ...]
    marks: tuple[tuple[float, str], ...] = ()
    caption: str = ""
    slim: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """Data of one bar.

    Parameters
    ----------
    name, told, detail : str
        Subject, value in words, and the details behind it.
    value : float or None
        None: no value, and no bar.
    aim : float, optional
        End of the pale bar behind it.
    """

    name: str
    value: float | None
    told: str
    detail: str = ""
    aim: float | None = None


def charted(title: str, rows: Sequence[Row], name: str, *, caption: str = "") -> Bars:
    """Draw rows on one scale that starts at 0.

    Parameters
    ----------
    title : str
        What they show; may be empty if there is a heading above.
    rows : sequence of Row
        From top to bottom.
    name : str
        Identifier that is unique on the page.
    caption : str
        Caption of all rows.
    """
    scale = scale_of([end for row in rows for end in (row.value, row.aim) if end is not None] or [1.0], 0.0)
    drawn = []
    for index, row in enumerate(rows):
        picture = ""
        if row.value is not None:
            words = f"{row.name}: {row.told}"
            picture = bar(f"{name}-{index}", words, scale, row.value, None, start=0.0, aim=row.aim, tone="candidate")
        drawn.append(Bar(row.name, "", row.told, row.detail, "", Markup(picture)))
    return Bars(title, tuple(drawn), caption=caption, slim=True)


def chart_page(
    title: str,
    *,
    charts: Sequence[Bars],
    tables: Sequence[Table],
    lead: str = "",
    pictures: Sequence[tuple[str, Markup]] = (),
    facts: Sequence[tuple[str, str]] = (),
    facts_title: str = "How it was made",
) -> str:
    """Return a self-contained page.

    Parameters
    ----------
    title, lead : str
        Heading, and the answer in a sentence or two.
    charts : sequence of Bars
        Below the answer.
    tables : sequence of Table
        Collapsed, at the end.
    pictures : sequence of (str, Markup)
        Plots below the charts, each with its heading.
    facts : sequence of (str, str)
        Names and values, collapsed.
    facts_title : str
        Their heading.
    """
    return render(
        "charts.html",
        title=title,
        lead=lead,
        charts=charts,
        pictures=pictures,
        tables=tables,
        facts=facts,
        facts_title=facts_title,
    )


def group_bars(groups: Sequence[GroupCount], name: str) -> Bars:
    """Return a bar for each channel group: its length is the original width, its fill the kept part.

    Parameters
    ----------
    groups : sequence of GroupCount
        At least one.
    name : str
        Identifier that is unique on the page.
    """
    rows = [Row(row.name, row.kept, f"{row.kept} of {row.of}", aim=row.of) for row in groups]
    kept, of = sum(row.kept for row in groups), sum(row.of for row in groups)
    counted = "this group" if len(groups) == 1 else f"these {len(groups)} groups"
    caption = f"{kept} of {of} units of {counted} are kept ({percent(kept / of)}); pale is what was removed."
    return charted("", rows, name, caption=caption)


def layer_charts(report: LayerReport) -> list[Bars]:
    """Return the bars of each model profiled alone, then of each pair."""
    charts = [_layer_bars(one, f"layers-{index}") for index, one in enumerate(report.profiles)]
    return charts + [pair_bars(one, f"layers-{index}") for index, one in enumerate(report.comparisons, len(charts))]


def _layer_bars(profile: LayerProfile, name: str) -> Bars:
    """Return a bar for each of the slowest layers of one model.

    Parameters
    ----------
    profile : LayerProfile
        Of the model.
    name : str
        Identifier that is unique on the page.
    """
    timed = [row for row in profile.rows if row.time_ns is not None and row.kind != "gaps"]
    rows = []
    for row in sorted(timed, key=lambda row: -(row.time_ns or 0))[:_SHOWN]:
        share = "" if row.share is None else f"{percent(row.share, 1)} of a call"
        detail = ", ".join(filter(None, (share, *row.ops[:4])))
        spent = row.time_ns or 0
        rows.append(Row(layer_title(row), spent, duration(spent), detail))
    title = f"The slowest layers of {profile.subject.label} on {profile.subject.backend}"
    return charted(title, rows, name, caption=_setting(profile.subject, len(timed)))


def pair_bars(pair: LayerComparison, name: str) -> Bars:
    """Return a bar for each of the slowest layers of two models, the baseline's in pale behind the candidate's.

    Parameters
    ----------
    pair : LayerComparison
        Of the two models.
    name : str
        Identifier that is unique on the page.
    """
    both = [one for one in pair.pairs if one.name != "gaps" and (one.baseline_ns or one.candidate_ns)]
    rows = []
    for one in sorted(both, key=lambda one: -max(one.baseline_ns or 0, one.candidate_ns or 0))[:_SHOWN]:
        told = change(*("none" if ns is None else duration(ns) for ns in (one.baseline_ns, one.candidate_ns)))
        rows.append(Row(one.name, one.candidate_ns or 0, told, "; ".join(one.reasons), one.baseline_ns))
    before, after = pair.baseline.subject.label, pair.candidate.subject
    title = f"The slowest layers on {after.backend}: {after.label}, and pale behind it {before}"
    return charted(title, rows, name, caption=_setting(after, len(both)))


def change(before: str, after: str) -> str:
    """Write both values; a shared unit is written once."""
    number, _, unit = before.partition(" ")
    return f"{number if unit and after.endswith(f' {unit}') else before} \N{RIGHTWARDS ARROW} {after}"


def _setting(subject: Subject, n_layers: int) -> str:
    threads = "1 thread" if subject.threads == 1 else f"{subject.threads} threads"
    more = f" {n_layers - _SHOWN} more are in the table." if n_layers > _SHOWN else ""
    return f"Profiled in {subject.precision}, with {threads}, batch {subject.batch}.{more}"
