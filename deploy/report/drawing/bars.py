"""Bars that scale with the page: a value on a scale, with its interval as whiskers.

Coordinates along a bar are shares of its width, so that it fits a phone and a desktop; words are text beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from deploy.files.printable import printable
from deploy.report.drawing.svg import element

__all__ = ["Scale", "bar", "scale_of"]

_HEIGHT = 26.0
_MIDDLE = _HEIGHT / 2
_EDGE = 5.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Values at the left and right ends of a bar.

    Parameters
    ----------
    low, high : float
        Values at the ends; they differ.
    """

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the position of a value in percent of the width, clipped to the ends."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def scale_of(values: list[float], start: float) -> Scale:
    """Return a scale that spans `start` and all values, with a small margin at the ends other than `start`."""
    low, high = min(start, *values), max(start, *values)
    room = 0.03 * (high - low) or 0.1 * max(abs(start), 1.0)
    return Scale(low if low == start else low - room, high + room)


def bar(
    name: str,
    words: str,
    scale: Scale,
    value: float,
    interval: tuple[float, float] | None,
    *,
    start: float,
    aim: float | None = None,
    tone: str = "",
) -> str:
    """Draw a bar from `start` to `value`, its interval as whiskers, and a pale bar up to `aim` behind it.

    Parameters
    ----------
    name : str
        Identifier that is unique on the page.
    words : str
        Text alternative for screen readers.
    scale : Scale
        Shared by bars that are compared.
    value : float
        End of the bar.
    interval : tuple of float, optional
        Ends of the whiskers.
    start : float
        Start of the bar, marked by a line.
    aim : float, optional
        End of the pale bar behind it.
    tone : str
        Class of the bar, which sets its colour.
    """
    drawn = []
    if aim is not None:
        drawn.append(_between(scale, start, aim, "aim"))
    drawn.append(_between(scale, start, value, f"amount {tone}".strip()))
    if aim is not None:
        drawn.append(_upright(scale, aim, "aim"))
    if interval is not None:
        low, high = map(scale.at, interval)
        drawn.append(element("line", x1=f"{low:.2f}%", x2=f"{high:.2f}%", y1=_MIDDLE, y2=_MIDDLE, class_="whisker"))
        drawn += [_end(scale, interval[0], -1), _end(scale, interval[1], 1)]
    drawn.append(_upright(scale, start, "start"))
    return element(
        "svg",
        element("title", escape(printable(words)), id=f"{name}-title"),
        *drawn,
        class_="bar",
        role="img",
        height=_HEIGHT,
        aria_labelledby=f"{name}-title",
    )


def _between(scale: Scale, start: float, end: float, class_: str) -> str:
    left, right = sorted((scale.at(start), scale.at(end)))
    x, width = f"{left:.2f}%", f"{right - left:.2f}%"
    return element("rect", x=x, y=_EDGE, width=width, height=_HEIGHT - 2 * _EDGE, class_=class_)


def _upright(scale: Scale, value: float, class_: str) -> str:
    at = f"{scale.at(value):.2f}%"
    return element("line", x1=at, x2=at, y1=1, y2=_HEIGHT - 1, class_=class_)


def _end(scale: Scale, value: float, side: int) -> str:
    """Close a whisker with a cap, or with an arrowhead if it extends beyond the scale."""
    at = f"{scale.at(value):.2f}%"
    if scale.low <= value <= scale.high:
        return element("line", x1=at, x2=at, y1=_MIDDLE - 5, y2=_MIDDLE + 5, class_="whisker")
    head = element("path", d=f"M{-6 * side} {_MIDDLE - 5}L0 {_MIDDLE}L{-6 * side} {_MIDDLE + 5}", class_="whisker")
    return element("svg", head, x=at, overflow="visible")
