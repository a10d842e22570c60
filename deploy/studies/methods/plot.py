"""Pareto plot of a study: accuracy or PSNR against the remaining share of the dense network's time or MACs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.stats.summary import summarise
from deploy.report.drawing.axes import Axis, draw_x_axis, draw_y_axis, plain, round_ticks
from deploy.report.drawing.labels import Box, place_labels
from deploy.report.drawing.svg import element, line, number, picture, polyline, text
from deploy.report.formatting import duration, percent, score, score_name, score_title, score_unit
from deploy.studies.methods.results import StudyResults
from deploy.studies.methods.summary import Mean, cells_of, mean_of, scores_of

__all__ = ["Point", "front", "pareto_picture", "pareto_plot", "points"]

_SIZE = (640.0, 400.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 170.0, 34.0, 48.0
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Palette of Okabe and Ito, safe for colour blindness; markers also differ by shape and a number."""
_SHAPES = ("circle", "square", "triangle", "diamond")
_STYLE = """
text{fill:#1d2329;font:13px system-ui,sans-serif} .axis{fill:#59636e;font-size:12px}
.number{font-size:11px;font-weight:600;paint-order:stroke;stroke:#ffffff;stroke-width:3px}
line,polyline{fill:none;stroke:#59636e} .grid{stroke:#d5dae0;stroke-width:.75}
.dense{fill:none;stroke:#1d2329} .front{stroke:#1d2329;stroke-dasharray:5 4} .whisker{stroke-width:1}
.leader{stroke-width:.75}
"""
_MARKER, _DIGIT, _TALL, _APART = 6.0, 7.0, 12.0, 4.0
"""Half a marker, the width and height of a digit, and the gap that separates two adjacent numbers."""


@dataclass(frozen=True, slots=True)
class Point:
    """One method at one budget.

    Parameters
    ----------
    method, budget : str
        Their names in the tables.
    cost : tuple of float
        Lowest, mean and highest cost, as shares of the dense network's.
    score : Mean
        On test images.
    """

    method: str
    budget: str
    cost: tuple[float, float, float]
    score: Mean


def points(results: StudyResults, recovery: str, backend: str = "") -> tuple[Point, ...]:
    """Return the points to draw, by time on `backend` or, if it is empty, by MACs."""
    drawn = []
    for budget in dict.fromkeys(cell.budget for cell in results.cells):
        for method in dict.fromkeys(cell.method for cell in results.cells):
            cells = cells_of(results, method=method, budget=budget, recovery=recovery)
            score = mean_of(list(scores_of(cells).values()))
            cost = _time(results, method, budget, backend) if backend else _macs([c.macs for c in cells if c.macs])
            if score is not None and cost is not None:
                drawn.append(Point(method=method, budget=budget, cost=cost, score=score))
    return tuple(drawn)


