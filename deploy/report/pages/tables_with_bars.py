"""Pages of ``deploy layers`` and ``deploy load``: bars for what is looked for first, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from benchmarks.layers.comparison import LayerComparison, LayerReport
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.scenarios.load import LoadMeasurement
from deploy.report.drawing.bars import bar, scale_of
from deploy.report.formatting import NOTHING, duration, percent, rate
from deploy.report.layer_tables import comparison_tables, layer_title, profile_tables
from deploy.report.load_table import load_table, per_second
from deploy.report.pages.first_screen import Bar, Bars
from deploy.report.pages.rendering import render

__all__ = ["layer_page", "load_page"]

_SHOWN = 12
"""Layers with a bar, the slowest first; the tables hold all."""


def layer_page(report: LayerReport) -> str:
    """Make the page of layers: of each model alone, and of each pair dense behind pruned.

    Parameters
    ----------
    report : LayerReport
        At least one profile or comparison.
    """
    charts = [_of_profile(one, index) for index, one in enumerate(report.profiles)]
    charts += [_of_pair(one, index) for index, one in enumerate(report.comparisons, len(charts))]
    tables = [table for one in report.profiles for table in profile_tables(one)]
    for pair in report.comparisons:
        tables += comparison_tables(pair)
        tables += [table for one in (pair.baseline, pair.candidate) for table in profile_tables(one)]
    labels = [one.subject.label for one in report.profiles]
    labels += [f"{one.candidate.subject.label} against {one.baseline.subject.label}" for one in report.comparisons]
    title = f"{', '.join(dict.fromkeys(labels))}: where the time of a call goes"
    return render("bars.html", title=title, charts=charts, tables=tables)


def load_page(measurements: Sequence[LoadMeasurement]) -> str:
    """Make the page of a load: requests per second in a bar for each row.

    Parameters
    ----------
    measurements : sequence of LoadMeasurement
        Of one scenario; at least one did not fail.
    """
    table = load_table(measurements)
    known = [per_second(one.result) or 0.0 for one in measurements if one.result is not None]
    scale = scale_of(known, 0.0)
    rows = []
    for index, (one, cells) in enumerate(zip(measurements, table.rows, strict=True)):
        name = f"{one.subject.backend}, streams {one.subject.streams}"
        speed = None if one.result is None else per_second(one.result)
        told = dict(zip(table.columns, cells, strict=True))
        tail = (f"{share} {told[share]}" for share in ("p50", "p90", "p99") if told[share] != NOTHING)
        detail = one.failure or ", ".join(tail)
        picture = Markup() if speed is None else Markup(bar(f"load-{index}", name, scale, speed, None, start=0.0))
        value = "" if speed is None else f"{rate(speed)}/s"
        rows.append(Bar(name, "failed" if one.result is None else "", value, detail, "", picture))
    chart = Bars("Examples per second", tuple(rows), ((0.0, "0"),))
    title = f"{measurements[0].subject.label} under load"
    return render("bars.html", title=title, charts=[chart], tables=[table])


def _of_profile(profile: LayerProfile, index: int) -> Bars:
    timed = [row for row in profile.rows if row.time_ns is not None and row.kind != "gaps"]
    shown = sorted(timed, key=lambda row: -(row.time_ns or 0))[:_SHOWN]
    scale = scale_of([float(row.time_ns or 0) for row in shown] or [1.0], 0.0)
    rows = []
    for place, row in enumerate(shown):
        spent = float(row.time_ns or 0)
        words = f"{layer_title(row)}: {duration(spent)}"
        picture = Markup(bar(f"layer-{index}-{place}", words, scale, spent, None, start=0.0))
        share = "" if row.share is None else f"{percent(row.share, 1)} of a call"
        rows.append(
            Bar(layer_title(row), "", duration(spent), ", ".join(filter(None, (share, *row.ops[:4]))), "", picture)
        )
    title = f"The slowest layers of {profile.subject.label} on {profile.subject.backend}"
    return Bars(title, tuple(rows), ((0.0, "0"),))


def _of_pair(pair: LayerComparison, index: int) -> Bars:
    both = [one for one in pair.pairs if one.name != "gaps" and (one.baseline_ns or one.candidate_ns)]
    shown = sorted(both, key=lambda one: -max(one.baseline_ns or 0, one.candidate_ns or 0))[:_SHOWN]
    ends = [float(ns) for one in shown for ns in (one.baseline_ns, one.candidate_ns) if ns is not None]
    scale = scale_of(ends or [1.0], 0.0)
    labels = pair.baseline.subject.label, pair.candidate.subject.label
    rows = []
    for place, one in enumerate(shown):
        before, after = (None if ns is None else float(ns) for ns in (one.baseline_ns, one.candidate_ns))
        told = " \N{RIGHTWARDS ARROW} ".join("none" if ns is None else duration(ns) for ns in (before, after))
        drawn = bar(f"pair-{index}-{place}", f"{one.name}: {told}", scale, after or 0.0, None, start=0.0, aim=before)
        rows.append(Bar(one.name, "", told, "; ".join(one.reasons), "", Markup(drawn)))
    title = f"The slowest layers on {pair.candidate.subject.backend}: {labels[1]}, and pale behind it {labels[0]}"
    return Bars(title, tuple(rows), ((0.0, "0"),))
