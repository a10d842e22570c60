"""A plan as an SVG file and as a page: one bar per group, its length the group's width, its fill the kept part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.bundles.pruning import GroupCount, PruningRecord
from deploy.files.atomic import write_file
from deploy.files.printable import printable
from deploy.report.drawing.axes import Axis, round_ticks
from deploy.report.drawing.svg import element, line, picture, text
from deploy.report.formatting import percent
from deploy.report.pages.charts import chart_page, group_bars
from deploy.report.plan_rows import group_table, shorten
from deploy.report.table import Table

if TYPE_CHECKING:
    from pruners.plan import PruningPlan

__all__ = ["plan_page", "plan_picture", "write_plan_page", "write_plan_picture"]

_WIDTH, _ROW, _TOP, _BOTTOM = 720.0, 18.0, 34.0, 40.0
_CHARACTER = 6.6
_NAME = 38
_KEPT, _GONE, _INK = "#b84a12", "#d5dae0", "#1d2329"


def plan_picture(rows: Sequence[GroupCount], title: str) -> str:
    """Draw the groups in order.

    Parameters
    ----------
    rows : sequence of GroupCount
        At least one.
    title : str
        Title of the picture.
    """
    labels = [shorten(row.name, _NAME, "\N{HORIZONTAL ELLIPSIS}") for row in rows]
    left = 12 + _CHARACTER * max(map(len, labels))
    height = _height(rows)
    x = Axis(0, max(row.of for row in rows), left, _WIDTH - 96)
    bottom = height - _BOTTOM
    drawn = []
    for tick in round_ticks(0, x.high):
        at = x.at(tick)
        drawn.append(line(at, _TOP - 4, at, bottom, "grid", stroke=_GONE))
        drawn.append(_text(at, bottom + 16, f"{tick:g}", class_="axis", text_anchor="middle"))
    drawn.append(_text((x.start + x.end) / 2, height - 6, "units", class_="axis", text_anchor="middle"))
    drawn.append(element("rect", x=left, y=9, width=12, height=10, class_="kept", fill=_KEPT))
    drawn.append(_text(left + 17, 18, "kept", class_="axis"))
    drawn.append(element("rect", x=left + 60, y=9, width=12, height=10, class_="gone", fill=_GONE))
    drawn.append(_text(left + 77, 18, "removed", class_="axis"))
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = _TOP + index * _ROW
        kept, of = x.at(row.kept), x.at(row.of)
        drawn.append(_text(left - 8, y + 11, label, text_anchor="end"))
        drawn.append(element("rect", x=left, y=y + 1, width=kept - left, height=_ROW - 6, class_="kept", fill=_KEPT))
        drawn.append(element("rect", x=kept, y=y + 1, width=of - kept, height=_ROW - 6, class_="gone", fill=_GONE))
        drawn.append(_text(of + 6, y + 11, f"{row.kept} of {row.of}", class_="axis"))
    kept, of = sum(row.kept for row in rows), sum(row.of for row in rows)
    description = f"{kept} of {of} units kept ({percent(kept / of)}) in {len(rows)} groups."
    return picture("plan", title, description, _WIDTH, height, *drawn, class_="plan")


def write_plan_picture(rows: Sequence[GroupCount], title: str, path: Path) -> None:
    """Write the picture as an SVG file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    drawn = element(
        "svg",
        element("rect", width=_WIDTH, height=_height(rows), fill="#ffffff"),
        plan_picture(rows, title),
        xmlns="http://www.w3.org/2000/svg",
        width=_WIDTH,
        height=_height(rows),
        font_family="system-ui, sans-serif",
        font_size=12,
    )
    write_file(path, printable(drawn) + "\n")


def plan_page(plan: PruningPlan, rows: Sequence[GroupCount], tables: Sequence[Table], title: str, lead: str) -> str:
    """Return a self-contained page: the chart, the tables and the settings.

    Parameters
    ----------
    plan : PruningPlan
        The plan whose settings are listed.
    rows : sequence of GroupCount
        The groups to draw; at least one.
    tables : sequence of Table
        Below the chart.
    title, lead : str
        Heading, and the sentence under it.
    """
    facts = [("method", plan.method), ("graph", plan.graph), ("plan", plan.sha256)]
    facts += [("removed blocks", ", ".join(plan.blocks))] if plan.blocks else []
    facts += [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in plan.settings.items()]
    counts = group_table(PruningRecord(groups=tuple(rows), blocks=plan.blocks), "Groups")
    return chart_page(
        title,
        lead=lead,
        charts=[replace(group_bars(rows, "groups"), title="Kept units of each group")],
        tables=[*tables, counts],
        facts=facts,
    )


def write_plan_page(
    plan: PruningPlan, rows: Sequence[GroupCount], tables: Sequence[Table], title: str, lead: str, path: Path
) -> None:
    """Write the page atomically.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    write_file(path, plan_page(plan, rows, tables, title, lead))


def _height(rows: Sequence[GroupCount]) -> float:
    return _TOP + _ROW * len(rows) + _BOTTOM


def _text(x: float, y: float, written: str, **attributes: str | float) -> str:
    """Write text in a fixed colour, for a picture without a style sheet."""
    return text(x, y, written, fill=_INK, **attributes)
