"""Reject an ONNX model that is malformed, would never terminate or would take all memory, before any work on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from backends.errors import one_line

if TYPE_CHECKING:
    import onnx

__all__ = ["broken_rule", "held_tensors", "inner_graphs", "subgraphs"]

_MAX_NODES = 1_000_000
_MAX_CALLS = 100
_SMALL = 64
_LONGEST_NAME = 2048


def broken_rule(proto: onnx.ModelProto) -> str | None:
    """Return what is wrong with a model, as the end of the sentence ``"FILE ..."``; None if nothing is.

    The rules: names are text without NUL; a name is written once per graph; no node depends on its own output; small
    tensors match their shapes, and no size is negative; functions do not call themselves and nest at most 100 deep;
    and with its functions inlined the model has at most a million nodes.
    """
    for body in (proto.graph, *proto.functions):
        for graph in (body, *inner_graphs(body)):
            if (broken := _names(graph) or _tensors(graph) or _circle(graph)) is not None:
                return broken
    return _functions(proto)


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all graphs inside its nodes."""
    yield graph
    yield from inner_graphs(graph)


def inner_graphs(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto]:
    """Yield all graphs inside the nodes of a graph or a function."""
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from subgraphs(attribute.g)
            for inner in attribute.graphs:
                yield from subgraphs(inner)


def _names(graph: onnx.GraphProto | onnx.FunctionProto) -> str | None:
    """Check the names: protobuf returns invalid text as bytes, which no runtime can handle."""
    names: list[object] = [graph.name]
    written: list[object] = []
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
        written += filter(None, node.output)
        if not node.output:
            return f"is damaged: node {node.name!r} ({node.op_type}) writes nothing"
    outputs: list[object] = list(graph.output)
    if hasattr(graph, "initializer"):
        outputs = [info.name for info in graph.output]
        names += [info.name for info in (*graph.input, *graph.initializer)]
        names += [dim.dim_param for info in (*graph.input, *graph.output) for dim in info.type.tensor_type.shape.dim]
    if not all(isinstance(name, str) and "\0" not in name for name in (*names, *outputs)):
        return "is damaged: a name in it is not text"
    for listed, how in ((written, "two nodes write"), (outputs, "it lists twice as its output")):
        twice = next((name for name, times in Counter(listed).items() if times > 1), None)
        if twice is not None:
            return f"is damaged: {how} {twice!r}"
    return None


def held_tensors(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors held by a graph or function, including the parts of sparse ones, excluding inner graphs."""
    sparse = [*getattr(body, "sparse_initializer", ())]
    yield from getattr(body, "initializer", ())
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            sparse += attribute.sparse_tensors
    for one in sparse:
        yield one.values
        yield one.indices


def _tensors(body: onnx.GraphProto | onnx.FunctionProto) -> str | None:
    return next((broken for tensor in held_tensors(body) if (broken := _tensor(tensor)) is not None), None)


def _circle(graph: onnx.GraphProto | onnx.FunctionProto) -> str | None:
    """Check for cycles: nodes may be listed in any order if one exists in which they can run."""
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needed = [{made_by[name] for name in node.input if name in made_by} for node in graph.node]
    if all(before < index for index, each in enumerate(needed) for before in each):
        return None
    try:
        TopologicalSorter(dict(enumerate(needed))).prepare()
    except CycleError as error:
        node = graph.node[error.args[1][0]]
        return f"is damaged: node {node.name or node.output[0]!r} ({node.op_type}) needs what it writes itself"
    return None


def _tensor(tensor: onnx.TensorProto) -> str | None:
    import onnx

    if min(tensor.dims, default=0) < 0:
        return f"is damaged: tensor {tensor.name!r} has a negative size"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type not in _known_types():
        return None
    elements = math.prod(tensor.dims)
    if not _has_data(tensor) and (elements > _SMALL or len(tensor.name) + len(tensor.doc_string) > _LONGEST_NAME):
        return None  # large: its data was not read
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError) as error:
        return f"is damaged: tensor {tensor.name!r} does not hold what its shape says: {one_line(error)}"
    return None


def _has_data(tensor: onnx.TensorProto) -> bool:
    return tensor.HasField("raw_data") or any(
        getattr(tensor, f"{kind}_data") for kind in ("float", "int32", "string", "int64", "double", "uint64")
    )


def _known_types() -> frozenset[int]:
    import onnx

    return frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}


def _functions(proto: onnx.ModelProto) -> str | None:
    """Check the model's functions: no duplicates or recursion, and a bounded depth and node count once inlined."""
    bodies = {(function.domain, function.name, function.overload): function for function in proto.functions}
    if len(bodies) < len(proto.functions):
        return "is damaged: two of its functions have the same name"
    calls = {key: _called(function, bodies) for key, function in bodies.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        name = error.args[1][0][1]
        return f"cannot be run: its function {name!r} calls itself; export it without functions of its own"
    nodes: dict[tuple[str, str, str], int] = {}
    depths: dict[tuple[str, str, str], int] = {}
    for key in order:
        nodes[key] = _size(bodies[key]) + sum(times * nodes[called] for called, times in calls[key].items())
        depths[key] = 1 + max((depths[called] for called in calls[key]), default=0)
    total = _size(proto.graph) + sum(times * nodes[key] for key, times in _called(proto.graph, bodies).items())
    if total > _MAX_NODES:
        return f"has {total:,} nodes when its functions are taken apart, at most {_MAX_NODES:,} are read"
    if max(depths.values(), default=0) > _MAX_CALLS:
        return f"has functions that call each other more than {_MAX_CALLS} deep; export it without functions of its own"
    return None


def _called(
    body: onnx.GraphProto | onnx.FunctionProto, known: Container[tuple[str, str, str]]
) -> Counter[tuple[str, str, str]]:
    nodes = (node for graph in (body, *inner_graphs(body)) for node in graph.node)
    keys = ((node.domain, node.op_type, node.overload) for node in nodes)
    return Counter(key for key in keys if key in known)


def _size(body: onnx.GraphProto | onnx.FunctionProto) -> int:
    return sum(len(graph.node) for graph in (body, *inner_graphs(body)))
