"""Tables of a study: narrow ones for the terminal, and a wide one in the style of papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from benchmarks.stats.summary import summarise
from deploy.bundles.pruning import SpeedLanding
from deploy.report.formatting import (
    NOTHING,
    difference_unit,
    duration,
    interval,
    percent,
    realised,
    score_name,
    score_title,
    score_unit,
    verdict,
)
from deploy.report.table import Notes, Table, left
from deploy.studies.methods.formatting import cost, difference, mean, several
from deploy.studies.methods.recipe import BASELINES
from deploy.studies.methods.results import Cell, MeasuredRow, StudyResults
from deploy.studies.methods.summary import against, cells_of, comparable, mean_of, scores_of

__all__ = [
    "against_table",
    "cost_table",
    "equal_time_tables",
    "measured_tables",
    "paper_table",
    "recovery_table",
    "tables",
]

_LEFT = "what is left, with its share of the dense network's"


def tables(results: StudyResults) -> tuple[Table, ...]:
    """Return the tables for the terminal, without empty ones."""
    made = (
        *equal_time_tables(results),
        *_score_tables(results),
        against_table(results),
        cost_table(results),
        *measured_tables(results),
    )
    return tuple(table for table in (*made, recovery_table(results)) if table.rows)


def _score_tables(results: StudyResults) -> Iterator[Table]:
    """Yield a table of scores for each budget that is not a speed."""
    recoveries = _recoveries(results)
    dense = mean_of(list({c.seed: c.dense.score_test for c in results.cells if c.dense is not None}.values()))
    for budget in _budgets(results):
        if any(cell.speeds for cell in cells_of(results, budget=budget)):
            continue
        notes = Notes()
        rows = tuple((method, *_after(results, method, budget, notes)) for method in _methods(results))
        yield Table(
            title=f"{score_title(results.metric)} on test images in {score_unit(results.metric)}, at {budget}",
            columns=(*left("method"), *recoveries),
            rows=rows,
            notes=notes.texts,
            caption=f"The dense network: {mean(dense, results.metric)}. {_over(results)} {results.split}",
        )


def paper_table(results: StudyResults) -> Table:
    """Tabulate each method and budget in one row: scores, MACs, parameters and measurements."""
    recoveries = _recoveries(results)
    backends = list(dict.fromkeys(row.backend for row in results.measured))
    notes, rows = Notes(), []
    for budget in _budgets(results):
        for method in _methods(results):
            cells = [c for c in cells_of(results, method=method, budget=budget) if c.recovery == recoveries[0]]
            rows.append(
                (
                    method,
                    budget,
                    mean(mean_of(list(scores_of(cells, lambda cell: cell.dense).values())), results.metric),
                    mean(mean_of(list(scores_of(cells, lambda cell: cell.pruned).values())), results.metric),
                    *_after(results, method, budget, notes),
                    *_costs(cells, notes),
                    *(cell for name in backends for cell in _measured(results, method, budget, name, notes)),
                )
            )
    measured = (f"{name}: {what}" for name in backends for what in ("latency", "speed-up", "realised"))
    tail = " Latency: median of one request. Realised: share of the speed-up that FLOPs say." if backends else ""
    return Table(
        title=f"{score_title(results.metric)} on test images, cost and speed",
        columns=(*left("method", "budget"), "dense", "as pruned", *recoveries, "MACs", "params", *measured),
        rows=tuple(rows),
        notes=notes.texts,
        caption=f"{score_title(results.metric)} in {score_unit(results.metric)}. {_over(results)} "
        f"MACs and params: {_LEFT}.{tail} {results.split}",
    )


def equal_time_tables(results: StudyResults) -> Iterator[Table]:
    """Yield for each speed a table of time, cost and scores of all methods, the best first."""
    recoveries, metric = _recoveries(results), results.metric
    for budget in _budgets(results):
        landing = next((one for cell in cells_of(results, budget=budget) for one in cell.speeds), None)
        if landing is None:
            continue
        cells = {
            method: cells_of(results, method=method, budget=budget, recovery=recoveries[0])
            for method in _methods(results)
        }
        means = {method: mean_of(list(scores_of(own).values())) for method, own in cells.items()}
        ranked = sorted(means, key=lambda name: -one.value if (one := means[name]) else 0.0)
        best = next((name for name in ranked if comparable(cells[name])), ranked[0])
        notes, rows = Notes(), []
        for method in ranked:
            came = [one for cell in cells[method] for one in cell.speeds]
            gap = None if method == best else against(results, method, best, budget, recoveries[0])
            rows.append(
                (
                    method,
                    notes.after(_shares([one.measured[one.kept_round] for one in came]), map(_off, came)),
                    _shares(_measured_shares(results, method, budget, landing.backend)),
                    _costs(cells[method], notes)[0],
                    *_after(results, method, budget, notes),
                    difference(gap, metric),
                )
            )
        yield Table(
            title=f"At equal time, {budget}",
            columns=(*left("method"), "when pruned", "measured", "MACs", *recoveries, f"minus {best}"),
            rows=tuple(rows),
            notes=notes.texts,
            caption=f"{percent(landing.asked, 1)} of the dense network's time were asked for. When pruned: what a "
            "network took as it came out of pruning; measured: what it took in the end, of seeds that were measured; "
            f"both in turn with the dense network. {score_title(metric)} on test images in {score_unit(metric)}, best "
            f"first. minus {best}: {recoveries[0]}, seed by seed, with the 95 % interval; *: the interval holds no 0.",
        )


def against_table(results: StudyResults) -> Table:
    """Compare each method with the baselines, seed by seed."""
    baselines = [name for name in BASELINES if name in _methods(results)]
    recoveries = _recoveries(results)
    rows = []
    for budget in _budgets(results):
        for method in _methods(results):
            removes = {cell.removes for cell in cells_of(results, method=method)}
            for name in baselines if removes == {"channels"} and method not in baselines else ():
                gaps = [against(results, method, name, budget, recovery) for recovery in recoveries]
                if any(gaps):
                    rows.append((method, budget, name, *(difference(one, results.metric) for one in gaps)))
    return Table(
        title=f"Test {score_name(results.metric)} minus that of the baselines, in {difference_unit(results.metric)}",
        columns=(*left("method", "budget", "baseline"), *recoveries),
        rows=tuple(rows),
        caption="Mean of the differences seed by seed, and its 95 % interval; *: the interval holds no 0.",
    )


def cost_table(results: StudyResults) -> Table:
    """Tabulate the counted cost of each pruned network, and its score before any recovery."""
    notes, rows = Notes(), []
    for budget in _budgets(results):
        for method in _methods(results):
            cells = [
                c for c in cells_of(results, method=method, budget=budget) if c.recovery == _recoveries(results)[0]
            ]
            if any(cell.macs for cell in cells):
                pruned = mean_of(list(scores_of(cells, lambda cell: cell.pruned).values()))
                rows.append((method, budget, *_costs(cells, notes), mean(pruned, results.metric)))
    return Table(
        title="On paper",
        columns=(*left("method", "budget"), "MACs", "params", f"{score_name(results.metric)} as pruned"),
        rows=tuple(rows),
        notes=notes.texts,
        caption=f"MACs and params of one example: {_LEFT}, mean over seeds.",
    )


def measured_tables(results: StudyResults) -> Iterator[Table]:
    """Yield for each backend a table of each network measured against the dense one."""
    for backend in dict.fromkeys(row.backend for row in results.measured):
        notes = Notes()
        own = [row for row in results.measured if row.backend == backend]
        several_seeds = len({row.seed for row in own}) > 1
        rows = tuple(
            (row.method, f"{row.budget}, seed {row.seed}" if several_seeds else row.budget, *_pair(row, notes))
            for row in own
        )
        yield Table(
            title=f"Measured beside the dense network: {backend}",
            columns=(*left("method", "budget"), "speed-up", "realised", *left("verdict")),
            rows=rows,
            notes=notes.texts,
            caption="Speed-up of one request with its 95 % interval; realised: share of what FLOPs say.",
        )


def recovery_table(results: StudyResults) -> Table:
    """Tabulate how each network was trained, and how long it took."""
    rows = []
    for recovery in _recoveries(results):
        for budget in _budgets(results):
            for method in _methods(results):
                all_cells = cells_of(results, method=method, budget=budget, recovery=recovery)
                cells = [cell for cell in all_cells if cell.outcome == "ok"]
                chosen = [cell.recovered.score_validation for cell in cells if cell.recovered is not None]
                if cells:
                    lr = several(f"{cell.lr:g}" for cell in cells if cell.lr is not None)
                    epochs = several(str(cell.epochs) for cell in cells)
                    seconds = sum(cell.training_seconds for cell in cells) / len(cells)
                    rows.append(
                        (
                            recovery,
                            method,
                            budget,
                            lr,
                            epochs,
                            mean(mean_of(chosen), results.metric),
                            f"{seconds:.0f} s",
                        )
                    )
    return Table(
        title="How they were trained",
        columns=(*left("recovery", "method", "budget"), "lr", "epochs", "validation", "training"),
        rows=tuple(rows),
        caption=f"lr: the largest learning rate. validation: {score_name(results.metric)} in "
        f"{score_unit(results.metric)}. training: all epochs, mean over seeds; "
        "it depends on what else the machine did.",
    )


def _after(results: StudyResults, method: str, budget: str, notes: Notes) -> list[str]:
    """Format the score after each recovery; a missing seed gets a note."""
    written = []
    for recovery in _recoveries(results):
        cells = cells_of(results, method=method, budget=budget, recovery=recovery)
        missing = (f"seed {cell.seed}: {cell.reason}" for cell in cells if cell.outcome != "ok")
        written.append(notes.after(mean(mean_of(list(scores_of(cells).values())), results.metric), missing))
    return written


def _shares(shares: Sequence[float]) -> str:
    """Format the mean share of the dense network's time, with lowest and highest if they differ."""
    if not shares:
        return NOTHING
    least, most = percent(min(shares), 1), percent(max(shares), 1)
    return percent(fmean(shares), 1) if least == most else f"{percent(fmean(shares), 1)} ({least} to {most})"


