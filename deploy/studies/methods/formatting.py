"""Format the numbers of a study, and state which method won. ASCII only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deploy.files.advice import fitting
from deploy.report.formatting import NOTHING, count, difference_unit, percent, score_number
from deploy.sources.metric import Metric
from deploy.studies.methods.recipe import BASELINES
from deploy.studies.methods.results import Cell, StudyResults
from deploy.studies.methods.summary import Difference, Mean, Win, against, too_slow, wins

__all__ = ["answers", "cost", "difference", "failures", "mean", "several"]


def mean(average: Mean | None, metric: Metric) -> str:
    """Format a mean score in percent or in dB, without the unit: ``"98.06 +- 0.20"``."""
    if average is None:
        return NOTHING
    value = score_number(metric, average.value)
    return value if average.deviation is None else f"{value} +- {score_number(metric, average.deviation)}"


def difference(gap: Difference | None, metric: Metric) -> str:
    """Format a difference in points or in dB with its interval, and a star if that excludes 0."""
    if gap is None:
        return NOTHING
    value = score_number(metric, gap.value, signed=True)
    if gap.half_width is None:
        return value
    return f"{value} +- {score_number(metric, gap.half_width)}{' *' if gap.exceeds else ''}"


def cost(pairs: Sequence[tuple[int, int]]) -> str:
    """Format the mean cost that is left, and its share of the original: ``"20.4 M (50 %)"``."""
    if not pairs:
        return NOTHING
    left = sum(after for _, after in pairs) / len(pairs)
    return f"{count(round(left))} ({percent(left / pairs[0][0])})"


def several(values: Iterable[str]) -> str:
    """Join the values, each once."""
    return ", ".join(dict.fromkeys(values)) or NOTHING


def failures(results: StudyResults) -> tuple[str, ...]:
    """Return the failed cells, one line per reason."""
    failed: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in results.cells:
        if cell.outcome == "failed":
            failed.setdefault((cell.method, cell.budget, cell.reason), []).append(cell)
    return tuple(
        f"{method}, {budget} ({several(cell.recovery for cell in cells)}; "
        f"seed {several(str(cell.seed) for cell in cells)}): {fitting(reason)}"
        for (method, budget, reason), cells in failed.items()
    )


def answers(results: StudyResults) -> tuple[str, ...]:
    """State for each budget and recovery which method won, by how much, and whether this exceeds noise."""
    lines = tuple(_answer(win, results) for win in wins(results)) + tuple(
        f"At {budget}, {recovery}: no method done with all seeds is as fast as asked for; slower: {several(names)}."
        for budget, recovery, names in too_slow(results)
    )
    return lines or ("No method is done with all seeds: there is nothing to say yet.",)


def _answer(win: Win, results: StudyResults) -> str:
    metric = results.metric
    right = "% of the test images right" if metric == "accuracy" else "dB on the test images"
    text = f"At {win.budget}, {win.recovery}: {win.method} is best with {mean(win.mean, metric)} {right}"
    if win.margin is not None:
        text += _margin(win.second, win.margin, metric)
    elif not win.slower:
        text += "; no other method is done"
    for name in BASELINES if win.margin is not None else ():
        gap = against(results, win.method, name, win.budget, win.recovery)
        if name not in (win.method, win.second, *win.slower) and gap is not None:
            text += f"; {difference(gap, metric)} against {name}"
    if win.slower:
        text += f"; not compared, as slower than asked for: {several(win.slower)}"
    return f"{text}. One test image is {100 / win.n_test:.2g} points." if metric == "accuracy" else f"{text}."


def _margin(second: str, margin: Difference, metric: Metric) -> str:
    if margin.value == 0:
        return f", and {second} is as good"
    text = f", {score_number(metric, margin.value)} {difference_unit(metric)} above {second}"
    if margin.half_width is None:
        return f"{text}; with one seed the noise is not known"
    does = "exceeds" if margin.exceeds else "does NOT exceed"
    return f"{text}, which {does} the seed noise of +-{score_number(metric, margin.half_width)} ({margin.n} seeds)"
