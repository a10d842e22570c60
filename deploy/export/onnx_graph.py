"""Who reads what in an ONNX graph, branches and loop bodies included. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["drop_unused", "names_read", "subgraphs"]


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield `graph` and every graph inside its nodes (branches, loop bodies)."""
    yield graph
    for node in graph.node:
        yield from _inside(node)


def _inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
        for each in inner:
            yield from subgraphs(each)


def names_read(node: onnx.NodeProto) -> set[str]:
    """List the values that a node, or what is inside it, refers to."""
    read = set(node.input)
    for graph in _inside(node):
        read.update(name for each in graph.node for name in each.input)
        read.update(output.name for output in graph.output)
    return read


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop initializers that nothing refers to, and what is said of values that no node makes, in place."""
    live = {output.name for output in graph.output}.union(*(names_read(node) for node in graph.node))
    made = {name for node in graph.node for name in node.output}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in live:
            del graph.initializer[index]
    for index in reversed(range(len(graph.value_info))):
        if graph.value_info[index].name not in made:
            del graph.value_info[index]
