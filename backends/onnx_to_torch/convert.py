"""ONNX to ``torch.fx.GraphModule``: generated Python code of plain torch calls, no interpreter at run time.

The published converters were weighed first: onnx2torch (last release August 2024) knows no ``ReduceMean`` of opset
18 and no ``Gelu`` of opset 20, which current exports have; onnx2pytorch walks the ONNX graph anew in each call, and
that is what would be measured.

Sizes are Python integers in the generated code, as they are in a network written by hand: the ``Shape``, ``Gather``,
``Concat`` arithmetic of an export with a free batch becomes ``x.size(0)``, not tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from backends.errors import ModelLoadError, one_line
from backends.onnx_to_torch import kernels as kernels

if TYPE_CHECKING:
    import onnx

    from backends.modelfile import ModelFile

__all__ = ["Call", "Int", "Ints", "Value", "convert"]

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
    """One ONNX node while it is converted: its inputs and attributes, and where its code goes."""

    def __init__(self, builder: _Builder, node: onnx.NodeProto) -> None:
        import onnx

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
        self._label = f"{node.op_type} (node {node.name or node.output[0]!r})"

    def refuse(self, what: str) -> ModelLoadError:
        """Make the error for something this converter does not know."""
        return ModelLoadError(f"{self._builder.path}: the torch backends do not know {what} of operator {self._label}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """Give an attribute; text comes as str."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        """Tell whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def emit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Write one call into the graph."""
        return self._builder.graph.call_function(function, args, kwargs)

    def tensor(self, index: int) -> fx.Node:
        """Give an input as a tensor; constants become buffers."""
        value = self.inputs[index]
        assert value is not None
        return self._builder.as_tensor(value, self.input_names[index])

    def optional(self, index: int) -> fx.Node | None:
        """Give an optional input as a tensor."""
        return self.tensor(index) if self.has(index) else None

    def buffer(self, array: np.ndarray, name: str) -> fx.Node:
        """Put a constant that is not in the file into the module."""
        return self._builder.buffer(array, name)

    def constant(self, index: int) -> np.ndarray:
        """Give an input that must be known now.

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
        """Give an input as sizes.

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
        """Give an input as integers known now."""
        return [int(item) for item in np.atleast_1d(self.constant(index))]

    def shape(self, index: int) -> tuple[int | None, ...]:
        """Give the shape of an input, None for a free dimension.

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
        """Give the torch type of an ONNX element type; fp32 becomes the precision asked for."""
        return self._builder.dtype(number)


def as_ints(value: Value | None) -> Ints | None:
    """Take sizes, or a small integer constant, as sizes."""
    if isinstance(value, Ints):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.ndim <= 1 and value.size <= 64:
        return Ints(tuple(int(item) for item in value.reshape(-1)), scalar=value.ndim == 0)
    return None


class _Builder:
    def __init__(self, file: ModelFile, float_type: torch.dtype) -> None:
        import onnx

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
        import onnx

        if number == onnx.TensorProto.FLOAT:
            return self.float_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
        found = getattr(torch, dtype.name, None)
        if not isinstance(found, torch.dtype):
            raise ModelLoadError(f"{self.path}: the torch backends do not know the type {dtype.name}")
        return found

    def buffer(self, array: np.ndarray, name: str) -> fx.Node:
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
        if isinstance(value, np.ndarray):
            return self.buffer(value, name)
        if isinstance(value, Ints):
            return self.graph.call_function(kernels.concat_ints, (list(value.items), value.scalar))
        return value


def convert(file: ModelFile, weights: Mapping[str, np.ndarray], float_type: torch.dtype) -> fx.GraphModule:
    """Write an ONNX graph as torch code.

    Parameters
    ----------
    file : ModelFile
        The graph.
    weights : Mapping of str to ndarray
        Its initializers.
    float_type : torch.dtype
        What fp32 of the file becomes inside; inputs and outputs keep the types of the file.

    Returns
    -------
    torch.fx.GraphModule
        Takes the inputs in their order, returns the tuple of outputs. Each node carries the name of its ONNX node in
        ``meta["onnx"]``.

    Raises
    ------
    ModelLoadError
        An operator, or a way of using it, is not known; the message names it.
    """
    from backends.onnx_to_torch.sizes import compute_sizes

    builder = _Builder(file, float_type)
    builder.values.update(weights)
    for index, info in enumerate(spec for spec in file.proto.graph.input if spec.name not in weights):
        placeholder = builder.graph.placeholder(f"input_{index}")
        lowered = float_type != torch.float32 and file.inputs[index].dtype == "float32"
        value = builder.graph.call_method("to", (placeholder, float_type)) if lowered else placeholder
        builder.values[info.name] = value
    for node in file.proto.graph.node:
        call = Call(builder, node)
        before = len(builder.graph.nodes)
        sizes = compute_sizes(call)
        results = _on_tensors(call, node, file) if sizes is None else sizes
        for made in list(builder.graph.nodes)[before:]:
            made.meta["onnx"] = node.name or node.output[0]
        outputs = results if isinstance(results, tuple) else (results,)
        builder.values.update((name, value) for name, value in zip(node.output, outputs, strict=False) if name)
    returned = []
    for spec in file.outputs:
        if spec.name not in builder.values:
            raise ModelLoadError(f"{file.path}: nothing produces output {spec.name!r}")
        result = builder.as_tensor(builder.values[spec.name], spec.name)
        if float_type != torch.float32 and spec.dtype == "float32":
            result = builder.graph.call_method("to", (result, torch.float32))
        returned.append(result)
    builder.graph.output(tuple(returned))
    _add_biases(builder.graph, builder.root)
    builder.graph.eliminate_dead_code()
    module = fx.GraphModule(builder.root, builder.graph, "OnnxGraph")
    module.delete_all_unused_submodules()
    return module.eval()


def _on_tensors(call: Call, node: onnx.NodeProto, file: ModelFile) -> Value | tuple[Value, ...]:
    from backends.onnx_to_torch.operators import TABLE

    operator = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    if operator not in TABLE:
        raise ModelLoadError(f"{file.path}: the torch backends do not know operator {operator!r} (node {node.name!r})")
    _check_node(node, call.opset, file)
    return TABLE[operator](call)


def _check_node(node: onnx.NodeProto, opset: int, file: ModelFile) -> None:
    """Hold a node against ONNX's own schema: required attributes, number of inputs."""
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = file.proto.ir_version
    context.opset_imports = {"": opset}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        raise ModelLoadError(f"{file.path}: node {node.name!r} is not valid: {one_line(error)}") from error


def _add_biases(graph: fx.Graph, root: nn.Module) -> None:
    """Join a linear layer with the bias that ONNX adds in a node of its own (``MatMul``, ``Add``)."""
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not torch.add:
            continue
        for product, bias in (node.args, node.args[::-1]):
            if (
                isinstance(product, fx.Node)
                and product.target is F.linear
                and product.args[2] is None
                and len(product.users) == 1
                and isinstance(bias, fx.Node)
                and _buffer_shape(root, bias) == _buffer_shape(root, product.args[1])[:1]
            ):
                with graph.inserting_before(node):
                    joined = graph.call_function(F.linear, (product.args[0], product.args[1], bias))
                joined.meta.update(product.meta)
                node.replace_all_uses_with(joined)
                graph.erase_node(node)
                graph.erase_node(product)
                break


def _buffer_shape(root: nn.Module, node: object) -> tuple[int, ...]:
    if isinstance(node, fx.Node) and node.op == "get_attr":
        return tuple(root.get_buffer(str(node.target)).shape)
    return (-1, -1)
