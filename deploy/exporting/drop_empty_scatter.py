"""Remove empty writes, which code that assigns to slices may leave in a graph. Imports no torch."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

__all__ = ["drop_empty_writes"]


def drop_empty_writes(model: ir.Model) -> int:
    """Remove each ScatterND whose updates have no elements, and what was computed for it alone, in place.

    Such a node returns its data unchanged, but some runtimes refuse it.

    Parameters
    ----------
    model : Model
        Changed in place; its values must have shapes. Only the main graph is searched.

    Returns
    -------
    int
        Number of nodes removed.
    """
    dropped = 0
    for node in model.graph:
        if node.op_type != "ScatterND" or node.domain or node.outputs[0].is_graph_output():
            continue
        data, _, updates = node.inputs
        if data is not None and updates is not None and updates.shape is not None and 0 in updates.shape:
            node.outputs[0].replace_all_uses_with(data)
            dropped += 1
    if dropped:
        RemoveUnusedNodesPass()(model)
    return dropped
