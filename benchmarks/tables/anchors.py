"""Assign each time of a profile to a weighted layer.

A runtime fuses nodes differently at different widths: an addition may be part of a convolution or its own layer. Summed
by weighted layer, the times of all widths are comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from backends.base import LayerInfo
from backends.modelfile import node_name

__all__ = ["anchor_times", "anchors_of", "weight_slot"]

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def weight_slot(node: onnx.NodeProto, constants: frozenset[str]) -> int | None:
    """Return which input of a node holds its weights; None if none does."""
    if node.op_type not in _WEIGHTED:
        return None
    return next((slot for slot in (1, 0) if node.input[slot] in constants), None)


def anchors_of(graph: onnx.GraphProto) -> dict[str, str]:
    """Map each node name to its weighted layer: the node itself, else the nearest before it, else ``""``."""
    constants = frozenset(tensor.name for tensor in graph.initializer)
    made_by: dict[str, str] = {}
    anchors: dict[str, str] = {}
    for node in graph.node:
        name = node_name(node)
        if weight_slot(node, constants) is not None:
            anchor = name
        else:
            anchor = next((made_by[value] for value in node.input if made_by.get(value)), "")
        anchors[name] = anchor
        made_by |= dict.fromkeys(node.output, anchor)
    return anchors


def anchor_times(layers: Sequence[LayerInfo], anchors: Mapping[str, str]) -> dict[str, float]:
    """Sum the times of a profile by weighted layer.

    A layer of several weighted nodes counts for the first of them. What the runtime inserts (a layout conversion)
    counts for the next layer, which needs it.

    Parameters
    ----------
    layers : sequence of LayerInfo
        In the order of execution.
    anchors : Mapping of str to str
        Weighted layer of each node, see `anchors_of`.

    Returns
    -------
    dict of str to float
        Nanoseconds of one call by weighted layer; ``""`` holds what comes before the first.
    """
    times: dict[str, float] = dict.fromkeys(anchors.values(), 0.0)
    waiting, latest = 0.0, ""
    for layer in layers:
        known = [name for name in layer.nodes if name in anchors]
        if not known:
            waiting += layer.time_ns or 0
            continue
        own = next((name for name in known if anchors[name] == name), None)
        latest = anchors[known[0]] if own is None else own
        times[latest] += waiting + (layer.time_ns or 0)
        waiting = 0.0
    times[latest] = times.get(latest, 0.0) + waiting
    return times
