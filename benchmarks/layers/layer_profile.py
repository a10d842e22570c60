"""Where the time of a call goes: a runtime's layers joined to the ONNX nodes, their MACs, their bytes and the roofline.

Rows are of five kinds:

* **layer**: ONNX nodes that the runtime executes, fused into one layer or alone.
* **layout conversion**: inserted by the runtime to change the data layout; it contains no ONNX node.
* **inserted**: anything else not traced to an ONNX node (a cast, a fusion that the backend cannot resolve).
* **in no layer**: an ONNX node that the runtime does not execute as a layer: folded, or only a change of shape.
* **gaps**: the unprofiled call minus all layers: launches, copies to and from the runtime, the call itself. It may be
  negative, because the two come from different calls and profiling slows layers down.

Each ONNX node's MACs are counted in exactly one row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from benchmarks.layers.roofline import Roofline
from benchmarks.records.base import Record
from benchmarks.records.measurement import Cost, Subject

if TYPE_CHECKING:
    from backends.base import LayerInfo
    from benchmarks.layers.onnx_nodes import ModelGraph

__all__ = ["LayerProfile", "LayerRow", "RowKind", "join"]

RowKind = Literal["layer", "layout conversion", "inserted", "in no layer", "gaps"]

_LAYOUT = re.compile(r"reorder|reformat|transpose|permute|shuffle|layout", re.IGNORECASE)


class LayerRow(Record):
    """One row of a profile: counts and bytes of one call, for the whole batch."""

    name: str = Field(description="the runtime's name; for a node in no layer, that of the node")
    kind: RowKind
    runtime_kind: str = Field("", description="the runtime's own layer or kernel type")
    nodes: tuple[str, ...] = Field((), description="ONNX nodes in it")
    ops: tuple[str, ...] = Field((), description="operators of these nodes")
    channels: tuple[int, int] | None = Field(None, description="input and output channels of its heaviest node")
    groups: PositiveInt = Field(1, description="groups of its heaviest node; equal to the channels: depthwise")
    macs: NonNegativeInt = 0
    moved_bytes: NonNegativeInt | None = Field(None, description="inputs, weights and outputs, each moved once")
    time_ns: int | None = Field(None, description="time of one execution; None where the runtime does not time it")
    share: float | None = Field(None, description="share of the unprofiled call")
    flops_per_s: float | None = Field(None, description="2 x MACs divided by the time")
    bytes_per_s: float | None = None
    roofline_share: float | None = Field(
        None, description="shortest time the roofline allows, divided by the measured time"
    )
    bound: Literal["compute", "memory"] | None = Field(None, description="which peak sets that shortest time")


class LayerProfile(Record):
    """The layers of one model under one backend."""

    subject: Subject
    backend_version: str | None = None
    executed_precision: str
    latency_ns: PositiveFloat = Field(description="median unprofiled call, in a process of its own")
    n_calls: PositiveInt = Field(description="unprofiled calls behind it")
    undisturbed_ns: PositiveFloat | None = Field(
        None, description="median of the fastest unprofiled calls of all sessions; None: not recorded"
    )
    profiled_ns: PositiveFloat = Field(description="median call while profiled")
    n_profiled: PositiveInt = Field(description="profiled calls")
    roofline: Roofline | None = None
    rows: tuple[LayerRow, ...] = Field(description="in execution order")
    uncounted: tuple[str, ...] = Field((), description="nodes with unknown MACs: they count as 0 in `rows`")
    notes: tuple[str, ...] = Field((), description="notes needed to interpret the rows")

    @property
    def macs(self) -> int:
        """MACs of one call."""
        return sum(row.macs for row in self.rows)

    @property
    def profiling_cost(self) -> float:
        """Relative slowdown of a call while profiled."""
        return self.profiled_ns / self.latency_ns - 1


def join(
    layers: Sequence[LayerInfo],
    cost: Cost,
    graph: ModelGraph,
    *,
    batch: int,
    latency_ns: float,
    roofline: Roofline | None,
    uncounted: Collection[str] = (),
) -> tuple[LayerRow, ...]:
    """Join profiled layers to the ONNX nodes in them.

    A node named by several layers belongs to the one that takes longest.

    Parameters
    ----------
    layers : sequence of LayerInfo
        In the order of execution.
    cost : Cost
        Cost of the model, for one example.
    graph : ModelGraph
        Graph of the model, at the profiled batch.
    batch : int
        Examples per call.
    latency_ns : float
        Latency of the unprofiled call.
    roofline : Roofline or None
        If None, no share of it is computed.
    uncounted : collection of str
        Nodes whose MACs are unknown: their layers have no share of the roofline.

    Returns
    -------
    tuple of LayerRow
        Layers in the order of execution, then nodes in no layer, then the gaps. Layers that the runtime neither timed
        nor traced to a node are left out.
    """
    macs: dict[str, int] = defaultdict(int)
    for node in cost.nodes:
        macs[node.name] += batch * node.macs
    ops = {node.name: node.op for node in cost.nodes}
    places: dict[str, list[int]] = defaultdict(list)
    for place, graph_node in enumerate(graph.nodes):
        places[graph_node.name].append(place)
    owner = _owners(layers)
    rows: list[LayerRow] = []
    for index, layer in enumerate(layers):
        if not layer.nodes and layer.time_ns is None:
            continue
        own = [name for name in layer.nodes if owner[name] == index]
        inside = {place for name in own for place in places[name]}
        heaviest = max(own, key=lambda name: macs.get(name, 0), default="")
        chief = next((graph.nodes[place] for place in sorted(inside) if graph.nodes[place].name == heaviest), None)
        rows.append(
            _judged(
                LayerRow(
                    name=layer.name,
                    kind=_kind(layer),
                    runtime_kind=layer.kind,
                    nodes=layer.nodes,
                    ops=tuple(ops.get(name, "?") for name in layer.nodes),
                    channels=None if chief is None else chief.channels,
                    groups=1 if chief is None else chief.groups,
                    macs=sum(macs.get(name, 0) for name in own),
                    moved_bytes=graph.moved_bytes(inside) if inside else None,
                    time_ns=layer.time_ns,
                ),
                latency_ns,
                None if set(own) & set(uncounted) else roofline,
            )
        )
    rows += [
        LayerRow(name=name, kind="in no layer", nodes=(name,), ops=(ops[name],), macs=total)
        for name, total in macs.items()
        if name not in owner
    ]
    gap_ns = round(latency_ns) - sum(row.time_ns or 0 for row in rows)
    rows.append(LayerRow(name="gaps", kind="gaps", time_ns=gap_ns, share=gap_ns / latency_ns))
    return tuple(rows)


def _owners(layers: Sequence[LayerInfo]) -> dict[str, int]:
    """Map each node to the layer it belongs to."""
    owner: dict[str, int] = {}
    for index, layer in enumerate(layers):
        for name in layer.nodes:
            if name not in owner or (layer.time_ns or 0) > (layers[owner[name]].time_ns or 0):
                owner[name] = index
    return owner


def _kind(layer: LayerInfo) -> RowKind:
    if layer.nodes:
        return "layer"
    return "layout conversion" if _LAYOUT.search(layer.kind) else "inserted"


def _judged(row: LayerRow, latency_ns: float, roofline: Roofline | None) -> LayerRow:
    """Add the values derived from the time of a row."""
    if row.time_ns is None:
        return row
    derived: dict[str, object] = {"share": row.time_ns / latency_ns}
    if row.time_ns > 0:
        seconds = row.time_ns / 1e9
        if row.macs:
            derived["flops_per_s"] = 2 * row.macs / seconds
        if row.moved_bytes:
            derived["bytes_per_s"] = row.moved_bytes / seconds
        shortest = None if roofline is None else roofline.shortest(row.macs, row.moved_bytes)
        if shortest is not None:
            derived["bound"] = shortest.bound
            derived["roofline_share"] = shortest.seconds / seconds
    return row.model_copy(update=derived)
