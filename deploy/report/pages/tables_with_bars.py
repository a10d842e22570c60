"""Pages of ``deploy layers`` and ``deploy load``: bars for the main result, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.layers.comparison import LayerReport
from benchmarks.scenarios.load import LoadMeasurement
from deploy.report.formatting import NOTHING, rate
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.report.load_table import load_table, per_second
from deploy.report.pages.charts import Row, chart_page, charted, layer_charts

__all__ = ["layer_page", "load_page"]


def layer_page(report: LayerReport) -> str:
    """Return the page of layers: those of each single model, and of each pair with dense behind pruned.

    Parameters
    ----------
    report : LayerReport
        At least one profile or comparison.
    """
    tables = [table for one in report.profiles for table in profile_tables(one)]
    for pair in report.comparisons:
        tables += comparison_tables(pair)
        tables += [table for one in (pair.baseline, pair.candidate) for table in profile_tables(one)]
    labels = [one.subject.label for one in report.profiles]
    labels += [f"{one.candidate.subject.label} against {one.baseline.subject.label}" for one in report.comparisons]
    title = f"{', '.join(dict.fromkeys(labels))}: where the time of a call goes"
    return chart_page(title, charts=layer_charts(report), tables=tables)


def load_page(measurements: Sequence[LoadMeasurement]) -> str:
    """Return the page of a load: one bar per row for its examples per second.

    Parameters
    ----------
    measurements : sequence of LoadMeasurement
        Of one scenario; at least one did not fail.
    """
    table = load_table(measurements)
    rows = []
    for one, cells in zip(measurements, table.rows, strict=True):
        speed = None if one.result is None else per_second(one.result)
        told = dict(zip(table.columns, cells, strict=True))
        tail = (f"{share} {told[share]}" for share in ("p50", "p90", "p99") if told[share] != NOTHING)
        name = f"{one.subject.backend}, streams {one.subject.streams}"
        said = told["per second"] if speed is None else f"{rate(speed)}/s"
        rows.append(Row(name, speed, said, one.failure or ", ".join(tail)))
    chart = charted("Examples per second", rows, "load")
    title = f"{measurements[0].subject.label} under load"
    return chart_page(title, charts=[chart], tables=[table])
