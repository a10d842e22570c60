"""Why time did not follow MACs, in words, as tables, and as a page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.layers.aligned_plan import AlignedPlan
from benchmarks.layers.explanation import ExplainedLayer, Explanation, LayerSide, Reason
from deploy.report.formatting import NOTHING, count, duration, percent, rate, ratio, signed, size
from deploy.report.layer_tables import block_text
from deploy.report.pages.charts import Bars, Row, change, chart_page, charted
from deploy.report.table import Notes, Table, left

__all__ = ["answer", "explanation_page", "explanation_tables"]

_KEPT = 0.1
"""A time this close to the promised one counts as kept."""
_NAMED = 0.05
"""Smallest share of the missing time for which the answer names a reason."""
_SHOWN = 12
"""Number of layers with a bar; the table has all."""
_ROUNDED = {
    "not": "as they are",
    "to the nearest": "rounded to the nearest",
    "up": "rounded up to the next",
    "best": "best for the promised time",
}


def answer(found: Explanation) -> str:
    """Say in two or three sentences what the MACs promised, what was measured, and the main reason for the gap."""
    pruned, dense = found.pruned.label, found.dense.label
    takes, of = ("the layers of {} take", "those of {}") if found.of_layers else ("{} takes", "{}")
    said = (
        f"On {found.pruned.backend}, {takes.format(pruned)} {duration(found.pruned_ns)}: {ratio(found.time_share)} the "
        f"time of {of.format(dense)} ({duration(found.dense_ns)})."
    )
    share = found.promised_share
    if share is None or found.missing_ns is None:
        return f"{said} No MACs are known: nothing is promised."
    promised = share * found.dense_ns
    said += f" Its MACs fell to {percent(share)}, which promised {duration(promised)}."
    if abs(found.missing_ns) <= _KEPT * promised:
        return f"{said} The time followed the MACs."
    if found.missing_ns < 0:
        return f"{said} It is faster than promised by {duration(-found.missing_ns)}."
    chief = [one for one in found.reasons if one.missing_ns >= _NAMED * found.missing_ns][:3]
    told = ", ".join(f"{percent(one.missing_ns / found.missing_ns)} {_reason(found, one.reason)}" for one in chief)
    return f"{said} It takes {duration(found.missing_ns)} longer than that: {told}.{_bought(found)}"


def _bought(found: Explanation) -> str:
    """Say what counts that fill the blocks would buy: rounded ones, and the best ones."""
    plans = {plan.rounded: plan for plan in found.plans}
    said = ""
    if rounded := [plan for name, plan in plans.items() if name in {"to the nearest", "up"}]:
        fastest = min(rounded, key=lambda plan: plan.measured_share or plan.predicted_share)
        said = f" With counts {_ROUNDED[fastest.rounded]} multiple of {found.block} it takes {_time_of(fastest)}."
    if (best := plans.get("best")) is not None:
        said += (
            f" The best plan for the promised time keeps {_kept(best)} of the importance, by its counts, "
            f"instead of {_kept(plans['not'])}, and takes {_time_of(best)}."
        )
    return said


def _kept(plan: AlignedPlan) -> str:
    return NOTHING if plan.importance is None else percent(plan.importance)


def _time_of(plan: AlignedPlan) -> str:
    if plan.measured_share is None:
        return f"{_share(plan.predicted_share)} of the dense time (predicted)"
    return f"{_share(plan.measured_share)} of the dense time (measured; predicted: {_share(plan.predicted_share)})"


def explanation_tables(found: Explanation, top: int | None = None) -> tuple[Table, ...]:
    """Derive the tables: the reasons, the aligned plans, and the layers with the most missing time.

    Parameters
    ----------
    found : Explanation
        The explanation to show.
    top : int, optional
        Number of layers to list; all by default.
    """
    ordered = sorted(found.layers, key=lambda layer: -abs(_missing(layer) or 0))
    timed = [layer for layer in ordered if layer.dense.time_ns is not None or layer.pruned.time_ns is not None]
    shown, rest = timed[:top], timed[len(timed[:top]) :]
    plans = (_plans_table(found),) if found.plans else ()
    return (_reasons_table(found), *plans, _layers_table(found, shown, rest), _work_table(found, shown))


def explanation_page(found: Explanation) -> str:
    """Return the whole page. The same explanation gives the same page."""
    subject = found.pruned
    return chart_page(
        f"{subject.label} against {found.dense.label} on {subject.backend}",
        lead=answer(found),
        charts=_charts(found),
        tables=explanation_tables(found),
        facts_title="How it was measured",
        facts=[
            ("backend", f"{subject.backend} {found.backend_version or ''}".strip()),
            ("options", f"{subject.precision}, threads {subject.threads}, {subject.device}, batch {subject.batch}"),
            ("channels computed together", block_text(found.block, found.block_from)),
            ("shortest layer", _overhead(found)),
            ("roofline", _peaks(found) or "not measured"),
            *((side.label, f"{side.model}, sha256 {side.sha256}") for side in (found.dense, subject)),
        ],
    )


def _charts(found: Explanation) -> tuple[Bars, ...]:
    """Draw the whole call, the reasons, and the layers with the most missing time."""
    named, whole = found.pruned.label, "all layers" if found.of_layers else "one call"
    calls = [Row(found.dense.label, found.dense_ns, duration(found.dense_ns))]
    calls.append(Row(named, found.pruned_ns, duration(found.pruned_ns), aim=found.dense_ns))
    if found.promised_share is not None:
        promised = found.promised_share * found.dense_ns
        calls.append(Row("promised by the MACs", promised, duration(promised), aim=found.dense_ns))
    charts = [charted(f"Time of {whole} on {found.pruned.backend}", calls, "calls")]
    reasons = [Row(_reason(found, one.reason), one.missing_ns, signed(one.missing_ns)) for one in found.reasons]
    if reasons:
        charts.append(charted("Time beyond the promise, by reason", reasons, "reasons"))
    timed = [one for one in found.layers if one.dense.time_ns is not None or one.pruned.time_ns is not None]
    layers = [
        Row(
            one.name,
            one.pruned.time_ns or 0,
            change(_time(one.dense), _time(one.pruned)),
            f"missing {signed(_missing(one))}: {_told(one)}",
            one.dense.time_ns,
        )
        for one in sorted(timed, key=lambda one: -(_missing(one) or 0))[:_SHOWN]
    ]
    title = f"Layers furthest behind the promise: {named}, and pale behind it {found.dense.label}"
    return (*charts, charted(title, layers, "layers")) if layers else tuple(charts)


def _reasons_table(found: Explanation) -> Table:
    total = found.missing_ns
    rows = [
        (
            _reason(found, one.reason),
            signed(one.missing_ns),
            percent(one.missing_ns / total) if total else NOTHING,
            str(one.n_layers) if one.n_layers else NOTHING,
        )
        for one in found.reasons
    ]
    if total is not None:
        rows.append(("in all", signed(total), percent(1), NOTHING))
    return Table(
        "Time beyond the promise, by reason",
        (*left("reason"), "missing", "share", "layers"),
        tuple(rows),
        caption=f"Channels computed together: {block_text(found.block, found.block_from)}. "
        f"Shortest layer: {_overhead(found)}. {_peaks(found)}",
    )


def _plans_table(found: Explanation) -> Table:
    rows = tuple(
        (
            _ROUNDED[plan.rounded],
            NOTHING if plan.macs_share is None else percent(plan.macs_share),
            _kept(plan),
            _share(plan.predicted_share),
            NOTHING if plan.measured_share is None else _share(plan.measured_share),
        )
        for plan in found.plans
    )
    verified = any(plan.measured_share is not None for plan in found.plans)
    caption = (
        "Shares of the dense network's. Importance, by the counts alone: mean over the channel groups of the square "
    )
    caption += "root of the share of units kept. Predicted by the latency table"
    caption += ", measured in turn with the dense network." if verified else "; --verify measures it."
    return Table(
        f"What counts in multiples of {found.block} would buy" if found.block != 1 else "What other counts would buy",
        (*left("counts"), "MACs", "importance", "time, predicted", "time, measured"),
        rows,
        caption=caption,
    )


def _layers_table(found: Explanation, shown: Sequence[ExplainedLayer], rest: Sequence[ExplainedLayer]) -> Table:
    notes = Notes()
    rows = [
        (
            layer.name,
            _time(layer.dense),
            _time(layer.pruned),
            signed(_missing(layer)),
            notes.after(_told(layer), layer.why),
        )
        for layer in shown
    ]
    if rest:
        old, new = (sum(side.time_ns or 0 for side in sides) for sides in zip(*map(_sides, rest), strict=True))
        known = [missing for layer in rest if (missing := _missing(layer)) is not None]
        rows.append((f"{len(rest)} others", signed(old), signed(new), signed(sum(known) if known else None), ""))
    whole = "all layers" if found.of_layers else "one call"
    rows.append((whole, duration(found.dense_ns), duration(found.pruned_ns), signed(found.missing_ns), ""))
    return Table(
        "Layer by layer",
        (*left("layer"), found.dense.label, found.pruned.label, "missing", *left("why")),
        tuple(rows),
        notes=notes.texts,
        caption=f"Missing: beyond the time that the MACs promised; negative where more was gained.{_summed(found)}",
    )


def _work_table(found: Explanation, shown: Sequence[ExplainedLayer]) -> Table:
    rows = [
        (
            layer.name,
            *(NOTHING if side.macs is None else count(side.macs) for side in _sides(layer)),
            *(NOTHING if side.moved_bytes is None else size(side.moved_bytes) for side in _sides(layer)),
            *(NOTHING if side.roofline_share is None else percent(side.roofline_share) for side in _sides(layer)),
            layer.pruned.bound or NOTHING,
        )
        for layer in shown
    ]
    rows.append(("one call", count(found.dense_macs), count(found.pruned_macs), *[NOTHING] * 5))
    return Table(
        "What these layers do",
        (*left("layer"), "MACs", "pruned", "bytes", "pruned", "roofline", "pruned", *left("bound")),
        tuple(rows),
        notes=found.notes,
        caption="Bytes: inputs, weights and outputs, each once. Roofline: shortest time that the measured peaks allow, "
        "over the time. -: not known.",
    )


def _summed(found: Explanation) -> str:
    if not found.of_layers:
        return ""
    return " Times are sums of layers: whole calls were disturbed by other programs, or spend much between layers."


def _sides(layer: ExplainedLayer) -> tuple[LayerSide, LayerSide]:
    return layer.dense, layer.pruned


def _missing(layer: ExplainedLayer) -> float | None:
    return None if layer.missing_ns is None else layer.missing_ns + layer.uneven_ns


def _told(layer: ExplainedLayer) -> str:
    """Return the main reason for the gap in a layer: that of the larger of its two parts."""
    if layer.uneven_reason is None or abs(layer.uneven_ns) <= abs(layer.missing_ns or 0.0):
        return layer.reason
    return layer.uneven_reason if layer.uneven_ns > 0 else "more than promised"


def _reason(found: Explanation, reason: Reason) -> str:
    return f"counts off the block of {found.block}" if reason == "counts off the block" else reason


def _overhead(found: Explanation) -> str:
    return "not known" if found.layer_overhead_ns is None else duration(found.layer_overhead_ns)


def _peaks(found: Explanation) -> str:
    roofline = found.roofline
    if roofline is None:
        return ""
    peaks = []
    if roofline.peak_flops is not None:
        peaks.append(f"{rate(roofline.peak_flops)}FLOP/s")
    if roofline.peak_bytes_per_s is not None:
        peaks.append(f"{rate(roofline.peak_bytes_per_s)}B/s")
    return f"Measured peaks: {', '.join(peaks)}."


def _share(value: float) -> str:
    return f"{value:.3f}"


def _time(side: LayerSide) -> str:
    return NOTHING if side.time_ns is None else duration(side.time_ns)