def _measured_shares(results: StudyResults, method: str, budget: str, backend: str) -> list[float]:
    asked = (method, budget, backend)
    rows = [row for row in results.measured if (row.method, row.budget, row.backend) == asked]
    return [1 / row.comparison.speedup.value for row in rows if row.comparison and row.comparison.speedup]


def _off(landing: SpeedLanding) -> str:
    """Return a note on a network that missed the requested time; empty if it did not."""
    share = landing.measured[landing.kept_round]
    if abs(share - landing.asked) <= landing.tolerance:
        return ""
    return f"not at equal time: {percent(share, 1)} where {percent(landing.asked, 1)} were asked for"


def _costs(cells: Sequence[Cell], notes: Notes) -> tuple[str, str]:
    shares = [cell.zeros / cell.params[1] for cell in cells if cell.zeros and cell.params is not None]
    zeros = [f"{percent(share)} of them are 0, and counted: dense runtimes multiply by 0 too" for share in shares[:1]]
    return (
        notes.after(
            cost([cell.macs for cell in cells if cell.macs is not None]),
            (cell.landing for cell in cells if not cell.speeds),
        ),
        notes.after(cost([cell.params for cell in cells if cell.params is not None]), zeros),
    )


def _measured(results: StudyResults, method: str, budget: str, backend: str, notes: Notes) -> tuple[str, str, str]:
    """Format latency, speed-up and realised share of the first seed."""
    rows = [r for r in results.measured if (r.method, r.budget, r.backend) == (method, budget, backend)]
    pair = rows[0].comparison if rows else None
    if pair is None or pair.speedup is None:
        return NOTHING, NOTHING, NOTHING
    speedup = notes.after(f"{interval(pair.speedup)}, {verdict(pair)}", _caveats(rows[0]))
    return duration(summarise(pair.candidate).p50_ns), speedup, realised(pair)


