"""Find the layers of a network's ONNX file whose channels no plan removes, and why."""

from __future__ import annotations

import onnx

from backends.modelfile import node_name
from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.plan_space import WholeLayer
from pruners.decide.patterns import producers
from pruners.graph import Graph

__all__ = ["whole_layers"]


def whole_layers(file: onnx.GraphProto, graph: Graph) -> tuple[WholeLayer, ...]:
    """Find the weighted nodes of the layers that lose none of their own channels.

    Parameters
    ----------
    file : GraphProto
        Of the dense network, as `deploy.exporting.export.export_onnx` writes it: a node has the name of its layer.
    graph : Graph
        Trace of the network.
    """
    pruned = {layer for group in graph.groups if group.prunable for layer in producers(group)}
    coupled = {layer: group.fixed for group in graph.groups if group.fixed for layer in producers(group)}
    reasons = {layer: why for layer, why in {**coupled, **graph.whole}.items() if layer not in pruned}
    constants = frozenset(tensor.name for tensor in file.initializer)
    found = []
    for index, node in enumerate(file.node):
        slot = weight_slot(node, constants)
        layer = node_name(node).rpartition("/")[0]
        if slot is not None and (why := reasons.get(layer) or reasons.get(node.input[slot])):
            found.append(WholeLayer(node=index, reason=why))
    return tuple(found)
