"""Plot of a number over time: one mark per commit, a line per level, and a vertical line at each change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from deploy.files.printable import printable
from deploy.report.drawing.axes import Axis, draw_y_axis, plain, round_ticks
from deploy.report.drawing.svg import element, line, picture, text

__all__ = ["Level", "Mark", "series_plot"]

_WIDTH, _HEIGHT = 720.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 16.0, 46.0, 30.0
_LEAST_SPREAD = 1e-9
"""Relative to the values: smaller differences are drawn as equal."""
_LEAST = 1e-200
"""Smaller values count as 0: fractions of them could not be told from 0."""
_DATES = 7
_DATE = 80.0
"""Width of a date."""
_LABEL = 110.0
"""Width of a change's label; if changes are closer, some labels are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One value.

    Parameters
    ----------
    value : float
        Value on the vertical axis.
    low, high : float or None
        Ends of its interval.
    words : str
        Tooltip.
    date : str
        Date below the axis.
    tone : str
        ``""``, ``"open"`` for one that is not decided yet, ``"unfit"`` for one that is not trusted.
    """

    value: float
    low: float | None
    high: float | None
    words: str
    date: str
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Stretch of values between two changes.

    Parameters
    ----------
    begin, end : int
        Indices of its first mark and past its last.
    value : float
        Value of the level.
    words : str
        How it differs from the previous level; empty for the first.
    tone : str
        ``"gain"``, ``"loss"`` or empty: what the change is for the user.
    """

    begin: int
    end: int
    value: float
    words: str = ""
    tone: str = ""


def series_plot(
    name: str, title: str, description: str, unit: tuple[float, str], marks: Sequence[Mark], levels: Sequence[Level]
) -> str:
    """Draw a series. The value axis does not start at 0.

    Parameters
    ----------
    name : str
        Identifier that is unique on the page.
    title, description : str
        What it is and what it shows, for screen readers.
    unit : (float, str)
        Unit to write values in: its size in units of the values, and its name.
    marks : sequence of Mark
        At least one, from left to right.
    levels : sequence of Level
        From left to right.
    """
    values = [end for mark in marks for end in (mark.value, mark.low, mark.high) if end is not None]
    low, high = min(values), max(values)
    spread, size = high - low, max(abs(low), abs(high))
    flat = 0.05 * size if size > _LEAST else 1.0
    room = 0.08 * spread if spread > max(_LEAST_SPREAD * size, _LEAST) else flat
    x = Axis(-0.5, len(marks) - 0.5, _LEFT, _WIDTH - _RIGHT)
    y = Axis(low - room, high + room, _HEIGHT - _BOTTOM, _TOP)
    scale, called = unit
    drawn = draw_y_axis(x, y, plain(round_ticks(y.low / scale, y.high / scale, 5), scale), called)
    drawn += _dates(marks, x, y)
    drawn += _levels(levels, x, y)
    for at, mark in enumerate(marks):
        drawn.append(_mark(mark, x.at(at), y))
    return picture(name, title, description, _WIDTH, _HEIGHT, *drawn, class_="series")


def _dates(marks: Sequence[Mark], x: Axis, y: Axis) -> list[str]:
    """Write as many dates below as fit; of equal ones only the first."""
    drawn = [line(x.start, y.start, x.end, y.start, "frame")]
    every = max(1, -(-len(marks) // _DATES))
    before, free = "", 0.0
    for at in range(0, len(marks), every):
        if marks[at].date != before and x.at(at) >= free:
            before, free = marks[at].date, x.at(at) + _DATE
            drawn.append(text(x.at(at), y.start + 18, before, class_="axis", text_anchor="middle"))
    return drawn


def _levels(levels: Sequence[Level], x: Axis, y: Axis) -> list[str]:
    drawn, free = [], 0.0
    for level in levels:
        left, right, at = x.at(level.begin - 0.5), x.at(level.end - 0.5), y.at(level.value)
        drawn.append(line(left, at, right, at, f"level {level.tone}".strip()))
        if not level.words:
            continue
        drawn.append(line(left, y.start, left, y.end, f"change {level.tone}".strip()))
        if left >= free:
            near = left > x.end - _LABEL
            anchor = {"text_anchor": "end"} if near else {}
            drawn.append(text(left, y.end - 8, level.words, class_=f"words {level.tone}".strip(), **anchor))
            free = left + _LABEL
    return drawn


def _mark(mark: Mark, x: float, y: Axis) -> str:
    parts = [element("title", escape(printable(mark.words)))]
    if mark.low is not None and mark.high is not None:
        parts.append(line(x, y.at(mark.low), x, y.at(mark.high), "spread"))
    parts.append(element("circle", cx=x, cy=y.at(mark.value), r=3.5, class_=f"point {mark.tone}".strip()))
    return element("g", *parts)
