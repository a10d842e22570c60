"""One ONNX node during conversion (`Call`) and the torch graph being built (`GraphBuilder`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import torch
from torch import fx, nn

from backends.errors import ModelLoadError
from backends.modelfile import node_name
from backends.onnx_to_torch import kernels

if TYPE_CHECKING:
    from backends.modelfile import ModelFile

__all__ = ["OLDEST_OPSET", "Call", "GraphBuilder", "Int", "Ints", "Value", "as_ints"]

OLDEST_OPSET = 13

Int: TypeAlias = int | fx.Node


@dataclass(frozen=True)
class Ints:
    """Sizes: a scalar or a vector of Python integers, some of them known only at run time."""

    items: tuple[Int, ...]
    scalar: bool = False


Value: TypeAlias = fx.Node | np.ndarray | Ints
"""A tensor of the graph, a constant, or sizes."""


class Call:
    """One ONNX node during conversion: its inputs and attributes, and the graph its code is written to."""

    def __init__(self, builder: GraphBuilder, node: onnx.NodeProto) -> None:
        self._builder = builder
        self.op = node.op_type
        self.opset = builder.opset
        for name in node.input:
            if name and name not in builder.values:
                raise ModelLoadError(f"{builder.path}: node {node.name!r} reads {name!r}, which nothing produces")
        self.inputs = [builder.values[name] if name else None for name in node.input]
        self.input_names = list(node.input)
        self.n_outputs = sum(bool(name) for name in node.output)
        self.attributes: dict[str, Any] = {
            item.name: onnx.helper.get_attribute_value(item) for item in node.attribute if not item.ref_attr_name
        }
        self._label = f"{node.op_type} (node {node_name(node)!r})"

    def refuse(self, what: str) -> ModelLoadError:
        """Return the error for something this converter does not support."""
        path = self._builder.path
        return ModelLoadError(f"{path}: the torch backends do not support {what} of operator {self._label}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, decoded if it is text."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        """Return whether an optional input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def emit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Write one call into the graph."""
        return self._builder.graph.call_function(function, args, kwargs)

    def tensor(self, index: int) -> fx.Node:
        """Return an input as a tensor; constants become buffers."""
        value = self.inputs[index]
        assert value is not None
        return self._builder.as_tensor(value, self.input_names[index])

    def optional(self, index: int) -> fx.Node | None:
        """Return an optional input as a tensor, None if it is absent."""
        return self.tensor(index) if self.has(index) else None

    def buffer(self, array: np.ndarray, name: str) -> fx.Node:
        """Add a constant that is not in the file to the module."""
        return self._builder.buffer(array, name)

    def constant(self, index: int) -> np.ndarray:
        """Return an input that must be known at conversion time.

        Raises
        ------
        ModelLoadError
            It is computed at run time.
        """
        value = self.inputs[index]
        if isinstance(value, Ints) and all(isinstance(item, int) for item in value.items):
            return np.array(value.items[0] if value.scalar else value.items, np.int64)
        if not isinstance(value, np.ndarray):
            raise self.refuse(f"a computed input {index}")
        return value

    def ints(self, index: int) -> list[Int]:
        """Return an input as sizes.

        Raises
        ------
        ModelLoadError
            It is a tensor computed from data.
        """
        sizes = as_ints(self.inputs[index])
        if sizes is None:
            raise self.refuse(f"an input {index} computed from data")
        return list(sizes.items)

    def static(self, index: int) -> list[int]:
        """Return an input as integers known at conversion time.

        Raises
        ------
        ModelLoadError
            It is computed at run time.
        """
        return [int(item) for item in np.atleast_1d(self.constant(index))]

    def shape(self, index: int) -> tuple[int | None, ...]:
        """Return the shape of an input, None for a free dimension.

        Raises
        ------
        ModelLoadError
            Shape inference does not find the rank.
        """
        value = self.inputs[index]
        if isinstance(value, np.ndarray):
            return value.shape
        if isinstance(value, Ints):
            return () if value.scalar else (len(value.items),)
        shape = self._builder.shapes.get(self.input_names[index])
        if shape is None:
            raise self.refuse("an input of unknown rank")
        return shape

    def dtype(self, number: int) -> torch.dtype:
        """Return the torch type of an ONNX element type; fp32 becomes the precision asked for."""
        return self._builder.dtype(number)


def as_ints(value: Value | None) -> Ints | None:
    """Return sizes or a small integer constant as sizes, None for anything else."""
    if isinstance(value, Ints):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim <= 1 and value.size <= 64:
        return Ints(tuple(int(item) for item in value.reshape(-1)), scalar=value.ndim == 0)
    return None


class GraphBuilder:
    """The torch graph being built: the value of each ONNX name, the constants as buffers.

    Parameters
    ----------
    file : ModelFile
        The graph to convert.
    float_type : torch.dtype
        Internal type for the file's fp32.

    Raises
    ------
    ModelLoadError
        The file's opset is older than `OLDEST_OPSET`, or its shapes cannot be inferred.
    """

    def __init__(self, file: ModelFile, float_type: torch.dtype) -> None:
        self.path = file.path
        self.float_type = float_type
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, Value] = {}
        self._buffers: dict[str, fx.Node] = {}
        self.opset = next((item.version for item in file.proto.opset_import if item.domain in ("", "ai.onnx")), 0)
        if self.opset < OLDEST_OPSET:
            raise ModelLoadError(
                f"{self.path} is of opset {self.opset}; the torch backends read {OLDEST_OPSET} and later: "
                "convert it with onnx.version_converter"
            )
        try:
            inferred = onnx.shape_inference.infer_shapes(file.proto, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            raise ModelLoadError(f"{self.path}: shapes cannot be inferred: {error}") from error
        self.shapes = {
            info.name: tuple(
                item.dim_value if item.HasField("dim_value") else None for item in info.type.tensor_type.shape.dim
            )
            for info in (*inferred.value_info, *inferred.input, *inferred.output)
            if info.type.tensor_type.HasField("shape")
        }

    def dtype(self, number: int) -> torch.dtype:
        """Return the torch type of an ONNX element type; fp32 becomes the precision asked for."""
        if number == onnx.TensorProto.FLOAT:
            return self.float_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
        torch_type = getattr(torch, dtype.name, None)
        if not isinstance(torch_type, torch.dtype):
            raise ModelLoadError(f"{self.path}: the torch backends do not support the type {dtype.name}")
        return torch_type

    def buffer(self, array: np.ndarray, name: str) -> fx.Node:
        """Register a constant under its ONNX name, once, and return the node that reads it."""
        if name not in self._buffers:
            stem = re.sub(r"\W", "_", name)
            attribute = f"w_{len(self._buffers)}_{stem}"
            self.root.register_buffer(attribute, self._torch(array))
            self._buffers[name] = self.graph.get_attr(attribute)
        return self._buffers[name]

    def _torch(self, array: np.ndarray) -> torch.Tensor:
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        tensor = torch.from_numpy(np.array(array, order="C"))
        return tensor.to(self.float_type) if tensor.dtype == torch.float32 else tensor

    def as_tensor(self, value: Value, name: str) -> fx.Node:
        """Return a value as a tensor: constants become buffers, sizes an int64 tensor."""
        if isinstance(value, np.ndarray):
            return self.buffer(value, name)
        if isinstance(value, Ints):
            return self.graph.call_function(kernels.concat_ints, (list(value.items), value.scalar))
        return value
