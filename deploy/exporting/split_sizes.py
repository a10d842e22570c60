"""The sizes of equal splits, written out: a network whose halves are pruned apart is then exported with the same nodes.

Knows no torch.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["write_split_sizes"]


def write_split_sizes(model: ir.Model) -> int:
    """Give each Split into a number of equal parts the sizes of its parts, in place, where they are known.

    Parameters
    ----------
    model : Model
        Changed in place; its values know their shapes. Only the main graph is searched.

    Returns
    -------
    int
        How many were given them.
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
