"""Which nodes of an ONNX file live in which node of ONNX Runtime's optimised graph.

ONNX Runtime keeps no record of its fusions, but a fused node still produces a tensor of the original graph. Nodes that
lie between the tensors known on both sides belong to the fused node that ends them. The channel-blocked (NCHWc)
convolutions rename their tensors and keep the original one in their own name instead; what is fused behind such a
convolution (an addition, an activation) is found by following the graph forward, up to the next convolution or
matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.base import LayerInfo
from backends.precision import COMPUTE_OPERATORS

if TYPE_CHECKING:
    import onnx

__all__ = ["trace_back"]

_BLOCKED = "com.microsoft.nchwc"
_REORDERS = frozenset({"ReorderInput", "ReorderOutput"})


def trace_back(original: onnx.GraphProto, optimised: onnx.GraphProto) -> tuple[LayerInfo, ...]:
    """Name the original nodes of each optimised node.

    Parameters
    ----------
    original, optimised : onnx.GraphProto
        Both in topological order. A node without a name is called after its first output.

    Returns
    -------
    tuple of LayerInfo
        One for each optimised node. Nodes that were folded into constants belong to none.
    """
    tensors = {name for node in original.node for name in node.output}
    ends: dict[str, int] = {}
    reordered: set[str] = set()
    for place, node in enumerate(optimised.node):
        if node.op_type in _REORDERS:
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
        if (index := owner.get(node.output[0])) is not None:
            members.setdefault(index, []).append(node.name or node.output[0])
    return tuple(
        LayerInfo(name=node.name, kind=_kind(node), nodes=tuple(members.get(index, ())))
        for index, node in enumerate(optimised.node)
    )


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
        owner[node.output[0]] = index
        producer |= dict.fromkeys(node.output, index)

    consumers: dict[str, set[int | None]] = {}
    pending = {node.output[0] for node in open_nodes}
    for node in reversed(original.node):
        if node.output[0] in pending:
            after = set().union(*(consumers.get(name, set()) for name in node.output))
            if len(after) == 1 and (only := after.pop()) is not None:
                owner[node.output[0]] = only
        for name in node.input:
            consumers.setdefault(name, set()).add(owner.get(node.output[0]))
    return owner
