"""The two plots of measurements: latency distributions, and FLOPs against time.

Each backend has its own panels, since backends are measured one after the other; the distributions of one page share
an axis (`latency_range`). Baseline and candidate differ by line and marker as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.records.measurement import Comparison, Measurement
from benchmarks.stats.summary import percentile, summarise, supports
from deploy.report.drawing.axes import Axis, draw_x_axis, draw_y_axis, factor_ticks, plain, round_ticks, time_unit
from deploy.report.drawing.svg import element, line, picture, polyline, text
from deploy.report.formatting import count, duration, interval, percent

__all__ = ["flops_plot", "latency_plot", "latency_range"]

_STEPS = 50
"""Points of a distribution's curve: drawing all samples would make the page megabytes large."""
_SKEWED = 4
_SIZE = (440.0, 300.0)
_ROLES = ("baseline", "candidate")


def latency_range(measurements: Sequence[Measurement]) -> tuple[float, float]:
    """Return the range of a latency axis, in ns, that covers 99 % of the calls of each measurement.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one; none failed.
    """
    calls = [sorted(ns for trial in measurement.trials for ns in trial.calls_ns) for measurement in measurements]
    return _widened(min(ordered[0] for ordered in calls), max(_near_the_end(ordered) for ordered in calls))


def latency_plot(
    baseline: Measurement | None, candidate: Measurement | None, name: str, within: tuple[float, float]
) -> str:
    """Draw the cumulative distribution of latencies: of all calls, and of each process as a thin line.

    Parameters
    ----------
    baseline, candidate : Measurement or None
        Of one backend; at least one is given. None for one without samples.
    name : str
        Identifier that is unique on the page.
    within : (float, float)
        Ends of the axis in ns, see `latency_range`.
    """
    width, height = _SIZE
    shown = [
        (role, measurement)
        for role, measurement in zip(_ROLES, (baseline, candidate), strict=True)
        if measurement is not None
    ]
    calls = [sorted(ns for trial in measurement.trials for ns in trial.calls_ns) for _, measurement in shown]
    low, high = within
    scale, unit = time_unit(high)
    skewed = high > _SKEWED * low  # on a linear axis a long tail would squeeze the rest against the edge
    x = Axis(low, high, 48, width - 16, logarithmic=skewed)
    y = Axis(0, 1, height - 44, 34)
    ticks = plain((factor_ticks if skewed else round_ticks)(low / scale, high / scale), scale)
    below = f"latency of one request [{unit}]{', logarithmic' if skewed else ''}"
    drawn = draw_x_axis(x, (y.start, y.end), ticks, below)
    drawn += draw_y_axis(x, y, [(share, percent(share)) for share in (0, 0.25, 0.5, 0.75, 0.9, 1)], "share of calls")
    percentiles = []
    for (role, measurement), ordered in zip(shown, calls, strict=True):
        for trial in measurement.trials:
            if len(measurement.trials) > 1:
                drawn.append(polyline(_curve(sorted(trial.calls_ns), x, y), f"{role} trial"))
        drawn.append(polyline(_curve(ordered, x, y), f"{role} line"))
        for share in (0.5, 0.9):
            if supports(len(ordered), share):
                ns = percentile(ordered, share)
                drawn.append(_marker(role, x.at(min(ns, high)), y.at(share)))
                percentiles.append(f"{measurement.subject.label} p{100 * share:.0f} {duration(ns)}")
    drawn += _legend([(role, measurement.subject.label) for role, measurement in shown], width)
    backend = shown[0][1].subject.backend
    return picture(
        name,
        f"Latency on {backend}",
        f"Cumulative distribution of the latency of one request: {', '.join(percentiles)}.",
        width,
        height,
        *drawn,
    )


def flops_plot(pair: Comparison, name: str) -> str:
    """Draw median latency over FLOPs: from the baseline to the candidate, and the latency that FLOPs promised.

    Parameters
    ----------
    pair : Comparison
        Neither side failed.
    name : str
        Identifier that is unique on the page.
    """
    width, height = _SIZE
    times = [summarise(measurement).p50_ns for measurement in pair.sides]
    flops = [cost.flops for cost in (pair.baseline_cost, pair.candidate_cost)]
    scale, unit = time_unit(max(times))
    # Headroom keeps markers and their labels inside.
    x = Axis(0, 1.15 * max(1, *flops), 48, width - 16)
    y = Axis(0, 1.2 * max(times), height - 44, 34)
    power, prefix = _power(x.high)
    flop_ticks = plain(round_ticks(0, x.high / power, 5), power)
    drawn = draw_x_axis(x, (y.start, y.end), flop_ticks, f"FLOPs of one example [{prefix}FLOP]")
    drawn += draw_y_axis(x, y, plain(round_ticks(0, y.high / scale, 5), scale), f"median latency [{unit}]")
    (x0, x1), (y0, y1) = [x.at(value) for value in flops], [y.at(value) for value in times]
    drawn.append(line(x.at(0), y.at(0), x0, y0, "promise"))
    description = f"{pair.baseline.subject.label}: {count(flops[0])}FLOP, {duration(times[0])}; "
    description += f"{pair.candidate.subject.label}: {count(flops[1])}FLOP, {duration(times[1])}."
    if flops[0] and flops[1]:
        promised = times[0] * flops[1] / flops[0]
        # The unrealised part of the promise, as a visible distance.
        drawn.append(line(x1, y.at(promised), x1, y1, "gap"))
        drawn.append(element("circle", cx=x1, cy=y.at(promised), r=3, class_="promised"))
        description += f" Had time followed FLOPs, it would take {duration(promised)}."
    drawn.append(_arrow(x0, y0, x1, y1))
    drawn += [_marker("baseline", x0, y0), _marker("candidate", x1, y1)]
    drawn.append(
        text(min(x0 + 6, x.end), y0 - 11, _short(pair.baseline.subject.label), class_="label", text_anchor="end")
    )
    drawn.append(_beside(x1, y1, _short(pair.candidate.subject.label), x.start))
    drawn.append(line(width - 166, 16, width - 146, 16, "promise"))
    drawn.append(text(width - 140, 20, "if time followed FLOPs", class_="axis"))
    if pair.speedup is not None and pair.flop_ratio is not None:
        description += f" Speed-up {interval(pair.speedup)} at a FLOP ratio of {pair.flop_ratio:.2f}x."
    return picture(name, f"FLOPs against time on {pair.candidate.subject.backend}", description, width, height, *drawn)


def _near_the_end(ordered: Sequence[int]) -> int:
    """Return the end of the axis, past 99 % of the calls: one outlier must not flatten the rest."""
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = min(0.05 * (high - low) or 0.05 * high, 0.1 * low)
    return low - margin, high + margin


def _power(number: float) -> tuple[float, str]:
    powers = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next(((power, prefix) for power, prefix in powers if number >= power), (1.0, ""))


def _curve(ordered: Sequence[int], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Follow the distribution by nearest rank, up to the end of the axis."""
    n = len(ordered)
    ranks = sorted({max(1, round(n * step / _STEPS)) for step in range(_STEPS + 1)})
    return [(x.at(ordered[rank - 1]), y.at(rank / n)) for rank in ranks if ordered[rank - 1] <= x.high]


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Draw an arrow that ends short of the marker at the second point."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    if length < 24:  # no room between the two markers
        return ""
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    tip, neck = (x2 - 9 * dx, y2 - 9 * dy), (x2 - 18 * dx, y2 - 18 * dy)
    head = [tip, (neck[0] - 4 * dy, neck[1] + 4 * dx), (neck[0] + 4 * dy, neck[1] - 4 * dx), tip]
    return line(x1 + 8 * dx, y1 + 8 * dy, *neck, "arrow") + polyline(head, "arrowhead")


def _marker(role: str, x: float, y: float) -> str:
    """Draw a ring for the baseline, a filled square for the candidate."""
    if role == "baseline":
        return element("circle", cx=x, cy=y, r=5, class_="baseline mark")
    return element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_="candidate mark")


def _beside(x: float, y: float, label: str, start: float) -> str:
    """Write a label left of a marker, out of the arrow's way, or below it if the axis is too close."""
    if x - 12 - 7.5 * len(label) < start:
        return text(x, y + 20, label, class_="label", text_anchor="start" if x - 4 * len(label) < start else "middle")
    return text(x - 12, y + 4, label, class_="label", text_anchor="end")


def _short(label: str) -> str:
    return label if len(label) <= 14 else f"{label[:13]}\N{HORIZONTAL ELLIPSIS}"


def _legend(labels: Sequence[tuple[str, str]], width: float) -> list[str]:
    """Name the curves above the picture, from the right."""
    drawn, right = [], width - 16
    for role, label in reversed(labels):
        shown = _short(label)
        drawn.append(text(right, 20, shown, class_="label", text_anchor="end"))
        right -= 8 * len(shown) + 38
        drawn.append(line(right, 16, right + 30, 16, f"{role} line"))
        drawn.append(_marker(role, right + 15, 16))
        right -= 18
    return drawn
