"""The study as tables in the form of the papers, and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deploy.method_study.recipe import BASELINES
from deploy.method_study.results import Cell, MeasuredRow, StudyResults
from deploy.method_study.summary import (
    Difference,
    Mean,
    Win,
    accuracies,
    against,
    cells_of,
    mean_of,
    wins,
)
from deploy.report.sheets import Sheet
from deploy.report.words import NOTHING, count, duration, interval, percent, ratio, realised, verdict

__all__ = ["accuracy_sheet", "against_sheet", "answers", "failures", "measured_sheet", "recovery_sheet", "sheets"]


def sheets(results: StudyResults) -> tuple[Sheet, ...]:
    """Give every table that has rows."""
    found = (accuracy_sheet(results), against_sheet(results), recovery_sheet(results), measured_sheet(results))
    return tuple(sheet for sheet in found if sheet.rows)


def accuracy_sheet(results: StudyResults) -> Sheet:
    """Accuracy on the test images: method, budget, dense, as pruned, after each recovery, MACs, parameters."""
    recoveries = _recoveries(results)
    notes = _Notes()
    rows = []
    for method, budget in _rows(results):
        cells = cells_of(results, method=method, budget=budget)
        first = [cell for cell in cells if cell.recovery == recoveries[0]]
        after = []
        for recovery in recoveries:
            own = [cell for cell in cells if cell.recovery == recovery]
            note = notes.of({cell.reason for cell in own if cell.outcome != "ok"})
            after.append(_mean(mean_of(list(accuracies(own).values()))) + note)
        landing = notes.of({cell.landing for cell in first if cell.landing})
        rows.append(
            (
                method,
                budget,
                _mean(mean_of(list(accuracies(first, lambda cell: cell.dense).values()))),
                _mean(mean_of(list(accuracies(first, lambda cell: cell.pruned).values()))),
                *after,
                _cost([cell.macs for cell in first if cell.macs is not None]) + landing,
                _cost([cell.params for cell in first if cell.params is not None])
                + notes.of({_zeros(cell) for cell in first if cell.zeros and cell.params is not None}, join=False),
            )
        )
    seeds = dict.fromkeys(cell.seed for cell in results.cells)
    over = f"mean +- standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed: no deviation"
    return Sheet(
        title="Accuracy on test images, in %",
        columns=("method", "budget", "dense", "as pruned", *recoveries, "MACs", "params"),
        rows=tuple(rows),
        n_left=2,
        notes=tuple(notes.texts),
        caption=f"{over}; MACs and params: what is left, with the share of the dense network's. {results.split}",
    )


def against_sheet(results: StudyResults) -> Sheet:
    """Each method's accuracy minus that of the baselines, seed by seed."""
    names = [name for name in BASELINES if any(cell.method == name for cell in results.cells)]
    recoveries = _recoveries(results)
    rows = []
    for method, budget in _rows(results):
        cells = cells_of(results, method=method, budget=budget)
        if method in names or not cells or cells[0].removes != "channels":
            continue
        for name in names:
            found = [against(results, method, name, budget, recovery) for recovery in recoveries]
            rows.append((method, budget, name, *(_difference(one) for one in found)))
    return Sheet(
        title="Test accuracy minus that of the baselines, in points",
        columns=("method", "budget", "baseline", *recoveries),
        rows=tuple(rows),
        n_left=3,
        caption="mean of the differences seed by seed and its 95 % interval; *: the interval holds no 0.",
    )


def recovery_sheet(results: StudyResults) -> Sheet:
    """How each network was trained, and what it took."""
    rows = []
    for recovery in _recoveries(results):
        for method, budget in _rows(results):
            cells = [
                cell for cell in cells_of(results, method=method, budget=budget, recovery=recovery) if cell.recovered
            ]
            if not cells:
                continue
            chosen = [cell.recovered.accuracy_validation for cell in cells if cell.recovered is not None]
            rows.append(
                (
                    recovery,
                    method,
                    budget,
                    _several(f"{cell.lr:g}" for cell in cells if cell.lr is not None),
                    _several(str(cell.epochs) for cell in cells),
                    _mean(mean_of(chosen)),
                    f"{sum(cell.training_seconds for cell in cells) / len(cells):.0f} s",
                )
            )
    return Sheet(
        title="How they were trained",
        columns=("recovery", "method", "budget", "lr", "epochs", "validation", "training"),
        rows=tuple(rows),
        n_left=3,
        caption="lr: the largest learning rate. validation: accuracy in %. training: seconds of all epochs, mean over "
        "seeds; they depend on what else the machine did.",
    )