def front(drawn: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points of the Pareto front, by increasing cost."""
    best: list[Point] = []
    for point in sorted(drawn, key=lambda one: (one.cost[1], -one.score.value)):
        if not best or point.score.value > best[-1].score.value:
            best.append(point)
    return tuple(best)


def pareto_plot(results: StudyResults, recovery: str, backend: str = "") -> str:
    """Draw `pareto_picture` as an SVG file with a white background; empty string without points."""
    drawn = pareto_picture(results, recovery, backend)
    if not drawn:
        return ""
    head, _, rest = drawn.partition(">")
    ground = element("rect", width="100%", height="100%", fill="#ffffff")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{head}>{element('style', _STYLE)}{ground}{rest}\n"


def pareto_picture(results: StudyResults, recovery: str, backend: str = "", name: str = "pareto") -> str:
    """Draw the score over the remaining time or MACs; empty string without points.

    Parameters
    ----------
    results : StudyResults
        Results of the study.
    recovery : str
        Recovery whose scores are drawn.
    backend : str
        Backend of the time; empty: MACs.
    name : str
        Identifier, unique on the page.
    """
    shown = points(results, recovery, backend)
    if not shown:
        return ""
    dense = mean_of(list({c.seed: c.dense.score_test for c in results.cells if c.dense is not None}.values()))
    spans = [(p.score.value - _spread(p.score), p.score.value + _spread(p.score)) for p in shown]
    spans += [] if dense is None else [(dense.value - _spread(dense), dense.value + _spread(dense))]
    low, high = min(one[0] for one in spans), max(one[1] for one in spans)
    metric = results.metric
    pad = 0.08 * (high - low) or (0.01 if metric == "accuracy" else 0.1)
    methods = list(dict.fromkeys(p.method for p in shown))
    width, height = _SIZE[0], max(_SIZE[1], _TOP + 20 * (len(methods) + 2))
    x = Axis(0, 1.05 * max(1.0, *(p.cost[2] for p in shown)), _LEFT, width - _RIGHT)
    y = Axis(low - pad, high + pad, height - _BOTTOM, _TOP)
    what = f"time on {backend}" if backend else "MACs"
    whole = f" ({_dense_time(results, backend)})" if backend else ""
    scale = 100 if metric == "accuracy" else 1
    cost_ticks, score_ticks = plain(round_ticks(x.low, x.high)), round_ticks(scale * y.low, scale * y.high)
    cost_title = f"{what}, as a share of the dense network's{whole}"
    drawn = draw_x_axis(x, (y.start, y.end), cost_ticks, cost_title, grid=True)
    drawn += draw_y_axis(x, y, plain(score_ticks, 1 / scale), f"test {score_name(metric)} [{score_unit(metric)}]")
    drawn += [line(x.start, y.start, x.end, y.start, "frame"), line(x.start, y.start, x.start, y.end, "frame")]
    drawn.append(polyline([(x.at(p.cost[1]), y.at(p.score.value)) for p in front(shown)], "front"))
    marked = [(x.at(p.cost[1]), y.at(p.score.value), str(methods.index(p.method) + 1)) for p in shown]
    if dense is not None:
        drawn += _whiskers(x, y, (1.0, 1.0, 1.0), dense, "#59636e")
        drawn.append(element("circle", cx=x.at(1), cy=y.at(dense.value), r=6, class_="dense"))
        marked.append((x.at(1), y.at(dense.value), "dense"))
    for point in shown:
        index = methods.index(point.method)
        drawn += _whiskers(x, y, point.cost, point.score, _COLOURS[index % len(_COLOURS)])
        drawn.append(_marker(index, x.at(point.cost[1]), y.at(point.score.value)))
    drawn += _labels(marked, (x.start, y.end, x.end, y.start))
    for index, method in enumerate(methods):
        row = _TOP + 8 + 20 * index
        drawn.append(_marker(index, width - _RIGHT + 18, row))
        drawn.append(text(width - _RIGHT + 32, row + 4, f"{index + 1} {method}"))
    row = _TOP + 8 + 20 * len(methods)
    drawn.append(line(width - _RIGHT + 10, row, width - _RIGHT + 28, row, "front"))
    drawn.append(text(width - _RIGHT + 32, row + 4, "Pareto front"))
    description = "; ".join(
        f"{p.method} at {p.budget}: {score(metric, p.score.value)} with {percent(p.cost[1])} of the {what}"
        for p in shown
    )
    title = f"{score_title(metric)} against {what}, {recovery}"
    return picture(name, title, f"{description}.", width, height, *drawn, class_="pareto")


def _labels(marked: Sequence[tuple[float, float, str]], within: Box) -> list[str]:
    """Label each marker without overlaps; a label further away gets a leader line."""
    at = [(x, y) for x, y, _ in marked]
    boxes = place_labels(at, [(_DIGIT * len(words) + _APART, _TALL) for _, _, words in marked], within, _MARKER)
    drawn = []
    for (x, y, words), (left, top, right, bottom) in zip(marked, boxes, strict=True):
        middle, level = (left + right) / 2, (top + bottom) / 2
        near = min(max(x, left), right), min(max(y, top), bottom)
        if abs(near[0] - x) + abs(near[1] - y) > 2 * _MARKER + 4:
            drawn.append(line(x, y, *near, "leader"))
        drawn.append(text(middle, level + 4, words, class_="number", text_anchor="middle"))
    return drawn


def _time(results: StudyResults, method: str, budget: str, backend: str) -> tuple[float, float, float] | None:
    """Return the share of the dense network's time: the mean over seeds, and the outer ends of their intervals."""
    asked = (method, budget, backend)
    speedups = [
        row.comparison.speedup
        for row in results.measured
        if (row.method, row.budget, row.backend) == asked and row.comparison is not None and row.comparison.speedup
    ]
    if not speedups:
        return None
    middle = sum(1 / speedup.value for speedup in speedups) / len(speedups)
    return min(1 / speedup.high for speedup in speedups), middle, max(1 / speedup.low for speedup in speedups)


def _dense_time(results: StudyResults, backend: str) -> str:
    """Format the time of the dense network on a backend: the median over the pairs."""
    times = [
        summarise(row.comparison.baseline).p50_ns
        for row in results.measured
        if row.backend == backend and row.comparison is not None and row.comparison.speedup
    ]
    return duration(median(times))


def _macs(pairs: Sequence[tuple[int, int]]) -> tuple[float, float, float] | None:
    shares = [after / before for before, after in pairs]
    return (min(shares), sum(shares) / len(shares), max(shares)) if shares else None


def _spread(mean: Mean) -> float:
    return mean.deviation or 0.0


def _whiskers(x: Axis, y: Axis, cost: tuple[float, float, float], score: Mean, colour: str) -> list[str]:
    """Draw the interval of the cost, and one standard deviation of the score on each side."""
    at, low, high = x.at(cost[1]), y.at(score.value - _spread(score)), y.at(score.value + _spread(score))
    level = y.at(score.value)
    drawn = []
    if cost[0] != cost[2]:
        drawn.append(line(x.at(cost[0]), level, x.at(cost[2]), level, "whisker", style=f"stroke:{colour}"))
    if low != high:
        drawn.append(line(at, low, at, high, "whisker", style=f"stroke:{colour}"))
    return drawn


def _marker(index: int, x: float, y: float) -> str:
    colour = _COLOURS[index % len(_COLOURS)]
    match _SHAPES[index % len(_SHAPES)]:
        case "circle":
            return element("circle", cx=x, cy=y, r=5, fill=colour)
        case "square":
            return element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, fill=colour)
        case "triangle":
            corners = [(x, y - 6), (x - 5.5, y + 4), (x + 5.5, y + 4)]
        case _:
            corners = [(x, y - 6), (x - 6, y), (x, y + 6), (x + 6, y)]
    return element("polygon", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), fill=colour)
