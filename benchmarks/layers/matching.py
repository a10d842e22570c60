"""Match the nodes of two ONNX graphs that do the same work: by name, else by kind and order.

A pruned network computes the same as the dense one with fewer channels: same operators, kernels, strides and image
sizes, in the same order. Other exporters choose other names, and renumber them if a layer is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.layers.onnx_nodes import GraphNode, ModelGraph

__all__ = ["match_nodes"]

_NAMED_ALIKE = 0.1
"""Bonus for an equal name on top of the same kind of node: it breaks ties."""


def match_nodes(candidate: ModelGraph, baseline: ModelGraph) -> dict[str, str]:
    """Map each node of the candidate that has a counterpart to its node of the baseline, by name.

    Names are trusted if every weighted node of the candidate has a namesake of its kind. Otherwise as many weighted
    nodes as possible are aligned in order, and then the nodes between two of them in the same way.

    Parameters
    ----------
    candidate, baseline : ModelGraph
        Graphs with the same input sizes.
    """
    namesakes = {node.name: node for node in baseline.nodes}
    weighted = [[node for node in graph.nodes if node.channels is not None] for graph in (candidate, baseline)]
    if weighted[0] and all(node.name in namesakes and _alike(node, namesakes[node.name]) for node in weighted[0]):
        return {node.name: node.name for node in candidate.nodes if node.name in namesakes}
    pairs = _aligned(*weighted)
    places = [{node.name: place for place, node in enumerate(graph.nodes)} for graph in (candidate, baseline)]
    ends = [(-1, -1), *((places[0][one.name], places[1][other.name]) for one, other in pairs)]
    ends.append((len(candidate.nodes), len(baseline.nodes)))
    for before, after in pairwise(ends):
        between = [
            [node for node in graph.nodes[first + 1 : last] if node.channels is None]
            for graph, first, last in zip((candidate, baseline), before, after, strict=True)
        ]
        pairs += _aligned(*between)
    return {one.name: other.name for one, other in pairs}


def _alike(one: GraphNode, other: GraphNode) -> bool:
    if (one.op, one.window) != (other.op, other.window):
        return False
    kinds = [(node.groups > 1, node.depthwise) for node in (one, other)]
    # With one channel left, a depthwise layer looks like any other.
    return kinds[0] == kinds[1] or (one.depthwise and _single(other)) or (_single(one) and other.depthwise)


def _single(node: GraphNode) -> bool:
    return node.groups == 1 and node.channels == (1, 1)


def _aligned(first: Sequence[GraphNode], second: Sequence[GraphNode]) -> list[tuple[GraphNode, GraphNode]]:
    """Pair as many nodes of two sequences as possible without changing their order."""
    if len(first) == len(second) and all(map(_alike, first, second)):
        return list(zip(first, second, strict=True))
    best = [[0.0] * (len(second) + 1) for _ in range(len(first) + 1)]
    gain = [
        [1 + _NAMED_ALIKE * (one.name == other.name) if _alike(one, other) else 0.0 for other in second]
        for one in first
    ]
    for i in reversed(range(len(first))):
        for j in reversed(range(len(second))):
            taken = gain[i][j] + best[i + 1][j + 1] if gain[i][j] else 0.0
            best[i][j] = max(taken, best[i + 1][j], best[i][j + 1])
    pairs = []
    i = j = 0
    while i < len(first) and j < len(second):
        if gain[i][j] and best[i][j] == gain[i][j] + best[i + 1][j + 1]:
            pairs.append((first[i], second[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs
