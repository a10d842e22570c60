"""The oracle study as a table, a plot and a page."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from deploy.files.atomic import write_file
from deploy.report.formatting import NOTHING, score, score_name
from deploy.report.svg import Axis, element, picture, text
from deploy.report.tables import Table
from deploy.studies.oracle.results import CriterionRow, OracleResults

__all__ = ["oracle_plot", "oracle_table", "write_oracle_page"]

_WIDTH, _ROW, _TOP, _BOTTOM, _LEFT = 720.0, 26.0, 40.0, 44.0, 150.0
_MARKS = (("per layer", "per_layer"), ("all layers", "overall"), ("all layers, l2", "overall_l2"))


def oracle_table(results: OracleResults) -> Table:
    """Derive the paper's table: one row for each criterion, best after l2 first."""
    rows, notes = [], []
    for row in _ordered(results):
        name = row.criterion
        if row.left_out:
            example, why = next(iter(row.left_out.items()))
            notes.append(f"without {len(row.left_out)} of {len(results.losses)} groups, such as {example}: {why}")
            name = f"{name} [{len(notes)}]"
        numbers = (row.per_layer, row.overall, row.overall_l2)
        cells = tuple(NOTHING if value is None else f"{value:.2f}" for value in numbers)
        rows.append((name, *cells, f"{row.seconds:.1f} s"))
    units = sum(map(len, results.losses.values()))
    return Table(
        "Spearman's correlation with the oracle (absolute loss change)",
        ("criterion", "per layer", "all layers", "all layers, l2", "time"),
        tuple(rows),
        notes=tuple(notes),
        caption=f"{units} units of {len(results.losses)} groups, each ablated alone on {results.n_examples} "
        f"{results.split} images; mean loss {results.loss:.4f}, validation "
        f"{score_name(results.metric)} {score(results.metric, results.score, 1)}.",
    )


def oracle_plot(results: OracleResults, name: str = "oracle") -> str:
    """Draw each criterion's three correlations on one axis, best after l2 first.

    Parameters
    ----------
    results : OracleResults
        See there.
    name : str
        Identifier that is unique on the page.
    """
    ordered = _ordered(results)
    bottom = _TOP + _ROW * len(ordered)
    values = [v for row in ordered for v in (row.per_layer, row.overall, row.overall_l2) if v is not None]
    x = Axis(min([0.0, *values]) - 0.05, 1.0, _LEFT, _WIDTH - 24)
    drawn = []
    for tick in (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0):
        if tick >= x.low:
            at = x.at(tick)
            drawn.append(
                element("line", x1=at, y1=_TOP - 6, x2=at, y2=bottom, class_="grid" if tick else "frame")
                + text(at, bottom + 16, f"{tick:g}", class_="axis", text_anchor="middle")
            )
    drawn.append(text((x.start + x.end) / 2, bottom + 34, "correlation", class_="axis", text_anchor="middle"))
    at = x.start
    for label, field in _MARKS:
        drawn += [_mark(field, at, 16), text(at + 10, 20, label, class_="axis")]
        at += 24 + 8 * len(label)
    told = []
    for index, row in enumerate(ordered):
        y = _TOP + _ROW * (index + 0.5)
        drawn.append(text(_LEFT - 10, y + 4, row.criterion, text_anchor="end"))
        drawn += [_mark(field, x.at(value), y) for _, field in _MARKS if (value := getattr(row, field)) is not None]
        if row.overall_l2 is not None:
            told.append(f"{row.criterion} {row.overall_l2:.2f}")
    description = f"Correlation over all layers after l2: {', '.join(told)}."
    return picture(name, "Criteria against the oracle", description, _WIDTH, bottom + _BOTTOM, *drawn)


def write_oracle_page(results: OracleResults, path: Path) -> None:
    """Write table and plot as one HTML file.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    table = oracle_table(results)
    style = files("deploy.report").joinpath("page.css").read_text(encoding="utf-8") + "svg { max-width: none; }\n"
    head = element("tr", *(element("th", escape(name), scope="col") for name in table.columns))
    body = "\n".join(
        element("tr", element("th", escape(row[0]), scope="row", class_="left"), *(element("td", c) for c in row[1:]))
        for row in table.rows
    )
    title = f"{results.name}: which criterion foretells the loss?"
    notes = element("ol", *(element("li", escape(note)) for note in table.notes), class_="notes") if table.notes else ""
    write_file(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + element("h1", escape(title))
        + element("figure", oracle_plot(results))
        + element("h2", escape(table.title))
        + element("table", element("thead", head), "\n", element("tbody", body))
        + element("p", escape(table.caption), class_="soft")
        + notes
        + "\n</main>\n</body>\n</html>\n",
    )


def _ordered(results: OracleResults) -> list[CriterionRow]:
    """Best after l2 first; those without a number last."""
    return sorted(results.rows, key=lambda row: 2.0 if row.overall_l2 is None else -row.overall_l2)


def _mark(field: str, x: float, y: float) -> str:
    """Draw a bar for the mean over layers, a ring for all layers, a filled square after l2."""
    if field == "per_layer":
        return element("line", x1=x, y1=y - 8, x2=x, y2=y + 8, class_="mark")
    if field == "overall":
        return element("circle", cx=x, cy=y, r=5, class_="baseline mark")
    return element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_="candidate mark")
