"""Compare two models layer by layer: which layers match, what their MACs promised, what was measured, and why.

Layers that share a node belong together (`benchmarks.layers.matching` says which nodes are the same); if the runtime
fused differently, several layers of one model pair with several of the other. A reason is reported only if it was
measured or is written in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

from pydantic import Field, NonNegativeInt, PositiveInt

from benchmarks.errors import NotComparableError
from benchmarks.layers.layer_profile import LayerProfile, LayerRow, RowKind
from benchmarks.records.base import Record

__all__ = [
    "LAYERS_VERSION",
    "LayerComparison",
    "LayerPair",
    "LayerReport",
    "MatchedRows",
    "compare_layers",
    "matched_rows",
    "off_block",
    "other_widths",
]

LAYERS_VERSION: Literal[1] = 1
"""Version of the format of `LayerReport`."""

_AS_PROMISED = 0.1
"""A time ratio this close to the MACs ratio, as a share of it, needs no reason."""
_CLOCK_NS = 5_000
"""Below this, ratios are coarse: the runtimes' clocks count microseconds."""
_MOVED = 0.05
_SUMMED: tuple[RowKind, ...] = ("layout conversion", "inserted", "gaps")


class LayerPair(Record):
    """Layers of the baseline and of the candidate that do the same work; one side may be empty."""

    name: str = Field(description="ONNX node with the most MACs; for rows without nodes, their kind")
    baseline_layers: tuple[str, ...] = ()
    candidate_layers: tuple[str, ...] = ()
    baseline_macs: NonNegativeInt = 0
    candidate_macs: NonNegativeInt = 0
    baseline_ns: int | None = None
    candidate_ns: int | None = None
    macs_ratio: float | None = Field(None, description="baseline over candidate: what the MACs promise")
    time_ratio: float | None = Field(None, description="baseline over candidate: what was measured")
    reasons: tuple[str, ...] = Field((), description="why they differ, based on facts; empty where they do not")

    @property
    def matched(self) -> bool:
        """Whether both models have such a layer."""
        return bool(self.baseline_layers) and bool(self.candidate_layers)


class LayerComparison(Record):
    """Two models under one backend, layer by layer."""

    baseline: LayerProfile
    candidate: LayerProfile
    pairs: tuple[LayerPair, ...] = Field(description="in the order of the baseline; unmatched layers have one side")
    block: PositiveInt | None = Field(None, description="channels computed together; 1: no blocks; None: not known")
    block_from: Literal["table", "measured", "unknown"] = "unknown"


class LayerReport(Record):
    """Output of ``deploy layers``: models profiled alone, and pairs of them."""

    schema_version: Literal[1] = LAYERS_VERSION
    profiles: tuple[LayerProfile, ...] = ()
    comparisons: tuple[LayerComparison, ...] = ()

    def with_point(self, profiles: Sequence[LayerProfile], pair: LayerComparison | None) -> Self:
        """Return the report with one more point: a pair, which holds its profiles, or profiles alone."""
        if pair is not None:
            return self.model_copy(update={"comparisons": (*self.comparisons, pair)})
        return self.model_copy(update={"profiles": (*self.profiles, *profiles)})


class MatchedRows(NamedTuple):
    """Rows of two profiles that do the same work, or all rows without nodes of one kind."""

    kind: RowKind | None
    baseline: list[LayerRow]
    candidate: list[LayerRow]

    @property
    def name(self) -> str:
        """ONNX node with the most MACs, or the kind."""
        if self.kind is not None:
            return self.kind
        return max(self.baseline or self.candidate, key=lambda row: row.macs).nodes[0]


def compare_layers(
    candidate: LayerProfile,
    baseline: LayerProfile,
    same: Mapping[str, str] | None = None,
    *,
    block: int | None = None,
    block_from: Literal["table", "measured", "unknown"] = "unknown",
) -> LayerComparison:
    """Pair the layers of two profiles.

    Parameters
    ----------
    candidate, baseline : LayerProfile
        Profiles of one backend with the same options and batch.
    same : Mapping of str to str, optional
        Maps nodes of the candidate to those of the baseline, see `benchmarks.layers.matching.match_nodes`; by default,
        nodes match by name.
    block : int, optional
        Channels that the runtime computes together; without it, counts are not a reason.
    block_from : {"table", "measured", "unknown"}
        How the block is known.

    Returns
    -------
    LayerComparison
        Each row of both profiles is in exactly one pair.

    Raises
    ------
    NotComparableError
        Backend, options or batch differ.
    """
    pairs = tuple(_pair(rows, block) for rows in matched_rows(candidate, baseline, same))
    return LayerComparison(
        baseline=baseline, candidate=candidate, pairs=pairs, block=block, block_from=block_from if block else "unknown"
    )


def other_widths(candidate: LayerProfile, baseline: LayerProfile) -> bool:
    """Return whether channel counts differ between two profiles in any layer, regardless of names."""
    one, other = (sorted(row.channels for row in side.rows if row.channels) for side in (baseline, candidate))
    return one != other


