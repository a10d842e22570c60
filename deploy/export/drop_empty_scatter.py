"""Writes of nothing on the ONNX graph: code that assigns to slices may assign to empty ones. Knows no torch."""

from __future__ import annotations

import onnx

from deploy.export.onnx_graph import drop_unused, names_read

__all__ = ["drop_empty_writes"]


def drop_empty_writes(model: onnx.ModelProto) -> int:
    """Take out each ScatterND whose updates have no elements, and what was computed for it alone, in place.

    It gives back its data as they are; there are runtimes that refuse it.

    Parameters
    ----------
    model : ModelProto
        Changed in place, with the shapes of its values in ``value_info``. Only the main graph is searched.

    Returns
    -------
    int
        How many were taken out.
    """
    graph = model.graph
    empty = {tensor.name for tensor in graph.initializer if 0 in tensor.dims}
    empty |= {value.name for value in graph.value_info if _is_empty(value.type.tensor_type)}
    outputs = {value.name for value in graph.output}
    data: dict[str, str] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = data.get(name, name)
        writes = node.op_type == "ScatterND" and not node.domain
        if writes and node.input[2] in empty and node.output[0] not in outputs:
            data[node.output[0]] = node.input[0]
    if data:
        _drop_unread(graph)
        drop_unused(graph)
    return len(data)


def _is_empty(tensor: onnx.TypeProto.Tensor) -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in tensor.shape.dim)


def _drop_unread(graph: onnx.GraphProto) -> None:
    live = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not live.isdisjoint(node.output):
            kept.append(node)
            live |= names_read(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