def _pair(row: MeasuredRow, notes: Notes) -> tuple[str, str, str]:
    pair = row.comparison
    if pair is None:
        return NOTHING, NOTHING, notes.after("none", [row.reason])
    if pair.speedup is None:
        return NOTHING, NOTHING, notes.after("failed", (side.failure or "" for side in pair.sides))
    return interval(pair.speedup), realised(pair), notes.after(verdict(pair), _caveats(row))


def _caveats(row: MeasuredRow) -> list[str]:
    """Return what makes the numbers of a pair doubtful, and the network they come from if it is another."""
    notes = [f"has the shape of {row.same_as}, which was measured in its place"] if row.same_as else []
    sides = () if row.comparison is None else row.comparison.sides
    doubts = dict.fromkeys(doubt for side in sides for doubt in side.doubts)
    unfit = row.comparison is not None and row.comparison.unfit
    if doubts and not row.same_as:
        notes.append(f"{'the machine was NOT FIT for measuring: ' if unfit else ''}{'; '.join(doubts)}")
    return notes


def _over(results: StudyResults) -> str:
    n = len({cell.seed for cell in results.cells})
    return f"Mean +- standard deviation over {n} seeds." if n > 1 else "One seed: no deviation."


def _budgets(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(cell.budget for cell in results.cells))


def _methods(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(cell.method for cell in results.cells))


def _recoveries(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(cell.recovery for cell in results.cells))
