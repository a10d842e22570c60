"""Plot of a load over time: latency, clock, temperature and power on one time axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from deploy.edge.profile.record import Profile, Second, Sustained
from deploy.report.drawing.axes import Axis, draw_x_axis, plain, round_ticks
from deploy.report.drawing.svg import element, line, picture, polyline, text

__all__ = ["course_picture"]

_WIDTH, _PANEL, _GAP, _TOP, _BOTTOM = 640.0, 84.0, 34.0, 34.0, 44.0
_LEFT, _RIGHT = 52.0, 16.0
_ROLES = ("baseline", "candidate")


class _Panel(NamedTuple):
    """One quantity over time."""

    title: str
    value: Callable[[Second], float | None]


def _clock(one: Second) -> float | None:
    """Return the clock of the strongest kind of cores that was read, which comes first."""
    return next((khz / 1e6 for khz in one.reading.khz.values()), None)


_PANELS = (
    _Panel("median call [ms]", lambda one: median(one.calls_ns) / 1e6),
    _Panel("clock [GHz], of the strongest cores", _clock),
    _Panel("temperature [C]", lambda one: one.reading.celsius),
    _Panel("power [W]", lambda one: one.watts),
)


def course_picture(profile: Profile, name: str) -> str:
    """Draw every load on one time axis; quantities that the board does not report have no panel.

    Parameters
    ----------
    profile : Profile
        Profile with at least one load.
    name : str
        Identifier that is unique on the page.
    """
    loads = profile.sustained
    roles = _ROLES[-len(loads) :]
    panels = [one for one in _PANELS if any(one.value(second) is not None for load in loads for second in load.seconds)]
    end = max(load.seconds[-1].at_s + load.seconds[-1].lasted_s for load in loads)
    x = Axis(0.0, end, _LEFT, _WIDTH - _RIGHT)
    drawn: list[str] = []
    for index, panel in enumerate(panels):
        top = _TOP + index * (_PANEL + _GAP)
        drawn += _drawn(panel, loads, roles, x, top)
    bottom = _TOP + len(panels) * (_PANEL + _GAP) - _GAP
    drawn += draw_x_axis(x, (bottom, _TOP), plain(round_ticks(0.0, end)), "seconds under load")
    drawn += _legend(loads, roles)
    told, whose = ", ".join(panel.title for panel in panels), " and ".join(load.label for load in loads)
    words = f"{told} of {whose}, over {end:.0f} s"
    return picture(name, "The course of the load", words, _WIDTH, bottom + _BOTTOM, *drawn)


def _drawn(panel: _Panel, loads: Sequence[Sustained], roles: Sequence[str], x: Axis, top: float) -> Iterator[str]:
    series = [[(one, value) for one in load.seconds if (value := panel.value(one)) is not None] for load in loads]
    values = [value for points in series for _, value in points]
    low, high = _ends(min(values), max(values))
    y = Axis(low, high, top + _PANEL, top)
    yield text(x.start, top - 8, panel.title, class_="axis")
    for value in round_ticks(low, high, 4):
        yield line(x.start, y.at(value), x.end, y.at(value), "grid")
        yield text(x.start - 6, y.at(value) + 4, f"{value:g}", class_="axis", text_anchor="end")
    for role, points in zip(roles, series, strict=True):
        middles = [(x.at(one.at_s + one.lasted_s / 2), y.at(value)) for one, value in points]
        yield polyline(middles, f"{role} line")
        # Mark the points at which the clock was throttled.
        for (one, _), (across, up) in zip(points, middles, strict=True):
            if one.reading.throttled:
                yield element("circle", cx=across, cy=up, r=3, class_=f"{role} mark")


def _ends(low: float, high: float) -> tuple[float, float]:
    """Add a margin, and do not magnify tiny changes."""
    room = max(0.1 * (high - low), 0.05 * abs(high), 1e-6)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _legend(loads: Sequence[Sustained], roles: Sequence[str]) -> Iterator[str]:
    right = _WIDTH - _RIGHT
    for role, load in reversed(list(zip(roles, loads, strict=True))):
        label = load.label if len(load.label) <= 20 else f"{load.label[:19]}\N{HORIZONTAL ELLIPSIS}"
        yield text(right, 14, label, class_="label", text_anchor="end")
        right -= math.ceil(8 * len(label)) + 10
        yield line(right - 28, 10, right, 10, f"{role} line")
        right -= 44
