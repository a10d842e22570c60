"""Results as plain text tables: the terminal and the page show the same rows.

Each table has few enough columns to fit in 80 characters; what does not fit goes into another table, never into
wrapped cells. Nothing is shown by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import median

from benchmarks.records.measurement import Comparison, Cost, Interval, Measurement
from benchmarks.stats.summary import relative_half_width, summarise
from deploy.report.answer.doubts import doubts_of, whose
from deploy.report.answer.scores import SLACK, is_lost
from deploy.report.formatting import (
    NOTHING,
    count,
    duration,
    flop_ratio,
    interval,
    percent,
    place,
    rate,
    ratio,
    realised,
    score,
    score_change,
    score_name,
    size,
    verdict,
)
from deploy.report.proof_table import proof_table
from deploy.report.speed_table import speed_table
from deploy.report.table import Notes, Table, left
from deploy.results.results import ModelRow, Results

__all__ = ["doubts_table", "tables", "tables_by_name"]

_RUN = " What depends on data was counted in a run on the inputs."
_SHOWN = 5
"""Most footnotes on nodes whose MACs are unknown."""
_ZEROS = " Single weights that are 0 are counted: dense runtimes multiply by them as by any other number."


def tables(results: Results) -> tuple[Table, ...]:
    """Derive all tables; those without rows are left out."""
    return tuple(tables_by_name(results).values())


def tables_by_name(results: Results) -> dict[str, Table]:
    """Derive all tables, keyed by subject: ``"paper"``, ``"proof"``; those without rows are left out."""
    derive = {
        "paper": _paper,
        "speeds": speed_table,
        "proof": proof_table,
        "latency": _latency,
        "starting": _starting,
        "memory": _memory,
        "cold": _cold,
        "bought": _bought,
        "answers": _answers,
    }
    derived = {name: one(results) for name, one in derive.items()}
    return {name: table for name, table in derived.items() if table.rows}


def _paper(results: Results) -> Table:
    models = results.models
    pair = (models[0], models[1]) if len(models) == 2 else None
    rows: list[tuple[str, ...]] = []
    notes = Notes()

    def add(name: str, cells: list[str], factor: str) -> None:
        if any(cell != NOTHING for cell in cells):
            rows.append((name, *cells, *([factor] if pair else [])))

    for metric, part in product(dict.fromkeys(row.metric for row in models), ("validation", "test")):
        scores: list[float | None] = [getattr(row, f"score_{part}") if row.metric == metric else None for row in models]
        change = NOTHING
        if pair and scores[0] is not None and scores[1] is not None:
            change = score_change(metric, scores[1] - scores[0])
        cells = [NOTHING if value is None else score(metric, value) for value in scores]
        add(f"{score_name(metric)}, {part}", cells, change)
    add("test examples", [NOTHING if row.n_test is None else str(row.n_test) for row in models], "")
    for name, numbers, write in (
        ("FLOPs", [row.cost.flops for row in models], count),
        ("MACs", [row.cost.macs for row in models], count),
        ("parameters", [row.cost.parameters for row in models], count),
        ("weights", [row.cost.weight_bytes for row in models], size),
        ("activations", [row.cost.activation_bytes for row in models], size),
        ("ONNX file", [row.file_bytes for row in models], size),
    ):
        missing = [_missing(name, row.cost) for row in models]
        sure = pair and numbers[1] and not any(missing)
        cells = [
            notes.after(_at_least(write(number), number, short), short)
            for number, short in zip(numbers, missing, strict=True)
        ]
        add(name, cells, ratio(numbers[0] / numbers[1]) if sure else NOTHING)
    add("pruning method", [row.method or NOTHING for row in models], "")
    add(
        "channels removed",
        [NOTHING if row.plan_removed_units is None else str(row.plan_removed_units) for row in models],
        "",
    )
    if any(row.zeros for row in models):
        zeros = [percent(row.zeros / row.cost.parameters, 1) if row.zeros else NOTHING for row in models]
        add("parameters that are 0", zeros, "")
    ends = (f"{pair[0].label} / {pair[1].label}",) if pair else ()
    return Table(
        "On paper",
        (*left("for one example"), *(row.label for row in models), *ends),
        tuple(rows),
        notes=notes.texts,
        caption="FLOPs = 2 x MACs, counted on the ONNX file: multiply-accumulates of its layers."
        + (_RUN if any(row.cost.from_run for row in models) else "")
        + (_ZEROS if any(row.zeros for row in models) else ""),
    )


def _missing(name: str, cost: Cost) -> list[str]:
    """Return what a count leaves out, in words."""
    if name in ("FLOPs", "MACs"):
        shown = [f"not known: {reason}" for reason in cost.unknown[:_SHOWN]]
        return shown + ([f"not known: {len(cost.unknown) - _SHOWN} more nodes"] if len(cost.unknown) > _SHOWN else [])
    if name == "activations" and cost.unsized:
        return [f"outputs of nodes whose size depends on data are not in it ({cost.unsized})"]
    return []


def _at_least(cell: str, number: int, missing: Sequence[str]) -> str:
    if not missing:
        return cell
    return f">= {cell}" if number else "not known"


def _latency(results: Results) -> Table:
    rows, notes = [], Notes()
    for measurement in results.all_measurements():
        subject = measurement.subject
        if measurement.failure is not None:
            failure = f"{subject.label} on {subject.backend} failed: {measurement.failure}"
            rows.append((place(results, measurement), subject.label, notes.after("failed", [failure]), *[NOTHING] * 5))
            continue
        summary = summarise(measurement)
        tail = (NOTHING if ns is None else duration(ns) for ns in (summary.p90_ns, summary.p99_ns))
        rows.append(
            (
                place(results, measurement),
                subject.label,
                duration(summary.p50_ns),
                _half_width(summary.trial_median_ns),
                *tail,
                duration(summary.mean_ns),
                rate(summary.throughput_per_s),
            )
        )
    for one in results.skipped:
        reason = f"{one.backend} was skipped: {one.reason}{'; ' if one.hint else ''}{one.hint}"
        rows.append((one.backend, NOTHING, notes.after("skipped", [reason]), *[NOTHING] * 5))
    return Table(
        "Latency of one request",
        (*left("backend", "model"), "p50", "+-", "p90", "p99", "mean", "examples/s"),
        tuple(rows),
        notes=notes.texts,
        caption=f"{_setting(results)} +-: half-width of the median's confidence interval across processes.",
    )


def _half_width(median: Interval | None) -> str:
    return NOTHING if median is None else percent(relative_half_width(median), 1)


def _starting(results: Results) -> Table:
    rows, notes = [], Notes()
    for measurement in results.all_measurements():
        if measurement.failure is not None:
            continue
        summary = summarise(measurement)
        rows.append(
            (
                place(results, measurement),
                notes.after(measurement.subject.label, _energy(measurement)),
                duration(summary.load_ns),
                duration(summary.first_run_ns),
                duration(median(trial.steady_ns for trial in measurement.trials)),
                duration(measurement.cpu_ns_per_call or 0),
                f"{summary.n_calls} / {summary.n_trials}",
            )
        )
    return Table(
        "Start-up time and CPU time per call",
        (*left("backend", "model"), "load", "first run", "steady", "CPU/call", "calls/proc."),
        tuple(rows),
        notes=notes.texts,
        caption="Load: ONNX file to compiled model. Steady: from then until latency no longer changed. "
        "CPU/call: CPU time of all threads.",
    )


def _energy(measurement: Measurement) -> list[str]:
    used = measurement.energy_uj_per_call
    return [] if used is None else [f"{used / 1e3:.3g} mJ per call of the whole package or board"]


def _memory(results: Results) -> Table:
    rows = []
    for measurement in results.all_measurements():
        if measurement.failure is not None:
            continue
        summary = summarise(measurement)
        rows.append(
            (
                place(results, measurement),
                measurement.subject.label,
                size(summary.peak_bytes),
                size(summary.model_bytes),
                _median_size([trial.memory.steady_bytes for trial in measurement.trials]),
                _median_size([trial.memory.weights_bytes for trial in measurement.trials]),
            )
        )
    return Table(
        "Memory of the process",
        (*left("backend", "model"), "peak", "model share", "steady", "weights"),
        tuple(rows),
        caption="Peak: resident memory (VmHWM). Model share: above the empty runtime. Steady: proportional share of "
        "memory (PSS) while it runs. Weights: as reported by the runtime.",
    )


def _cold(results: Results) -> Table:
    rows, notes = [], Notes()
    for measurement in results.all_measurements():
        if measurement.cold is None:
            continue
        bare, kept = measurement.cold.without_cache, measurement.cold.with_cache
        reasons = [f"{measurement.subject.backend}: {bare.reason}"] if bare.reason else []
        loaded = NOTHING if kept is None or kept.loaded_ns is None else duration(kept.loaded_ns)
        stored = NOTHING if bare.stored_bytes is None else size(bare.stored_bytes)
        rows.append(
            (
                place(results, measurement),
                notes.after(measurement.subject.label, reasons),
                duration(bare.compiled_ns),
                loaded,
                stored,
            )
        )
    return Table(
        "Compiling and loading in a fresh process",
        (*left("backend", "model"), "compile", "from cache", "kept"),
        tuple(rows),
        notes=notes.texts,
        caption="From cache: an earlier compilation, checked by its hash and loaded.",
    )


def _median_size(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return size(round(median(known))) if known else NOTHING


def _bought(results: Results) -> Table:
    rows, notes = [], Notes()
    confidences, lost = set(), is_lost(results)
    for pair in results.comparisons:
        promise = flop_ratio(pair)
        outcome = notes.after(verdict(pair), _failures(pair) if pair.verdict == "failed" else [])
        if pair.speedup is not None:
            confidences.add(f"{percent(pair.speedup.confidence, 1)} from {pair.speedup.n} pairs of processes")
        rows.append(
            (
                place(results, pair.candidate),
                NOTHING if promise is None else ratio(promise),
                NOTHING if pair.speedup is None else interval(pair.speedup),
                NOTHING if lost else realised(pair),
                outcome,
            )
        )
    intervals = f" Intervals: {', '.join(sorted(confidences))}." if confidences else ""
    return Table(
        "What the pruning bought",
        (*left("backend"), "FLOP ratio", "speed-up", "realised", *left("verdict")),
        tuple(rows),
        notes=notes.texts,
        caption=f"Both models ran in turn, block by block. Realised = speed-up / FLOP ratio.{intervals}",
    )


def _answers(results: Results) -> Table:
    rows, notes = [], Notes()
    for measurement, answer in zip(results.all_measurements(), results.answers(), strict=True):
        row = results.model(answer.label)
        scored = None if row is None else row.backend_scores.get(answer.backend)
        error = allowed = NOTHING
        if answer.agreement is not None:
            error = f"{answer.agreement.max_abs_error:.1e}"
            allowed = f"{answer.agreement.allowed:.1e}"
        if not answer.agrees:
            outcome = notes.after("WRONG", [answer.failure or ""])
        else:
            outcome = "not checked" if answer.agreement is None else "right"
        written = NOTHING
        if row is not None and scored is not None:
            written = notes.after(score(row.metric, scored), _score_notes(row, scored, answer.backend))
        precisions = sorted({trial.executed_precision for trial in measurement.trials})
        rows.append(
            (
                answer.backend,
                answer.label,
                outcome,
                error,
                allowed,
                ", ".join(precisions) or NOTHING,
                written,
            )
        )
    references = sorted({one.agreement.reference for one in results.answers() if one.agreement is not None})
    return Table(
        "Are the answers still right?",
        (*left("backend", "model", "answers"), "max error", "allowed", "executed", f"test {_scores_name(results)}"),
        tuple(rows),
        notes=notes.texts,
        caption=f"Checked before any timing, against: {'; '.join(references) or 'nothing'}.",
    )


def _score_notes(row: ModelRow, scored: float, backend: str) -> list[str]:
    if row.score_test is None or abs(scored - row.score_test) <= SLACK[row.metric] + 1e-9:
        return []
    return [
        f"{row.label} on {backend}: test {score_name(row.metric)} differs from torch's "
        f"{score(row.metric, row.score_test)} by {score_change(row.metric, scored - row.score_test)}"
    ]


def _scores_name(results: Results) -> str:
    names = dict.fromkeys(score_name(row.metric) for row in results.models)
    return next(iter(names)) if len(names) == 1 else "score"


def doubts_table(results: Results) -> Table:
    """List each doubt about the numbers once; the answer counts the same signs of noise."""
    everywhere = {whose(results, one) for one in results.all_measurements()}
    rows = tuple(
        (str(number), doubt.words, "everywhere" if everywhere == {*doubt.where} else ", ".join(doubt.where))
        for number, doubt in enumerate(doubts_of(results), 1)
    )
    return Table("Caveats", (*left("", "what was seen", "where"),), rows)


def _failures(pair: Comparison) -> list[str]:
    return [
        f"{side.subject.label} on {side.subject.backend} failed: {side.failure}"
        for side in pair.sides
        if side.failure is not None
    ]


def _setting(results: Results) -> str:
    """Write the options of the measurements, joined by "Or" if they differ."""
    return " Or: ".join(dict.fromkeys(_options(measurement) for measurement in results.all_measurements()))


def _options(measurement: Measurement) -> str:
    subject = measurement.subject
    threads = "1 thread" if subject.threads == 1 else f"{subject.threads} threads"
    turns = f", {subject.inputs} inputs in turn" if subject.inputs > 1 else ""
    return f"{subject.precision}, {threads}, {subject.device}, batch {subject.batch}{turns}, one request at a time."
