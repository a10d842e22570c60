"""Explain why the time of a pruned network did not follow its MACs, layer by layer and in total.

The promise: the time of a pruned call is the same share of the dense time as its MACs are of the dense MACs. The time
beyond that is missing, and is split without remainder. For a layer with dense time ``t`` and MACs ``m``, pruned ``t'``
and ``m'``, of a network whose MACs fell to the share ``R`` and cost ``c`` each on average:

* ``t' - t m'/m`` is missing because the layer did not follow its own MACs; the reason is found in the measurements.
* ``(m' - R m) (t/m - c)`` is missing because expensive MACs were left, or cheap ones removed.

A layer without MACs misses ``t' - R t``, and what no layer accounts for lies outside the layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from benchmarks.layers.aligned_plan import AlignedPlan
from benchmarks.layers.comparison import MatchedRows, matched_rows, off_block
from benchmarks.layers.layer_profile import LayerProfile, LayerRow
from benchmarks.layers.roofline import Roofline
from benchmarks.records.base import Record
from benchmarks.records.measurement import Subject

__all__ = [
    "ExplainedLayer",
    "Explanation",
    "LayerSide",
    "Reason",
    "ReasonSum",
    "explain",
]

Reason = Literal[
    "followed",
    "more than promised",
    "counts off the block",
    "reorders put in",
    "overhead-bound",
    "another kernel",
    "depthwise",
    "memory-bound",
    "left whole",
    "MACs removed where cheap",
    "no MACs to remove",
    "no counterpart",
    "MACs unknown",
    "not explained",
    "outside the layers",
]

_AS_PROMISED = 0.1
"""A time this close to the promised one, as a share of it, followed its MACs."""
_FAR_OFF = 0.25
"""Relative difference between a call and the sum of its layers beyond which other load or the profiler is to blame."""
_MOSTLY = 0.5
"""Share of the missing time of a layer that its overhead, or its bytes, must account for."""


class LayerSide(Record):
    """A layer in one of the two networks; empty if absent there."""

    layers: tuple[str, ...] = Field((), description="the runtime's names for them")
    kernels: tuple[str, ...] = Field((), description="the runtime's own types for them")
    channels: tuple[int, int] | None = Field(None, description="input and output channels of the heaviest node")
    time_ns: int | None = Field(None, description="time of one execution; None where the runtime does not time it")
    macs: NonNegativeInt | None = Field(None, description="None: not known")
    moved_bytes: NonNegativeInt | None = Field(None, description="each tensor moved once; None: not known")
    roofline_share: float | None = Field(
        None, description="shortest time the roofline allows, divided by the measured time"
    )
    bound: Literal["compute", "memory"] | None = Field(None, description="which peak sets that shortest time")


class ExplainedLayer(Record):
    """What the MACs of a layer promised, what is missing, and why."""

    name: str = Field(description="ONNX node with the most MACs, named as in the dense file; or the kind")
    kind: Literal["layer", "layout conversion", "inserted"] = Field(
        "layer", description="all layout conversions form one entry, and so does everything else the runtime inserted"
    )
    dense: LayerSide
    pruned: LayerSide
    depthwise: bool = False
    missing_ns: float | None = Field(None, description="time beyond what its own MACs promised; negative: it gained")
    reason: Reason = Field(description="why")
    uneven_ns: float = Field(0.0, description="time missing because its MACs cost more than others, or less")
    uneven_reason: Reason | None = Field(None, description="why more of them stayed than elsewhere")
    why: tuple[str, ...] = Field((), description="evidence for the reason")

    @property
    def n_layers(self) -> int:
        """Number of layers in it."""
        return 1 if self.kind == "layer" else max(len(self.dense.layers), len(self.pruned.layers))


class ReasonSum(Record):
    """Missing time that one reason accounts for, over all layers."""

    reason: Reason
    missing_ns: float
    n_layers: NonNegativeInt
    largest: tuple[str, ...] = Field((), description="layers where it costs the most time, at most three")


class Explanation(Record):
    """What ``deploy explain`` writes."""

    schema_version: Literal[1] = 1
    dense: Subject
    pruned: Subject
    backend_version: str | None = None
    dense_ns: PositiveFloat = Field(description="time of an undisturbed unprofiled call; see `of_layers`")
    pruned_ns: PositiveFloat = Field(description="time of an undisturbed unprofiled call; see `of_layers`")
    of_layers: bool = Field(
        False, description="whether both are sums over layers, because whole calls took far longer or less than these"
    )
    dense_macs: NonNegativeInt = Field(description="MACs per call, as far as known")
    pruned_macs: NonNegativeInt = Field(description="MACs per call, as far as known")
    roofline: Roofline | None = Field(None, description="peaks measured in the same run")
    layer_overhead_ns: NonNegativeFloat | None = Field(
        None, description="time of a layer that computes next to nothing"
    )
    block: PositiveInt | None = Field(None, description="channels computed together; 1: no blocks; None: not known")
    block_from: Literal["table", "measured", "unknown"] = "unknown"
    missing_ns: float | None = Field(description="measured time beyond the promised time; None: no MACs are known")
    reasons: tuple[ReasonSum, ...] = Field(description="missing time by reason, largest first; no remainder")
    layers: tuple[ExplainedLayer, ...] = Field(description="in the order of the dense network")
    plans: tuple[AlignedPlan, ...] = Field((), description="what would be gained by counts that fill the blocks")
    notes: tuple[str, ...] = Field((), description="notes needed to interpret it")

    @property
    def promised_share(self) -> float | None:
        """Share of the dense time that the MACs promise; None if no MACs are known."""
        return self.pruned_macs / self.dense_macs if self.dense_macs and self.pruned_macs else None

    @property
    def time_share(self) -> float:
        """Measured share of the dense time."""
        return self.pruned_ns / self.dense_ns


def explain(
    pruned: LayerProfile,
    dense: LayerProfile,
    same: Mapping[str, str] | None = None,
    *,
    block: int | None = None,
    block_from: Literal["table", "measured", "unknown"] = "unknown",
    layer_overhead_ns: float | None = None,
    whole: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Explanation:
    """Explain why the time of a pruned network did not follow its MACs.

    Parameters
    ----------
    pruned, dense : LayerProfile
        Profiled in turn, under one backend with the same options and batch.
    same : Mapping of str to str, optional
        Maps nodes of the pruned network to those of the dense one, see `benchmarks.layers.comparison.compare_layers`.
    block : int, optional
        Channels that the runtime computes together; without it, counts are not a reason.
    block_from : {"table", "measured", "unknown"}
        How the block is known.
    layer_overhead_ns : float, optional
        Time of a layer that computes next to nothing; without it, overhead is not a reason.
    whole : Mapping of str to str, optional
        Why a layer of the dense network, by its ONNX node, keeps all its channels.
    notes : sequence of str
        Notes copied into the result.

    Raises
    ------
    NotComparableError
        Backend, options or batch differ.
    """
    share = pruned.macs / dense.macs if dense.macs and pruned.macs else None
    unknown = [frozenset(profile.uncounted) for profile in (dense, pruned)]
    drawn = [_drawn(rows, *unknown) for rows in matched_rows(pruned, dense, same) if rows.kind != "gaps"]
    counted = [layer for layer in drawn if layer.dense.macs and layer.dense.time_ns is not None]
    total_macs = sum(layer.dense.macs or 0 for layer in counted)
    judge = _Judge(
        share=share,
        ns_per_mac=sum(layer.dense.time_ns or 0 for layer in counted) / total_macs if total_macs else 0.0,
        block=block,
        overhead_ns=layer_overhead_ns,
        whole=whole or {},
    )
    layers = [judge(layer) for layer in drawn]
    calls_ns = [side.undisturbed_ns or side.latency_ns for side in (dense, pruned)]
    layers_ns = [float(sum(row.time_ns or 0 for row in side.rows if row.kind != "gaps")) for side in (dense, pruned)]
    of_layers = all(layers_ns) and any(
        abs(layers / call - 1) > _FAR_OFF for layers, call in zip(layers_ns, calls_ns, strict=True)
    )
    dense_ns, pruned_ns = layers_ns if of_layers else calls_ns
    missing_ns = None if share is None else pruned_ns - share * dense_ns
    return Explanation(
        dense=dense.subject,
        pruned=pruned.subject,
        backend_version=pruned.backend_version,
        dense_ns=dense_ns,
        pruned_ns=pruned_ns,
        dense_macs=dense.macs,
        pruned_macs=pruned.macs,
        roofline=pruned.roofline,
        layer_overhead_ns=layer_overhead_ns,
        block=block,
        block_from=block_from,
        missing_ns=missing_ns,
        reasons=_sums(layers, missing_ns),
        layers=tuple(layers),
        of_layers=of_layers,
        notes=(*notes, *(f"{side.subject.label}: {note}" for side in (dense, pruned) for note in side.notes)),
    )


def _drawn(rows: MatchedRows, unknown_dense: Collection[str], unknown_pruned: Collection[str]) -> ExplainedLayer:
    chief = max(rows.baseline or rows.candidate, key=lambda row: row.macs)
    return ExplainedLayer(
        name=rows.name,
        kind="layout conversion" if rows.kind == "layout conversion" else "inserted" if rows.kind else "layer",
        dense=_side(rows.baseline, unknown_dense),
        pruned=_side(rows.candidate, unknown_pruned),
        depthwise=chief.channels is not None and chief.groups == chief.channels[0] > 1,
        reason="followed",
    )


def _side(rows: Sequence[LayerRow], unknown: Collection[str]) -> LayerSide:
    if not rows:
        return LayerSide()
    heaviest = max(rows, key=lambda row: row.macs)
    timed = [row.time_ns for row in rows if row.time_ns is not None]
    sizes = [row.moved_bytes for row in rows if row.nodes]
    known = [size for size in sizes if size is not None]
    return LayerSide(
        layers=tuple(row.name for row in rows),
        kernels=tuple(row.runtime_kind for row in rows if row.time_ns is not None),
        channels=heaviest.channels,
        time_ns=sum(timed) if timed else None,
        macs=None if any(node in unknown for row in rows for node in row.nodes) else sum(row.macs for row in rows),
        moved_bytes=sum(known) if known and len(known) == len(sizes) else None,
        roofline_share=heaviest.roofline_share,
        bound=heaviest.bound,
    )


class _Judge:
    """Finds the missing time of a layer and the reason.

    Parameters
    ----------
    share : float or None
        Share of the MACs that are left; None if unknown.
    ns_per_mac : float
        Average cost of a MAC of the dense network.
    block, overhead_ns, whole
        As in `explain`.
    """

    def __init__(
        self,
        *,
        share: float | None,
        ns_per_mac: float,
        block: int | None,
        overhead_ns: float | None,
        whole: Mapping[str, str],
    ) -> None:
        self._share, self._ns_per_mac = share, ns_per_mac
        self._block, self._overhead_ns, self._whole = block, overhead_ns, whole

    def __call__(self, layer: ExplainedLayer) -> ExplainedLayer:
        dense, pruned = layer.dense, layer.pruned
        before, after = dense.time_ns or 0, pruned.time_ns or 0
        unknown = any(side.layers and side.macs is None for side in (dense, pruned))
        if self._share is None or unknown:
            missing = None if self._share is None else after - self._share * before
            reason: Reason = "MACs unknown" if unknown or dense.macs or pruned.macs else "no MACs to remove"
            return layer.model_copy(update={"missing_ns": missing, "reason": reason})
        if not dense.macs:
            return self._without_macs(layer, after - self._share * before)
        left = (pruned.macs or 0) / dense.macs
        missing = after - left * before
        uneven = (left - self._share) * (before - self._ns_per_mac * dense.macs)
        reason, why = self._reason(layer, left, missing)
        whole = left == 1 and dense.channels == pruned.channels
        stayed: Reason = "left whole" if whole else "depthwise" if layer.depthwise else "MACs removed where cheap"
        if whole:
            reason = "left whole" if reason == "followed" else reason
            why = (*why, *([self._whole[layer.name]] if layer.name in self._whole else []))
        return layer.model_copy(
            update={
                "missing_ns": missing,
                "reason": reason,
                "uneven_ns": uneven,
                "uneven_reason": stayed,
                "why": why,
            }
        )

    def _without_macs(self, layer: ExplainedLayer, missing: float) -> ExplainedLayer:
        dense, pruned = layer.dense, layer.pruned
        reason: Reason = "no MACs to remove"
        why: tuple[str, ...] = ()
        if layer.kind == "layout conversion":
            added = len(pruned.layers) > len(dense.layers) and missing > 0
            reason = "reorders put in" if added else reason
            why = (f"{len(pruned.layers)} of them instead of {len(dense.layers)}",) if added else ()
        elif not dense.layers:
            reason, why = "no counterpart", ("in the pruned network only",)
        else:
            why = _bytes_left(dense, pruned)
        return layer.model_copy(update={"missing_ns": missing, "reason": reason, "why": why})

    def _reason(self, layer: ExplainedLayer, left: float, missing: float) -> tuple[Reason, tuple[str, ...]]:
        """Return the first measured reason why a layer did not follow its MACs, and the facts behind it."""
        dense, pruned = layer.dense, layer.pruned
        if abs(missing) <= _AS_PROMISED * left * (dense.time_ns or 0) or not pruned.layers:
            return "followed", ()
        if missing < 0:
            return "more than promised", ()
        kernels = f"{_listed(pruned.kernels)} instead of {_listed(dense.kernels)}"
        another = set(dense.kernels) != set(pruned.kernels) or len(dense.kernels) != len(pruned.kernels)
        if self._overhead_ns is not None and (1 - left) * self._overhead_ns >= _MOSTLY * missing:
            return "overhead-bound", (f"no layer takes less than {self._overhead_ns / 1000:.1f} us",)
        off = off_block(dense.channels, pruned.channels, self._block, whose="dense", depthwise=layer.depthwise)
        if off:
            return "counts off the block", (*off, *([kernels] if another else []))
        if another:
            return "another kernel", (kernels,)
        if left == 1:  # nothing was removed, so no property of the layer explains the difference
            return "not explained", ()
        moved = _bytes_left(dense, pruned)
        if layer.depthwise:
            return "depthwise", moved
        if pruned.bound == "memory" and dense.moved_bytes and pruned.moved_bytes is not None:
            of_bytes = (pruned.moved_bytes / dense.moved_bytes - left) * (dense.time_ns or 0)
            if of_bytes >= _MOSTLY * missing:
                return "memory-bound", moved
        return "not explained", moved


def _sums(layers: Sequence[ExplainedLayer], missing_ns: float | None) -> tuple[ReasonSum, ...]:
    """Sum the missing time by reason, largest first; what no layer accounts for lies outside the layers."""
    if missing_ns is None:
        return ()
    parts: dict[Reason, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for place, layer in enumerate(layers):
        if layer.missing_ns is not None:
            parts[layer.reason][place] += layer.missing_ns
        if layer.uneven_reason is not None:
            parts[layer.uneven_reason][place] += layer.uneven_ns
    found: list[ReasonSum] = []
    for reason, by_layer in parts.items():
        largest = sorted(by_layer, key=lambda place: -abs(by_layer[place]))[:3]
        found.append(
            ReasonSum(
                reason=reason,
                missing_ns=sum(by_layer.values()),
                n_layers=sum(layers[place].n_layers for place in by_layer),
                largest=tuple(layers[place].name for place in largest),
            )
        )
    rest = missing_ns - sum(one.missing_ns for one in found)
    if abs(rest) > 1:
        found.append(ReasonSum(reason="outside the layers", missing_ns=rest, n_layers=0))
    return tuple(sorted(found, key=lambda one: -one.missing_ns))


def _bytes_left(dense: LayerSide, pruned: LayerSide) -> tuple[str, ...]:
    if not dense.moved_bytes or pruned.moved_bytes is None:
        return ()
    return (f"{100 * pruned.moved_bytes / dense.moved_bytes:.0f} % of its bytes are left",)


def _listed(names: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(names)) or "none"