def measured_sheet(results: StudyResults) -> Sheet:
    """Tell what each network gives beside the dense one, under each backend."""
    notes = _Notes()
    several = len({row.seed for row in results.measured}) > 1
    rows = []
    for row in results.measured:
        note = notes.of({f"not measured apart: the same network as {row.same_as}"} if row.same_as else set())
        rows.append(
            (
                row.method,
                f"{row.budget}, seed {row.seed}" if several else row.budget,
                row.backend,
                *_pair(row, notes, note),
            )
        )
    return Sheet(
        title="Measured beside the dense network",
        columns=("method", "budget", "backend", "dense", "pruned", "speed-up", "FLOPs say", "realised", "verdict"),
        rows=tuple(rows),
        n_left=3,
        notes=tuple(notes.texts),
        caption="median latency of one request; speed-up with its 95 % interval; realised: share of what FLOPs say.",
    )


def answers(results: StudyResults) -> tuple[str, ...]:
    """Say for each budget and recovery which method won, by how much, and whether that is more than noise."""
    said = tuple(_answer(win, results) for win in wins(results))
    return said or ("No method finished with all seeds yet: there is nothing to say.",)


def failures(results: StudyResults) -> tuple[Cell, ...]:
    """Return the cells that failed."""
    return tuple(cell for cell in results.cells if cell.outcome == "failed")


def _answer(win: Win, results: StudyResults) -> str:
    text = f"At {win.budget}, {win.recovery}: {win.method} is best with {_mean(win.mean)} % of the test images"
    if win.margin is None:
        return f"{text}; no other method finished."
    text += f", {_points(win.margin.value)} points above {win.second}"
    if win.margin.half_width is None or win.margin.exceeds is None:
        text += "; with one seed the noise is not known"
    elif win.margin.exceeds:
        text += f", which exceeds the seed noise (+-{_points(win.margin.half_width)} with {win.margin.n} seeds)"
    else:
        text += f", which does NOT exceed the seed noise (+-{_points(win.margin.half_width)} with {win.margin.n} seeds)"
    for name in BASELINES:
        if name in (win.method, win.second):
            continue
        found = against(results, win.method, name, win.budget, win.recovery)
        if found is not None:
            text += f"; against {name} {_difference(found)}"
    return f"{text}. One test image is {100 / win.n_test:.2g} points."


def _pair(row: MeasuredRow, notes: _Notes, note: str) -> tuple[str, ...]:
    from benchmarks.stats import summarise

    found = row.comparison
    if found is None:
        return (NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, f"none{notes.of({row.reason})}")
    if found.speedup is None:
        told = {side.failure for side in (found.baseline, found.candidate) if side.failure}
        return (NOTHING, NOTHING, NOTHING, ratio(found.flop_ratio), NOTHING, f"failed{notes.of(told)}")
    doubts = {doubt for side in (found.baseline, found.candidate) for doubt in side.doubts}
    times = [duration(summarise(side).p50_ns) for side in (found.baseline, found.candidate)]
    return (
        *times,
        interval(found.speedup),
        ratio(found.flop_ratio),
        realised(found),
        f"{verdict(found)}{note}{notes.of(doubts)}",
    )


class _Notes:
    """Footnotes, each said once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, told: set[str], *, join: bool = True) -> str:
        """Return the marks of some texts."""
        if not join:
            told = {max(told)} if told else set()
        for text in sorted(told):
            if text not in self.texts:
                self.texts.append(text)
        return "".join(f" [{self.texts.index(text) + 1}]" for text in sorted(told))


def _rows(results: StudyResults) -> Iterator[tuple[str, str]]:
    """Yield each budget with each method, in the order of the recipe."""
    for budget in dict.fromkeys(cell.budget for cell in results.cells):
        for method in dict.fromkeys(cell.method for cell in results.cells):
            yield method, budget


def _recoveries(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(cell.recovery for cell in results.cells))


def _mean(mean: Mean | None) -> str:
    """Write in percent, without the sign: ``"98.06 +- 0.20"``."""
    if mean is None:
        return NOTHING
    value = f"{100 * mean.value:.2f}"
    return value if mean.deviation is None else f"{value} +- {100 * mean.deviation:.2f}"


def _points(share: float) -> str:
    return f"{100 * share:.2f}"


def _difference(found: Difference | None) -> str:
    if found is None:
        return NOTHING
    value = f"{100 * found.value:+.2f}"
    if found.half_width is None:
        return value
    return f"{value} +- {_points(found.half_width)}{' *' if found.exceeds else ''}"


def _cost(pairs: Sequence[tuple[int, int]]) -> str:
    if not pairs:
        return NOTHING
    dense = pairs[0][0]
    left = sum(after for _, after in pairs) / len(pairs)
    return f"{count(round(left))} ({percent(left / dense)})"


def _zeros(cell: Cell) -> str:
    assert cell.params is not None
    return (
        f"{percent(cell.zeros / cell.params[1])} of them are 0 and counted: dense runtimes multiply by a 0 as by any "
        "other number"
    )


def _several(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or NOTHING
