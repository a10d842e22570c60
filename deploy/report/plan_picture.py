"""A plan as a picture and as a page: a bar for each group, as long as it is wide, filled as far as it is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.files.atomic import write_file
from deploy.report.formatting import percent
from deploy.report.plan_rows import GroupRow
from deploy.report.svg import Axis, element, picture, round_ticks, text

if TYPE_CHECKING:
    from deploy.report.tables import Table
    from pruners.plan import PruningPlan

__all__ = ["plan_page", "plan_picture", "write_plan_page", "write_plan_picture"]

_WIDTH, _ROW, _TOP, _BOTTOM = 720.0, 18.0, 34.0, 40.0
_CHARACTER = 6.6
_NAME = 38
_KEPT, _GONE, _INK = "#b84a12", "#d5dae0", "#1d2329"
_STYLE = """svg { max-width: none; }
svg .kept { fill: var(--candidate); }
svg .gone { fill: var(--rule); }
svg text { font-size: 12px; }
"""


def plan_picture(rows: Sequence[GroupRow], title: str, name: str = "plan") -> str:
    """Draw the groups from the first to the last.

    Parameters
    ----------
    rows : sequence of GroupRow
        At least one.
    title : str
        What is drawn.
    name : str
        Identifier that is unique on the page.
    """
    labels = [_short(row.name) for row in rows]
    left = 12 + _CHARACTER * max(map(len, labels))
    height = _height(rows)
    x = Axis(0, max(row.of for row in rows), left, _WIDTH - 96)
    bottom = height - _BOTTOM
    drawn = []
    for tick in round_ticks(0, x.high):
        at = x.at(tick)
        drawn.append(element("line", x1=at, y1=_TOP - 4, x2=at, y2=bottom, class_="grid", stroke=_GONE))
        drawn.append(_words(at, bottom + 16, f"{tick:g}", class_="axis", text_anchor="middle"))
    drawn.append(_words((x.start + x.end) / 2, height - 6, "units", class_="axis", text_anchor="middle"))
    drawn.append(element("rect", x=left, y=9, width=12, height=10, class_="kept", fill=_KEPT))
    drawn.append(_words(left + 17, 18, "kept", class_="axis"))
    drawn.append(element("rect", x=left + 60, y=9, width=12, height=10, class_="gone", fill=_GONE))
    drawn.append(_words(left + 77, 18, "removed", class_="axis"))
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        y = _TOP + index * _ROW
        kept, of = x.at(row.kept), x.at(row.of)
        drawn.append(_words(left - 8, y + 11, label, text_anchor="end"))
        drawn.append(element("rect", x=left, y=y + 1, width=kept - left, height=_ROW - 6, class_="kept", fill=_KEPT))
        drawn.append(element("rect", x=kept, y=y + 1, width=of - kept, height=_ROW - 6, class_="gone", fill=_GONE))
        drawn.append(_words(of + 6, y + 11, f"{row.kept} of {row.of}", class_="axis"))
    kept, of = sum(row.kept for row in rows), sum(row.of for row in rows)
    told = f"{kept} of {of} units kept ({percent(kept / of)}) in {len(rows)} groups."
    return picture(name, title, told, _WIDTH, height, *drawn)


def write_plan_picture(rows: Sequence[GroupRow], title: str, path: Path) -> None:
    """Write the picture as a file of its own.

    Raises
    ------
    OutputError
        It cannot be written.
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
    write_file(path, drawn + "\n")


def plan_page(plan: PruningPlan, rows: Sequence[GroupRow], tables: Sequence[Table], title: str, lead: str) -> str:
    """Make a page with everything inside: the chart, the tables, the settings.

    Parameters
    ----------
    plan : PruningPlan
        See there.
    rows : sequence of GroupRow
        What is drawn; at least one.
    tables : sequence of Table
        Tables below the chart.
    title, lead : str
        Heading, and the sentence under it.
    """
    style = files("deploy.report").joinpath("page.css").read_text(encoding="utf-8")
    groups = [(row.name, str(row.kept), str(row.of), percent(row.share)) for row in rows]
    facts = [("method", plan.method), ("graph", plan.graph), ("plan", plan.sha256)]
    facts += [("removed blocks", ", ".join(plan.blocks))] if plan.blocks else []
    facts += [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in plan.settings.items()]
    body = "\n".join(
        (
            element("h1", escape(title)),
            element("p", escape(lead), class_="answer"),
            element("section", element("h2", "Kept units of each group"), element("figure", plan_picture(rows, title))),
            *(_section(table.title, table.columns, table.rows, table.caption) for table in tables),
            _section("Groups", ("group", "kept", "of", "share"), groups, ""),
            _section("How it was made", ("", ""), facts, ""),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write_plan_page(
    plan: PruningPlan, rows: Sequence[GroupRow], tables: Sequence[Table], title: str, lead: str, path: Path
) -> None:
    """Write the page; it appears whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    write_file(path, plan_page(plan, rows, tables, title, lead))


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    long = "" if any(columns) else "long"
    heads = [
        element("th", escape(name), scope="col", class_="" if index else "left") for index, name in enumerate(columns)
    ]
    head = element("thead", element("tr", *heads))
    lines = "\n".join(
        element(
            "tr",
            element("th", escape(row[0]), scope="row", class_="left"),
            *(element("td", escape(cell), class_=long) for cell in row[1:]),
        )
        for row in rows
    )
    drawn = element("table", head if any(columns) else "", element("tbody", lines))
    below = element("p", escape(caption), class_="soft") if caption else ""
    scroll = element("div", drawn, class_="scroll", role="region", tabindex="0", aria_label=title)
    return element("section", element("h2", escape(title)), scroll, below)


def _height(rows: Sequence[GroupRow]) -> float:
    return _TOP + _ROW * len(rows) + _BOTTOM


def _words(x: float, y: float, words: str, **attributes: str | float) -> str:
    return text(x, y, words, fill=_INK, **attributes)


def _short(name: str) -> str:
    if len(name) <= _NAME:
        return name
    head = (_NAME - 1) // 2
    return f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[head + 1 - _NAME :]}"
