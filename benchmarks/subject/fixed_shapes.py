"""The sizes of one call written into a graph, so that all others can be inferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backends.modelfile import NO_NAMES
from benchmarks.subject.mac_formulas import Shape

if TYPE_CHECKING:
    import onnx

__all__ = ["fix_shapes"]


def fix_shapes(proto: onnx.ModelProto, inputs: Mapping[str, Shape]) -> None:
    """Set the shapes of inputs, in place, and what follows from their names for other tensors.

    What the file says of the size of a tensor inside may name a free dimension that has no size, and is dropped then.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    inputs : Mapping of str to tuple of int
        Whole shapes.
    """
    known: dict[str, int] = {}
    for info in proto.graph.input:
        shape = inputs.get(info.name, ())
        dimensions = info.type.tensor_type.shape.dim
        if info.name in inputs and not info.type.tensor_type.HasField("shape"):
            info.type.tensor_type.shape.SetInParent()
            for _ in shape:
                dimensions.add()
        for dimension, size in zip(dimensions, shape, strict=False):
            if dimension.dim_param.strip() not in NO_NAMES:
                known[dimension.dim_param] = size
            dimension.dim_value = size
    for info in (*proto.graph.value_info, *proto.graph.output):
        for dimension in info.type.tensor_type.shape.dim:
            if dimension.dim_param in known:
                dimension.dim_value = known[dimension.dim_param]
            elif not dimension.HasField("dim_value") or dimension.dim_value < 0:
                dimension.Clear()
