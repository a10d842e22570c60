"""Map the nodes of an ONNX file to the nodes of ONNX Runtime's optimised graph, and read their profiled times.

ONNX Runtime keeps no record of its fusions, but a fused node still produces a tensor of the original graph. Nodes
between the tensors known on both sides belong to the fused node that follows them. The channel-blocked (NCHWc)
convolutions rename their tensors and keep the original name in their own node name instead; operators fused after such
a convolution (an addition, an activation) are found by following the graph forward, up to the next convolution or
matrix product.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from backends.base import LayerInfo
from backends.layer_times import undisturbed_mean
from backends.modelfile import node_name
from backends.precision import COMPUTE_OPERATORS

if TYPE_CHECKING:
    import onnx

__all__ = ["node_events", "node_times", "trace_back"]

_BLOCKED = "com.microsoft.nchwc"
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})


def trace_back(original: onnx.GraphProto, optimised: onnx.GraphProto) -> tuple[LayerInfo, ...]:
    """Name the original nodes of each optimised node.

    Parameters
    ----------
    original, optimised : onnx.GraphProto
        Both in topological order. A node without a name is named after its first output.

    Returns
    -------
    tuple of LayerInfo
        One per optimised node. Nodes folded into constants belong to none.
    """
    tensors = {name for node in original.node for name in node.output}
    # A file written by ONNX Runtime contains blocked nodes itself.
    blocked = {name for node in original.node if node.domain == _BLOCKED for name in node.output}
    ends: dict[str, int] = {}
    reordered: set[str] = set()
    for place, node in enumerate(optimised.node):
        if blocked.intersection(node.output):
            ends |= dict.fromkeys(node.output, place)
        elif node.op_type in _REORDERS:
            reordered |= set(node.output) & tensors
        elif node.domain == _BLOCKED:
            end = node.name.removesuffix("_nchwc")
            if end in tensors:
                ends[end] = place
        else:
            ends |= {name: place for name in node.output if name in tensors}

    owner = _follow(original, optimised, ends, reordered)
    members: dict[int, list[str]] = {}
    for node in original.node:
        if (index := owner.get(_end(node))) is not None:
            members.setdefault(index, []).append(node_name(node))
    return tuple(
        LayerInfo(name=node_name(node), kind=_kind(node), nodes=tuple(members.get(index, ())))
        for index, node in enumerate(optimised.node)
    )


def node_events(trace: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the executions of a graph's own nodes in a profile, in order, excluding nodes inside control flow."""
    events = [event for event in trace if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    outer_end, own = -1, []
    # An event that starts first and ends last contains those in between.
    for event in sorted(events, key=lambda event: (int(event["ts"]), -int(event["dur"]))):
        if int(event["ts"]) >= outer_end:
            own.append(event)
            if event["args"].get("op_name") in _CONTROL_FLOW:
                outer_end = int(event["ts"]) + int(event["dur"])
    return own


def node_times(graph: onnx.GraphProto, events: list[dict[str, Any]]) -> list[int | None]:
    """Return the time of each node of an executed graph in nanoseconds; None if it was not timed.

    ONNX Runtime names an unnamed node after its operator and a number of its own; such a node is matched by its order
    among those with the same operator.

    Parameters
    ----------
    graph : onnx.GraphProto
        In topological order.
    events : list of dict
        From `node_events`.
    """
    named = {node.name for node in graph.node if node.name}
    durations: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(dict)
    for event in events:
        name, op = event["name"].removesuffix("_kernel_time"), event["args"].get("op_name", "")
        place = (name, "") if name in named else ("", op)
        durations[place].setdefault(name, []).append(1000 * int(event["dur"]))
    waiting = {place: list(found.values()) for place, found in durations.items()}
    times: list[int | None] = []
    for node in graph.node:
        found = waiting.get((node.name, "") if node.name else ("", node.op_type))
        times.append(undisturbed_mean(found.pop(0)) if found else None)
    return times


def _end(node: onnx.NodeProto) -> str:
    """Return a node's first output, which identifies it."""
    return next(filter(None, node.output), "")


def _kind(node: onnx.NodeProto) -> str:
    blocked = node.domain == _BLOCKED and node.op_type not in _REORDERS
    return f"NCHWc {node.op_type}" if blocked else node.op_type


def _follow(
    original: onnx.GraphProto, optimised: onnx.GraphProto, ends: dict[str, int], reordered: set[str]
) -> dict[str, int]:
    """Map the first output of each original node to the index of its optimised node."""
    constants = {tensor.name for tensor in original.initializer}
    producer: dict[str, int] = {}
    owner: dict[str, int] = {}
    open_nodes = []
    for node in original.node:
        if all(name in constants for name in node.input if name):
            constants.update(node.output)
            continue
        index: int | None = next((ends[name] for name in node.output if name in ends), None)
        if index is None and node.op_type not in COMPUTE_OPERATORS:
            before = [producer.get(name) for name in node.input if name not in constants and name not in reordered]
            known = [end for end in before if end is not None]
            if known and len(known) == len(before) and optimised.node[max(known)].domain == _BLOCKED:
                index = max(known)
        if index is None:
            open_nodes.append(node)
            continue
        owner[_end(node)] = index
        producer |= dict.fromkeys(node.output, index)

    consumers: dict[str, set[int | None]] = {}
    pending = {_end(node) for node in open_nodes}
    for node in reversed(original.node):
        if _end(node) in pending:
            after = set().union(*(consumers.get(name, set()) for name in node.output))
            if len(after) == 1 and (only := after.pop()) is not None:
                owner[_end(node)] = only
        for name in node.input:
            consumers.setdefault(name, set()).add(owner.get(_end(node)))
    return owner
