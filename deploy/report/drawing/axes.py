"""Plot axes: mapping values to coordinates, round-number ticks, and drawing both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.report.drawing.svg import line, text

__all__ = ["Axis", "draw_x_axis", "draw_y_axis", "factor_ticks", "plain", "round_ticks", "time_unit"]

Tick = tuple[float, str]
"""A value and its label."""
_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


@dataclass(frozen=True, slots=True)
class Axis:
    """A map from values to coordinates, linear or logarithmic.

    Parameters
    ----------
    low, high : float
        Values at its ends: different, and positive on a logarithmic axis.
    start, end : float
        Coordinates at its ends.
    logarithmic : bool, default=False
        Whether equal factors are equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the coordinate of a value."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def round_ticks(low: float, high: float, at_most: int = 6) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten inside [low, high].

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
    """Return 1, 2 and 5 times the powers of ten inside [low, high], or the powers alone if there are many.

    >>> factor_ticks(0.3, 6)
    [0.5, 1.0, 2.0, 5.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def draw_x_axis(x: Axis, y: tuple[float, float], ticks: Iterable[Tick], title: str, *, grid: bool = False) -> list[str]:
    """Draw the horizontal axis below a plot.

    Parameters
    ----------
    x : Axis
        Left to right.
    y : tuple of float
        Coordinates of the plot's bottom and top.
    ticks : iterable of (float, str)
        Values and their labels.
    title : str
        What the values are; placed below the labels.
    grid : bool, default=False
        Whether to draw lines up to the top instead of short ticks.
    """
    bottom, top = y
    drawn = [] if grid else [line(x.start, bottom, x.end, bottom, "frame")]
    for value, label in ticks:
        at = x.at(value)
        drawn.append(line(at, bottom, at, top, "grid") if grid else line(at, bottom, at, bottom + 4, "frame"))
        drawn.append(text(at, bottom + 18, label, class_="axis", text_anchor="middle"))
    return [*drawn, text((x.start + x.end) / 2, bottom + 36, title, class_="axis", text_anchor="middle")]


def draw_y_axis(x: Axis, y: Axis, ticks: Iterable[Tick], title: str) -> list[str]:
    """Draw the vertical axis left of a plot, with grid lines; its title is above.

    Parameters
    ----------
    x, y : Axis
        Left to right, bottom to top.
    ticks : iterable of (float, str)
        Values and their labels.
    title : str
        What the values are.
    """
    drawn = []
    for value, label in ticks:
        at = y.at(value)
        drawn += [
            line(x.start, at, x.end, at, "grid"),
            text(x.start - 6, at + 4, label, class_="axis", text_anchor="end"),
        ]
    return [*drawn, text(8, 20, title, class_="axis")]


def plain(ticks: Sequence[float], unit: float = 1.0) -> list[Tick]:
    """Label ticks, given in multiples of `unit`, with their plain numbers."""
    return [(tick * unit, f"{tick:g}") for tick in ticks]


def time_unit(ns: float) -> tuple[float, str]:
    """Return the size in nanoseconds and the name of the unit to write a time in.

    >>> time_unit(2e6)
    (1000000.0, 'ms')
    """
    return next(((scale, unit) for scale, unit in _UNITS if ns >= scale), _UNITS[-1])
