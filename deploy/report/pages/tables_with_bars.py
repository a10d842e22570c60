"""Pages of ``deploy layers`` and ``deploy load``: bars for what is looked for first, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from benchmarks.layers.comparison import LayerReport
from benchmarks.scenarios.load import LoadMeasurement
from deploy.report.drawing.bars import bar, scale_of
from deploy.report.formatting import NOTHING, rate
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.report.load_table import load_table, per_second
from deploy.report.pages.charts import Bar, Bars, layer_bars, pair_bars
from deploy.report.pages.rendering import render

__all__ = ["layer_page", "load_page"]


def layer_page(report: LayerReport) -> str:
    """Make the page of layers: of each model alone, and of each pair dense behind pruned.

    Parameters
    ----------
    report : LayerReport
        At least one profile or comparison.
    """
    charts = [layer_bars(one, f"layers-{index}") for index, one in enumerate(report.profiles)]
    charts += [pair_bars(one, f"layers-{index}") for index, one in enumerate(report.comparisons, len(charts))]
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
