"""Tables of where the time of a call goes: the layers of one model, and two models layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.layers.comparison import LayerComparison, LayerPair, other_widths
from benchmarks.layers.layer_profile import LayerProfile, LayerRow, RowKind
from benchmarks.layers.roofline import Roofline
from deploy.report.formatting import NOTHING, count, duration, percent, rate, ratio, signed, size
from deploy.report.table import Notes, Table, left

# `deploy bench` can show layers without loading the module that measures blocks.
if TYPE_CHECKING:
    from benchmarks.tables.block import BlockSource

__all__ = ["block_text", "comparison_tables", "profile_tables"]

_PLURALS: dict[RowKind, str] = {
    "layer": "layers",
    "layout conversion": "layout conversions",
    "inserted": "inserted by the runtime",
    "gaps": "gaps",
}
_NAMED = 8  # nodes that a note lists


def profile_tables(profile: LayerProfile, top: int | None = None) -> tuple[Table, ...]:
    """Derive the tables of one model, the longest layers first.

    Parameters
    ----------
    profile : LayerProfile
        Profile of the model.
    top : int, optional
        Number of layers with a row of their own; the others share one. All by default.
    """
    timed = sorted((row for row in profile.rows if row.time_ns is not None), key=lambda row: -(row.time_ns or 0))
    layers = [row for row in timed if row.kind != "gaps"]
    shown, rest = (layers, []) if top is None else (layers[:top], layers[top:])
    return (
        _time_table(profile, shown, rest),
        _work_table(profile, shown),
        _sums_table(profile),
    )


def block_text(block: int | None, source: BlockSource) -> str:
    """Return how many channels a runtime computes together and how that is known, or that it is unknown."""
    if block is None:
        return "not known"
    return f"{block} ({'from the table' if source == 'table' else 'measured'})"


def comparison_tables(comparison: LayerComparison, top: int | None = None) -> tuple[Table, ...]:
    """Derive the table of two models: per layer, the promise of the MACs, the measured gain, and why they differ.

    Parameters
    ----------
    comparison : LayerComparison
        Comparison of the two models.
    top : int, optional
        Number of pairs with a row of their own, slowest in either model first; the others share one. All by default.
    """
    ordered = sorted(comparison.pairs, key=lambda pair: -max(pair.baseline_ns or 0, pair.candidate_ns or 0))
    timed = [pair for pair in ordered if pair.baseline_ns is not None or pair.candidate_ns is not None]
    kept = [pair for pair in timed if pair.name != "gaps"]
    shown, rest = (kept, []) if top is None else (kept[:top], kept[top:])
    notes = Notes()
    rows = [_pair_cells(pair, notes) for pair in shown]
    if rest:
        old, new = (sum(getattr(pair, side) or 0 for pair in rest) for side in ("baseline_ns", "candidate_ns"))
        rows.append((f"{len(rest)} others", NOTHING, _ratio(old, new), signed(old), signed(new), ""))
    rows += [_pair_cells(pair, notes) for pair in timed if pair.name == "gaps"]
    before, after = comparison.baseline, comparison.candidate
    rows.append(
        (
            "one call",
            _ratio(before.macs, after.macs),
            _ratio(before.latency_ns, after.latency_ns),
            duration(before.latency_ns),
            duration(after.latency_ns),
            "",
        )
    )
    labels = (before.subject.label, after.subject.label)
    unmatched = [pair.name for pair in kept if not pair.matched]
    blocks = ""
    if other_widths(after, before):
        blocks = f" Channels computed together: {block_text(comparison.block, comparison.block_from)}."
    only_one = f" In one model only: {_listed(unmatched)}." if unmatched else ""
    return (
        Table(
            f"What each layer bought on {after.subject.backend}",
            (*left("layer"), "MACs", "time", *labels, *left("why")),
            tuple(rows),
            notes=notes.texts,
            caption=f"MACs and time: {labels[0]} / {labels[1]}. Not a measurement of the speed-up: `deploy compare` is."
            + blocks
            + only_one,
        ),
    )


def _time_table(profile: LayerProfile, shown: Sequence[LayerRow], rest: Sequence[LayerRow]) -> Table:
    rows = [
        (
            layer_title(row),
            _what(row),
            signed(row.time_ns),
            NOTHING if row.share is None else percent(row.share, 1),
            NOTHING if row.roofline_share is None else percent(row.roofline_share),
            row.bound or NOTHING,
        )
        for row in shown
    ]
    if rest:
        rest_ns = sum(row.time_ns or 0 for row in rest)
        rows.append(
            (f"{len(rest)} others", "", signed(rest_ns), percent(rest_ns / profile.latency_ns, 1), NOTHING, NOTHING)
        )
    gaps = next(row for row in profile.rows if row.kind == "gaps")
    rows.append(("gaps", "", signed(gaps.time_ns), percent(gaps.share or 0, 1), NOTHING, NOTHING))
    rows.append(("one call", "", duration(profile.latency_ns), percent(1, 1), NOTHING, NOTHING))
    absent = [row.name for row in profile.rows if row.kind == "in no layer"]
    folded = [f"in no layer (folded, or only a change of shape): {_listed(absent)}"] if absent else []
    subject = profile.subject
    return Table(
        f"Where the time of {subject.label} goes on {subject.backend}",
        (*left("layer", "operators"), "time", "share", "roofline", *left("bound")),
        tuple(rows),
        notes=(*profile.notes, *folded),
        caption=f"{profile.executed_precision}, threads: {subject.threads}, batch: {subject.batch}. "
        f"{profile.n_profiled} profiled calls.{_peaks(profile.roofline)}",
    )


def _work_table(profile: LayerProfile, shown: Sequence[LayerRow]) -> Table:
    rows = [
        (
            layer_title(row),
            count(row.macs) if row.macs else NOTHING,
            NOTHING if row.moved_bytes is None else size(row.moved_bytes),
            NOTHING if row.flops_per_s is None else f"{row.flops_per_s / 1e9:.1f}",
            NOTHING if row.bytes_per_s is None else f"{row.bytes_per_s / 1e9:.1f}",
        )
        for row in shown
        if row.nodes
    ]
    rows.append(("one call", count(profile.macs), NOTHING, f"{2 * profile.macs / profile.latency_ns:.1f}", NOTHING))
    return Table(
        "What these layers do",
        (*left("layer"), "MACs", "bytes moved", "GFLOP/s", "GB/s"),
        tuple(rows),
        caption="1 MAC is 2 FLOPs. Bytes: inputs, weights and outputs of the layer, each once.",
    )


def _sums_table(profile: LayerProfile) -> Table:
    rows = []
    for kind, name in _PLURALS.items():
        rows_of_kind = [row for row in profile.rows if row.kind == kind and row.time_ns is not None]
        if rows_of_kind:
            total = sum(row.time_ns or 0 for row in rows_of_kind)
            number = NOTHING if kind == "gaps" else str(len(rows_of_kind))
            rows.append((name, number, signed(total), percent(total / profile.latency_ns, 1)))
    rows.append(("one call, not profiled", NOTHING, duration(profile.latency_ns), percent(1, 1)))
    rows.append(
        ("one call, profiled", NOTHING, duration(profile.profiled_ns), percent(1 + profile.profiling_cost, 1)),
    )
    return Table(
        f"In all: {profile.subject.label} on {profile.subject.backend}",
        (*left(""), "number", "time", "share"),
        tuple(rows),
        caption="Gaps: the unprofiled call minus all layers, which were timed in other calls.",
    )


def _pair_cells(pair: LayerPair, notes: Notes) -> tuple[str, ...]:
    return (
        pair.name,
        NOTHING if pair.macs_ratio is None else ratio(pair.macs_ratio),
        NOTHING if pair.time_ratio is None else ratio(pair.time_ratio),
        signed(pair.baseline_ns),
        signed(pair.candidate_ns),
        notes.after("", pair.reasons),
    )


def layer_title(row: LayerRow) -> str:
    """Return the name of a layer's first node, or the runtime's own name if it has no node."""
    return row.nodes[0] if row.nodes else row.name


def _what(row: LayerRow) -> str:
    return "+".join(row.ops) if row.nodes else row.kind


def _peaks(roofline: Roofline | None) -> str:
    if roofline is None:
        return ""
    peaks = []
    if roofline.peak_flops is not None:
        peaks.append(f"{rate(roofline.peak_flops)}FLOP/s (matrix product of {roofline.gemm_size})")
    if roofline.peak_bytes_per_s is not None:
        peaks.append(f"{rate(roofline.peak_bytes_per_s)}B/s (copy of {size(roofline.copied_bytes)})")
    return f" Roofline, measured through {roofline.backend}: {', '.join(peaks)}."


def _ratio(before: float, after: float) -> str:
    return ratio(before / after) if before > 0 and after > 0 else NOTHING


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
