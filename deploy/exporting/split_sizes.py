"""Write out the sizes of equal splits, so that a network with halves pruned differently exports to the same nodes.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["write_split_sizes"]


def write_split_sizes(model: ir.Model) -> int:
    """Replace the number of parts of each equal Split by the sizes of the parts, in place, where they are known.

    Parameters
    ----------
    model : Model
        Changed in place; its values must have shapes. Only the main graph is searched.

    Returns
    -------
    int
        Number of nodes changed.
    """
    written = 0
    for node in model.graph:
        if node.op_type != "Split" or node.domain or "num_outputs" not in node.attributes:
            continue
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        shapes = [output.shape for output in node.outputs]
        sizes = [size for shape in shapes if shape is not None and isinstance(size := shape[axis], int)]
        if len(sizes) < len(shapes):
            continue
        tensor = ir.tensor(np.array(sizes, np.int64), name=f"{node.outputs[0].name}.sizes")
        value = ir.Value(
            name=tensor.name, shape=ir.Shape([len(sizes)]), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        model.graph.register_initializer(value)
        del node.attributes["num_outputs"]
        node.resize_inputs(2)
        node.replace_input_with(1, value)
        written += 1
    return written
