"""What is told, as plain tables of text: the terminal and the page show the same rows.

A table has few enough columns to stand in 80 characters; what does not fit goes to another table, never into wrapped
cells. Nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from benchmarks.records.measurement import Comparison, Interval, Measurement
from benchmarks.stats.summary import relative_half_width, summarise
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
from deploy.results.results import ModelRow, Results
from deploy.sources.metric import Metric

__all__ = ["Table", "tables"]

_SLACK: dict[Metric, float] = {"accuracy": 0.001, "psnr": 0.01}
"""0.1 points, 0.01 dB: a compiled model whose score differs by more is told of."""

_ZEROS = " Single weights that are 0 are counted: dense runtimes multiply by them as by any other number."


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Parameters
    ----------
    title : str
        Its heading.
    columns : tuple of str
        Headings of the columns.
    rows : tuple of tuple of str
        As many cells as columns each.
    n_left : int
        Leading columns that hold names; the others hold numbers and are aligned on the right.
    notes : tuple of str
        Footnotes; cells refer to them by ``[1]``, ``[2]``.
    caption : str
        One line of explanation.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left: int = 1
    notes: tuple[str, ...] = ()
    caption: str = ""


def tables(results: Results) -> tuple[Table, ...]:
    """Derive every table; one that would have no row is left out."""
    found = [_paper(results), _latency(results), _starting(results), _memory(results), _cold(results)]
    if results.comparisons:
        found.append(_bought(results))
    found.append(_answers(results))
    return tuple(table for table in found if table.rows)


def _paper(results: Results) -> Table:
    models = results.models
    pair = (models[0], models[1]) if len(models) == 2 else None
    rows: list[tuple[str, ...]] = []

    def add(name: str, cells: list[str], factor: str) -> None:
        if any(cell != NOTHING for cell in cells):
            rows.append((name, *cells, *([factor] if pair else [])))

    for metric, part in product(dict.fromkeys(row.metric for row in models), ("validation", "test")):
        found: list[float | None] = [getattr(row, f"score_{part}") if row.metric == metric else None for row in models]
        change = NOTHING
        if pair and found[0] is not None and found[1] is not None:
            change = score_change(metric, found[1] - found[0])
        cells = [NOTHING if value is None else score(metric, value) for value in found]
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
        factor = ratio(numbers[0] / numbers[1]) if pair and numbers[1] else NOTHING
        add(name, [write(number) for number in numbers], factor)
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
        ("for one example", *(row.label for row in models), *ends),
        tuple(rows),
        caption="FLOPs = 2 x MACs, counted on the ONNX file: multiply-accumulates of its layers."
        + (_ZEROS if any(row.zeros for row in models) else ""),
    )


def _latency(results: Results) -> Table:
    rows, notes = [], _Notes()
    for found in results.all_measurements():
        subject = found.subject
        if found.failure is not None:
            mark = notes.mark(f"{subject.label} on {subject.backend} failed: {found.failure}")
            rows.append((place(results, found), subject.label, f"failed {mark}", *[NOTHING] * 5))
            continue
        told = summarise(found)
        tail = (NOTHING if ns is None else duration(ns) for ns in (told.p90_ns, told.p99_ns))
        marks = notes.marks(found.doubts)
        rows.append(
            (
                place(results, found),
                f"{subject.label} {marks}".rstrip(),
                duration(told.p50_ns),
                _over_processes(told.trial_median_ns),
                *tail,
                duration(told.mean_ns),
                rate(told.throughput_per_s),
            )
        )
    for one in results.skipped:
        mark = notes.mark(f"{one.backend} was skipped: {one.reason}{'; ' if one.hint else ''}{one.hint}")
        rows.append((one.backend, NOTHING, f"skipped {mark}", *[NOTHING] * 5))
    return Table(
        "Measured: latency of one request",
        ("backend", "model", "p50", "+-", "p90", "p99", "mean", "examples/s"),
        tuple(rows),
        n_left=2,
        notes=notes.found,
        caption=f"{_setting(results)} +-: half the interval of the median over processes.",
    )


def _over_processes(found: Interval | None) -> str:
    return NOTHING if found is None else percent(relative_half_width(found), 1)


def _starting(results: Results) -> Table:
    rows, notes = [], _Notes()
    for found in results.all_measurements():
        if found.failure is not None:
            continue
        told = summarise(found)
        rows.append(
            (
                place(results, found),
                f"{found.subject.label} {_energy_mark(found, notes)}".rstrip(),
                duration(told.load_ns),
                duration(told.first_run_ns),
                duration(median(trial.steady_ns for trial in found.trials)),
                duration(found.cpu_ns_per_call or 0),
                f"{told.n_calls} / {told.n_trials}",
            )
        )
    return Table(
        "Measured: starting, and what a call takes of the processor",
        ("backend", "model", "load", "first run", "steady", "CPU/call", "calls/proc."),
        tuple(rows),
        n_left=2,
        notes=notes.found,
        caption="Load: ONNX file to compiled model. Steady: from then until latency no longer changed. "
        "CPU/call: processor time of all threads.",
    )


def _energy_mark(found: Measurement, notes: _Notes) -> str:
    used = found.energy_uj_per_call
    return "" if used is None else notes.mark(f"{used / 1e3:.3g} mJ per call of the whole package or board")


def _memory(results: Results) -> Table:
    rows = []
    for found in results.all_measurements():
        if found.failure is not None:
            continue
        told = summarise(found)
        rows.append(
            (
                place(results, found),
                found.subject.label,
                size(told.peak_bytes),
                size(told.model_bytes),
                _middle_size([trial.memory.steady_bytes for trial in found.trials]),
                _middle_size([trial.memory.weights_bytes for trial in found.trials]),
            )
        )
    return Table(
        "Measured: memory of the process",
        ("backend", "model", "peak", "of it model", "steady", "weights"),
        tuple(rows),
        n_left=2,
        caption="Peak: resident memory (VmHWM); of it model: above the empty runtime. Steady: its share of memory "
        "(PSS) while it runs. Weights: as the runtime tells.",
    )


def _cold(results: Results) -> Table:
    rows, notes = [], _Notes()
    for found in results.all_measurements():
        if found.cold is None:
            continue
        bare, kept = found.cold.without_cache, found.cold.with_cache
        loaded = NOTHING if kept is None or kept.loaded_ns is None else duration(kept.loaded_ns)
        stored = NOTHING if bare.stored_bytes is None else size(bare.stored_bytes)
        mark = notes.mark(f"{found.subject.backend}: {bare.reason}") if bare.reason else ""
        rows.append(
            (
                place(results, found),
                f"{found.subject.label} {mark}".rstrip(),
                duration(bare.compiled_ns),
                loaded,
                stored,
            )
        )
    return Table(
        "Measured: making the model ready in a fresh process",
        ("backend", "model", "compile", "from cache", "kept"),
        tuple(rows),
        n_left=2,
        notes=notes.found,
        caption="From cache: what was compiled before, read, checked by its hash and loaded.",
    )


def _middle_size(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return size(round(median(known))) if known else NOTHING


def _bought(results: Results) -> Table:
    rows, notes = [], _Notes()
    confidences = set()
    for pair in results.comparisons:
        promise = flop_ratio(pair)
        said = verdict(pair)
        if pair.verdict == "failed":
            said += " " + notes.marks(tuple(_failures(pair)))
        doubts = _doubts(results, pair)
        if pair.speedup is not None:
            confidences.add(f"{percent(pair.speedup.confidence, 1)} from {pair.speedup.n} pairs of processes")
        rows.append(
            (
                f"{place(results, pair.candidate)} {notes.marks(doubts)}".rstrip(),
                NOTHING if promise is None else ratio(promise),
                NOTHING if pair.speedup is None else interval(pair.speedup),
                realised(pair),
                said.rstrip(),
            )
        )
    sureness = f" Intervals: {', '.join(sorted(confidences))}." if confidences else ""
    return Table(
        "What the pruning bought",
        ("backend", "FLOP ratio", "speed-up", "realised", "verdict"),
        tuple(rows),
        notes=notes.found,
        caption=f"Both models ran in turn, block by block. Realised = speed-up / FLOP ratio.{sureness}",
    )


def _answers(results: Results) -> Table:
    rows, notes = [], _Notes()
    for found, told in zip(results.all_measurements(), results.answers(), strict=True):
        row = results.model(told.label)
        scored = None if row is None else row.backend_scores.get(told.backend)
        error = allowed = NOTHING
        if told.agreement is not None:
            error = f"{told.agreement.max_abs_error:.1e}"
            allowed = f"{told.agreement.tolerance * told.agreement.output_range:.1e}"
        if not told.agrees:
            said = f"WRONG {notes.mark(told.failure)}" if told.failure else "WRONG"
        elif told.agreement is not None:
            said = "right"
        else:
            said = "not checked"
        written = NOTHING
        if row is not None and scored is not None:
            written = f"{score(row.metric, scored)} {_score_mark(row, scored, told.backend, notes)}".rstrip()
        precisions = sorted({trial.executed_precision for trial in found.trials})
        rows.append(
            (
                told.backend,
                told.label,
                said,
                error,
                allowed,
                ", ".join(precisions) or NOTHING,
                written,
            )
        )
    references = sorted({told.agreement.reference for told in results.answers() if told.agreement is not None})
    return Table(
        "Are the answers still right?",
        ("backend", "model", "answers", "max error", "allowed", "executed", f"test {_scores_name(results)}"),
        tuple(rows),
        n_left=3,
        notes=notes.found,
        caption=f"Checked before any timing, against: {'; '.join(references) or 'nothing'}.",
    )


def _score_mark(row: ModelRow, scored: float, backend: str, notes: _Notes) -> str:
    if row.score_test is None or abs(scored - row.score_test) <= _SLACK[row.metric] + 1e-9:
        return ""
    return notes.mark(
        f"{row.label} on {backend}: test {score_name(row.metric)} differs from torch's "
        f"{score(row.metric, row.score_test)} by {score_change(row.metric, scored - row.score_test)}"
    )


def _scores_name(results: Results) -> str:
    names = dict.fromkeys(score_name(row.metric) for row in results.models)
    return next(iter(names)) if len(names) == 1 else "score"


def _doubts(results: Results, pair: Comparison) -> tuple[str, ...]:
    """List the doubts about both sides; one that both share is told once."""
    backend, shared = place(results, pair.candidate), set(pair.baseline.doubts) & set(pair.candidate.doubts)
    told = [
        f"{backend}: {doubt}" if doubt in shared else f"{side.subject.label} on {backend}: {doubt}"
        for side in pair.sides
        for doubt in side.doubts
    ]
    return tuple(dict.fromkeys(told))


def _failures(pair: Comparison) -> list[str]:
    return [
        f"{side.subject.label} on {side.subject.backend} failed: {side.failure}"
        for side in pair.sides
        if side.failure is not None
    ]


def _setting(results: Results) -> str:
    """Say under which options was measured; more than one set of them is told as such."""
    return " Or: ".join(dict.fromkeys(_options(found) for found in results.all_measurements()))


def _options(found: Measurement) -> str:
    subject = found.subject
    threads = "1 thread" if subject.threads == 1 else f"{subject.threads} threads"
    return f"{subject.precision}, {threads}, {subject.device}, batch {subject.batch}, one request at a time."


class _Notes:
    """Footnotes in the order in which they are first referred to; the same words have one number."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}

    @property
    def found(self) -> tuple[str, ...]:
        return tuple(self._found)

    def mark(self, note: str) -> str:
        return f"[{self._found.setdefault(note, len(self._found) + 1)}]"

    def marks(self, notes: tuple[str, ...]) -> str:
        return "".join(self.mark(note) for note in notes)
