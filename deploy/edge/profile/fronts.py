"""Plots of a profile's settings: latency against memory, and against energy if it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import NamedTuple

from deploy.edge.profile.choice import Choice, Setting, choose, settings_of
from deploy.edge.profile.headline import labels, millijoules, short_point
from deploy.edge.profile.record import Point, Profile
from deploy.files.printable import printable
from deploy.report.drawing.axes import Axis, draw_x_axis, draw_y_axis, factor_ticks, plain, round_ticks, time_unit
from deploy.report.drawing.labels import place_labels
from deploy.report.drawing.svg import element, picture, polyline, text
from deploy.report.formatting import duration, size

__all__ = ["Front", "fronts"]

_WIDTH, _HEIGHT = 440.0, 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 34.0, 44.0
_SKEWED = 4
_MARKER = 5.5
_NUMBER = (9.0, 12.0)
_MOST_NUMBERED, _MOST_AVOIDED = 12, 100
"""Most numbers that fit in the picture, and most points that they avoid."""
_ROOM = 0.08
"""Margin beyond the outermost points, relative to the axis."""


class Front(NamedTuple):
    """Plot of settings, and which of them are best.

    Parameters
    ----------
    picture : str
        SVG. Every point has a title: its setting, latency and cost.
    caption : str
        Names the Pareto-optimal settings, by their numbers in the picture.
    """

    picture: str
    caption: str


class _Cost(NamedTuple):
    """Quantity that latency is plotted against.

    Parameters
    ----------
    name : str
        Name in one word.
    axis : str
        Title of the axis, with its unit.
    scale : float
        Size of that unit.
    of : callable
        Returns the cost of a setting; None if unknown.
    written : callable
        Writes a cost with its unit.
    best : callable
        Returns the Pareto-optimal settings.
    """

    name: str
    axis: str
    scale: float
    of: Callable[[Setting], float | None]
    written: Callable[[float], str]
    best: Callable[[Choice], Sequence[Setting]]


_COSTS = (
    _Cost(
        "memory",
        "peak memory [MiB]",
        float(1 << 20),
        lambda one: float(one.peak_bytes),
        lambda cost: size(round(cost)),
        lambda choice: choice.efficient,
    ),
    _Cost(
        "energy",
        "energy of an example [mJ]",
        1e3,
        lambda one: one.energy_uj,
        millijoules,
        lambda choice: choice.frugal,
    ),
)


def fronts(profile: Profile) -> Iterator[Front]:
    """Draw the settings of the last model in its main precision; costs known for fewer than two are left out."""
    if not profile.sweep:
        return
    main = profile.sweep[0].point
    label = labels(profile)[-1]
    settings = [one for one in settings_of(profile.sweep, label) if one.point.precision == main.precision]
    choice = choose(settings, main.precision)
    for cost in _COSTS:
        known = [(one, found) for one in settings if (found := cost.of(one)) is not None]
        if choice is not None and len(known) > 1:
            yield _front(cost, known, cost.best(choice), main, label)


def _front(
    cost: _Cost, known: Sequence[tuple[Setting, float]], best: Sequence[Setting], main: Point, label: str
) -> Front:
    x, y = _axes(known)
    scale, unit = time_unit(x.high)
    x_ticks = plain((factor_ticks if x.logarithmic else round_ticks)(x.low / scale, x.high / scale), scale)
    below = f"median call [{unit}]{', logarithmic' if x.logarithmic else ''}"
    drawn = draw_x_axis(x, (y.start, y.end), x_ticks, below)
    drawn += draw_y_axis(x, y, plain(round_ticks(y.low / cost.scale, y.high / cost.scale, 5), cost.scale), cost.axis)
    places = {one.point: (x.at(one.latency_ns), y.at(found)) for one, found in known}
    told = {one.point: f"{short_point(one.point, main)} ({_numbers(cost, one, found)})" for one, found in known}
    line = [one.point for one in best]
    drawn.append(polyline([places[point] for point in line], "promise"))
    chosen = set(line)
    drawn += [_mark(point in chosen, place, told[point]) for point, place in places.items()]
    numbered = line[:_MOST_NUMBERED]
    drawn += _numbered([places[point] for point in numbered], list(places.values()), y.start)
    words = [f"{number}: {told[point]}" for number, point in enumerate(numbered, 1)]
    words += [f"and {len(line) - len(numbered)} more"] if len(line) > len(numbered) else []
    caption = f"Latency against {cost.name}. Squares: no other setting beats it in both. {'; '.join(words)}."
    title = f"Latency against {cost.name}: {label}"
    return Front(picture(f"front-{cost.name}", title, caption, _WIDTH, _HEIGHT, *drawn, class_="front"), caption)


def _axes(known: Sequence[tuple[Setting, float]]) -> tuple[Axis, Axis]:
    times, costs = [one.latency_ns for one, _ in known], [found for _, found in known]
    low, high = min(times), max(times)
    # Batches take several times as long as a single example.
    skewed = high > _SKEWED * low
    if skewed:
        low, high = low / (1 + 2 * _ROOM), high * (1 + 2 * _ROOM)
    else:
        low, high = _widened(low, high)
    return (
        Axis(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic=skewed),
        Axis(*_widened(min(costs), max(costs)), _HEIGHT - _BOTTOM, _TOP),
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """Add a margin at both ends, and do not magnify tiny differences."""
    room = max(_ROOM * (high - low), 0.02 * high, 1e-9)
    return max(0.0, low - room), high + room


def _numbers(cost: _Cost, one: Setting, found: float) -> str:
    return f"{duration(one.latency_ns)}, {cost.written(found)}"


def _mark(is_best: bool, at: tuple[float, float], words: str) -> str:
    """Draw a filled square for a Pareto-optimal setting, else a ring, with `words` as tooltip."""
    across, up = at
    shape = (
        element("rect", x=across - 4.5, y=up - 4.5, width=9, height=9, class_="candidate mark")
        if is_best
        else element("circle", cx=across, cy=up, r=4.5, class_="baseline mark")
    )
    return element("g", element("title", escape(printable(words))), shape, class_="setting")


def _numbered(
    best: Sequence[tuple[float, float]], every: Sequence[tuple[float, float]], bottom: float
) -> Iterator[str]:
    """Write a number beside each of the best settings, clear of all marks."""
    others = [place for place in every if place not in best][:_MOST_AVOIDED]
    sizes = [_NUMBER] * len(best) + [(0.0, 0.0)] * len(others)
    boxes = place_labels([*best, *others], sizes, (0.0, 22.0, _WIDTH, bottom + 4), _MARKER)
    for number, (left, top, right, low) in enumerate(boxes[: len(best)], 1):
        yield text((left + right) / 2, (top + low) / 2 + 4, str(number), class_="label", text_anchor="middle")
