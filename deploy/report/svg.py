"""The little that plots need of SVG: escaped elements, axes, ticks at round numbers. Output is deterministic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

__all__ = ["Axis", "element", "factor_ticks", "number", "picture", "polyline", "round_ticks", "text"]


def number(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, *children: str, **attributes: str | float) -> str:
    """Make an element; ``stroke_width`` becomes ``stroke-width``, ``class_`` becomes ``class``.

    Parameters
    ----------
    name : str
        Of the element.
    *children : str
        Finished markup.
    **attributes : str or float
        Text is escaped here.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float | int) else escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(x: float, y: float, words: str, **attributes: str | float) -> str:
    """Write words at a point."""
    return element("text", escape(words), x=x, y=y, **attributes)


def polyline(points: list[tuple[float, float]], class_: str) -> str:
    """Join points by straight lines."""
    return element("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), class_=class_)


def picture(name: str, title: str, description: str, width: float, height: float, *children: str) -> str:
    """Make a whole picture that scales with the page and is told to those who do not see it.

    Parameters
    ----------
    name : str
        Identifier that is unique on the page.
    title, description : str
        What it is, and what it shows.
    width, height : float
        Of its own coordinates.
    *children : str
        Finished markup.
    """
    return element(
        "svg",
        element("title", escape(title), id=f"{name}-title"),
        element("desc", escape(description), id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


@dataclass(frozen=True, slots=True)
class Axis:
    """A map from values to coordinates, linear or logarithmic.

    Parameters
    ----------
    low, high : float
        Values at its ends; they differ, and are positive on a logarithmic axis.
    start, end : float
        Coordinates at its ends.
    logarithmic : bool, default=False
        Equal factors are equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Give the coordinate of a value."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def round_ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Give multiples of 1, 2 or 5 times a power of ten inside [low, high].

    >>> round_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / at_most))
    step = next(
        factor * power
        for factor in (1, 2, 5, 10, 20)
        if math.floor(high / (factor * power) + 1e-9) - math.ceil(low / (factor * power) - 1e-9) < at_most
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(index * step, digits) for index in range(first, last + 1)]


def factor_ticks(low: float, high: float) -> list[float]:
    """Give 1, 2 and 5 times the powers of ten inside [low, high], or the powers alone where those are many.

    >>> factor_ticks(0.3, 6)
    [0.5, 1.0, 2.0, 5.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]
