"""Write the input sizes of one call into a graph, so that all other shapes can be inferred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backends.modelfile import NO_NAMES
from benchmarks.subject.mac_formulas import Shape

if TYPE_CHECKING:
    import onnx

__all__ = ["fix_shapes"]


def fix_shapes(proto: onnx.ModelProto, inputs: Mapping[str, Shape]) -> None:
    """Set the shapes of inputs, in place, and the dimensions of the same names in other tensors.

    Dimensions of other tensors that still have no size are cleared.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    inputs : Mapping of str to tuple of int
        Full shapes.
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
