"""The oracle study as a table, a plot and a page."""

from __future__ import annotations

from markupsafe import Markup

from deploy.report.drawing.axes import Axis, draw_x_axis
from deploy.report.drawing.svg import element, line, picture, text
from deploy.report.formatting import NOTHING, score, score_name
from deploy.report.pages.charts import Row, chart_page, charted
from deploy.report.table import Notes, Table, left
from deploy.studies.oracle.results import CriterionRow, OracleResults

__all__ = ["oracle_page", "oracle_plot", "oracle_table"]

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT = 720.0, 26.0, 40.0, 44.0, 150.0
_MARKS = (("per layer", "per_layer"), ("all layers", "overall"), ("all layers, l2", "overall_l2"))


def oracle_table(results: OracleResults) -> Table:
    """Return the table of the paper: one row per criterion, best after l2 first."""
    rows, notes = [], Notes()
    for row in _ordered(results):
        name = row.criterion
        if row.left_out:
            example, why = next(iter(row.left_out.items()))
            left_out = f"without {len(row.left_out)} of {len(results.losses)} groups, such as {example}: {why}"
            name = notes.after(name, [left_out])
        numbers = (row.per_layer, row.overall, row.overall_l2)
        cells = tuple(NOTHING if value is None else f"{value:.2f}" for value in numbers)
        rows.append((name, *cells, f"{row.seconds:.1f} s"))
    units = sum(map(len, results.losses.values()))
    return Table(
        "Spearman's correlation with the oracle (absolute loss change)",
        (*left("criterion"), "per layer", "all layers", "all layers, l2", "time"),
        tuple(rows),
        notes=notes.texts,
        caption=f"{units} units of {len(results.losses)} groups, each ablated alone on {results.n_examples} "
        f"{results.split} images; mean loss {results.loss:.4f}, validation "
        f"{score_name(results.metric)} {score(results.metric, results.score, 1)}.",
    )


def oracle_plot(results: OracleResults, name: str = "oracle") -> str:
    """Draw each criterion's three correlations on one axis, best after l2 first.

    Parameters
    ----------
    results : OracleResults
        Results of the study.
    name : str
        Identifier, unique on the page.
    """
    ordered = _ordered(results)
    bottom = _TOP + _ROW * len(ordered)
    values = [v for row in ordered for v in (row.per_layer, row.overall, row.overall_l2) if v is not None]
    x = Axis(min([0.0, *values]) - 0.05, 1.0, _LEFT, _WIDTH - 24)
    ticks = [(tick / 4, f"{tick / 4:g}") for tick in range(-4, 5) if tick / 4 >= x.low]
    drawn = draw_x_axis(x, (bottom, _TOP - 6), ticks, "correlation", grid=True)
    drawn.append(line(x.at(0), bottom, x.at(0), _TOP - 6, "frame"))
    at = x.start
    for label, field in _MARKS:
        drawn += [_mark(field, at, 16), text(at + 10, 20, label, class_="axis")]
        at += 24 + 8 * len(label)
    overall = []
    for index, row in enumerate(ordered):
        y = _TOP + _ROW * (index + 0.5)
        drawn.append(text(_LEFT - 10, y + 4, row.criterion, text_anchor="end"))
        drawn += [_mark(field, x.at(value), y) for _, field in _MARKS if (value := getattr(row, field)) is not None]
        if row.overall_l2 is not None:
            overall.append(f"{row.criterion} {row.overall_l2:.2f}")
    description = f"Correlation over all layers after l2: {', '.join(overall)}."
    return picture(name, "Criteria against the oracle", description, _WIDTH, bottom + _BOTTOM, *drawn)


def oracle_page(results: OracleResults) -> str:
    """Return a self-contained page: the best criterion, a bar for each, all three correlations, the table."""
    rows = []
    for row in _ordered(results):
        numbers = (("per layer", row.per_layer), ("all layers", row.overall))
        told = [f"{label} {value:.2f}" for label, value in numbers if value is not None]
        told += [f"without {len(row.left_out)} of {len(results.losses)} groups"] if row.left_out else []
        value = row.overall_l2
        rows.append(Row(row.criterion, value, NOTHING if value is None else f"{value:.2f}", ", ".join(told)))
    title = "Spearman's correlation with the change in loss, over all layers after l2"
    table = oracle_table(results)
    return chart_page(
        f"{results.name}: which criterion predicts the loss best?",
        lead=_lead(results),
        charts=[charted(title, rows, "criteria", caption=table.caption)],
        pictures=[("All three correlations", Markup(oracle_plot(results)))],
        tables=[table],
    )


def _lead(results: OracleResults) -> str:
    known = [row for row in _ordered(results) if row.overall_l2 is not None]
    if not known:
        return "No criterion ranks the units of this network: there is nothing to compare."
    best, *others = known
    said = f"{best.criterion} orders the units most like the oracle: {best.overall_l2:.2f}"
    return f"{said}, then {others[0].criterion} with {others[0].overall_l2:.2f}." if others else f"{said}."


def _ordered(results: OracleResults) -> list[CriterionRow]:
    """Sort the best after l2 first, and rows without a number last."""
    return sorted(results.rows, key=lambda row: 2.0 if row.overall_l2 is None else -row.overall_l2)


def _mark(field: str, x: float, y: float) -> str:
    """Draw a bar for the mean over layers, a ring for all layers, a filled square after l2."""
    if field == "per_layer":
        return line(x, y - 8, x, y + 8, "mark")
    if field == "overall":
        return element("circle", cx=x, cy=y, r=5, class_="baseline mark")
    return element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_="candidate mark")