def off_block(
    before: tuple[int, int] | None, after: tuple[int, int] | None, block: int | None, *, whose: str, depthwise: bool
) -> list[str]:
    """Say which channel counts of a layer changed to one that is not a multiple of the runtime's block.

    Parameters
    ----------
    before, after : (int, int), optional
        Its input and output channels in both models; None if it has none.
    block : int, optional
        Channels that the runtime computes together; None: unknown, and nothing is reported.
    whose : str
        Name of the model of `before`.
    depthwise : bool
        Whether each channel is convolved separately: input and output channels are then one count.
    """
    if block is None or before is None or after is None:
        return []
    axes = [("input ", before[0], after[0]), ("output ", before[1], after[1])]
    if depthwise:
        axes = [("", before[1], after[1])]
    return [
        f"{count} {axis}channels are not a multiple of {block} ({whose}: {full})"
        for axis, full, count in axes
        if count != full and count % block
    ]


def matched_rows(
    candidate: LayerProfile, baseline: LayerProfile, same: Mapping[str, str] | None = None
) -> list[MatchedRows]:
    """Group rows of two profiles that share nodes, directly or through others; then rows without nodes by kind.

    Parameters
    ----------
    candidate, baseline, same
        As in `compare_layers`.

    Raises
    ------
    NotComparableError
        Backend, options or batch differ.
    """
    for field in ("backend", "precision", "threads", "device", "batch"):
        one, other = getattr(baseline.subject, field), getattr(candidate.subject, field)
        if one != other:
            raise NotComparableError(f"layers of {field} {one} and {field} {other} are not compared")
    groups = _groups(baseline.rows, candidate.rows, same)
    found = [MatchedRows(None, before, after) for before, after in groups]
    for kind in _SUMMED:
        before, after = ([row for row in side.rows if row.kind == kind] for side in (baseline, candidate))
        if before or after:
            found.append(MatchedRows(kind, before, after))
    return found


def _groups(
    baseline: Sequence[LayerRow], candidate: Sequence[LayerRow], same: Mapping[str, str] | None
) -> list[tuple[list[LayerRow], list[LayerRow]]]:
    rows = [(0, row) for row in baseline if row.nodes] + [(1, row) for row in candidate if row.nodes]
    parent = list(range(len(rows)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, bool], int] = {}
    for index, (side, row) in enumerate(rows):
        for node in row.nodes:
            alone = bool(side) and same is not None and node not in same
            name = same.get(node, node) if side and same is not None else node
            one, other = root(first.setdefault((name, alone), index)), root(index)
            parent[max(one, other)] = min(one, other)
    groups: dict[int, tuple[list[LayerRow], list[LayerRow]]] = {}
    for index, (side, row) in enumerate(rows):
        groups.setdefault(root(index), ([], []))[side].append(row)
    return list(groups.values())


def _pair(rows: MatchedRows, block: int | None) -> LayerPair:
    before, after = rows.baseline, rows.candidate
    pair = _ratios(rows.name, before, after)
    if rows.kind is not None:
        if rows.kind == "gaps" or len(before) == len(after):
            return pair
        return pair.model_copy(update={"reasons": (f"{len(after)} of them instead of {len(before)}",)})
    if pair.macs_ratio is None or pair.time_ratio is None:
        return pair
    if abs(pair.time_ratio / pair.macs_ratio - 1) <= _AS_PROMISED:
        return pair
    reasons = _reasons(before, after, block, gained=pair.time_ratio > pair.macs_ratio)
    return pair.model_copy(update={"reasons": tuple(reasons)})


def _ratios(name: str, before: list[LayerRow], after: list[LayerRow]) -> LayerPair:
    macs = [sum(row.macs for row in side) for side in (before, after)]
    times = [_time_ns(side) for side in (before, after)]
    old, new = times
    return LayerPair(
        name=name,
        baseline_layers=tuple(row.name for row in before),
        candidate_layers=tuple(row.name for row in after),
        baseline_macs=macs[0],
        candidate_macs=macs[1],
        baseline_ns=old,
        candidate_ns=new,
        macs_ratio=macs[0] / macs[1] if macs[0] and macs[1] else None,
        time_ratio=old / new if old is not None and new is not None and old > 0 and new > 0 else None,
    )


def _time_ns(rows: list[LayerRow]) -> int | None:
    times = [row.time_ns for row in rows if row.time_ns is not None]
    return sum(times) if times else None


def _reasons(before: list[LayerRow], after: list[LayerRow], block: int | None, *, gained: bool) -> list[str]:
    """Return known reasons why the time of a layer did not follow its MACs."""
    old, new = (max(side, key=lambda row: row.macs) for side in (before, after))
    reasons = []
    if not gained:
        depthwise = new.channels is not None and new.groups == new.channels[0] > 1
        reasons += off_block(old.channels, new.channels, block, whose="baseline", depthwise=depthwise)
        if new.bound == "memory":
            reasons.append("memory bound: its bytes, not its MACs, set its time")
    if old.runtime_kind != new.runtime_kind:
        reasons.append(f"another kernel: {new.runtime_kind} instead of {old.runtime_kind}")
    n_old, n_new = (sum(row.time_ns is not None for row in side) for side in (before, after))
    if n_old != n_new:
        reasons.append(f"fused into {n_new} layer{'' if n_new == 1 else 's'} instead of {n_old}")
    if min(_time_ns(before) or 0, _time_ns(after) or 0) < _CLOCK_NS:
        reasons.append("so short that the runtime's clock is coarse")
    if old.roofline_share is not None and new.roofline_share is not None:
        change = new.roofline_share - old.roofline_share
        if abs(change) > _MOVED:
            reasons.append(f"{100 * new.roofline_share:.0f} % of the roofline, before {100 * old.roofline_share:.0f} %")
    return reasons
