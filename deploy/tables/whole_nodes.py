"""Find the nodes of a network's ONNX file whose channels no plan removes, and why."""

from __future__ import annotations

import onnx

from backends.modelfile import node_name
from benchmarks.tables.anchors import weight_slot
from benchmarks.tables.plan_space import WholeLayer
from pruners.graph import Graph

__all__ = ["whole_nodes"]


def whole_nodes(file: onnx.GraphProto, graph: Graph) -> tuple[WholeLayer, ...]:
    """Find the weighted nodes of the layers that lose none of their own channels.

    Parameters
    ----------
    file : GraphProto
        Of the dense network, as `deploy.exporting.export.export_onnx` writes it: a node has the name of its layer.
    graph : Graph
        Trace of the network.
    """
    constants = frozenset(tensor.name for tensor in file.initializer)
    layers = []
    for index, node in enumerate(file.node):
        if (slot := weight_slot(node, constants)) is None:
            continue
        layer, parameter = node_name(node).rpartition("/")[0], node.input[slot]
        if reason := graph.whole.get(parameter) or graph.whole.get(layer):
            layers.append(WholeLayer(node=index, reason=reason))
    return tuple(layers)
