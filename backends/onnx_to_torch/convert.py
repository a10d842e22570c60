"""Convert ONNX to ``torch.fx.GraphModule``: generated Python code of plain torch calls, no interpreter at run time.

The published converters do not fit: onnx2torch (last release August 2024) lacks ``ReduceMean`` of opset 18 and ``Gelu``
of opset 20, which current exports have; onnx2pytorch walks the ONNX graph again in each call, which would distort the
measurement.

Sizes are Python integers in the generated code, as they are in a network written by hand: the ``Shape``, ``Gather``,
``Concat`` arithmetic of an export with a free batch becomes ``x.size(0)``, not tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import fx, nn

from backends.errors import ModelLoadError, one_line
from backends.modelfile import node_name
from backends.onnx_to_torch.node import Call, GraphBuilder, Value
from backends.onnx_to_torch.operators import TABLE
from backends.onnx_to_torch.sizes import compute_sizes

if TYPE_CHECKING:
    from backends.modelfile import ModelFile

__all__ = ["convert"]


def convert(file: ModelFile, weights: Mapping[str, np.ndarray], float_type: torch.dtype) -> fx.GraphModule:
    """Convert an ONNX graph to torch code.

    Parameters
    ----------
    file : ModelFile
        The graph.
    weights : Mapping of str to ndarray
        Its initializers.
    float_type : torch.dtype
        Internal type for the file's fp32; inputs and outputs keep the types of the file.

    Returns
    -------
    torch.fx.GraphModule
        Takes the inputs in order, returns the tuple of outputs. Each node has the name of its ONNX node in
        ``meta["onnx"]``.

    Raises
    ------
    ModelLoadError
        An operator, or a way of using it, is not supported; the message names it.
    """
    builder = GraphBuilder(file, float_type)
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
            made.meta["onnx"] = node_name(node)
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
    operator = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    if operator not in TABLE:
        raise ModelLoadError(
            f"{file.path}: the torch backends do not support operator {operator!r} (node {node.name!r})"
        )
    _check_node(node, call.opset, file)
    return TABLE[operator](call)


def _check_node(node: onnx.NodeProto, opset: int, file: ModelFile) -> None:
    """Check a node against ONNX's own schema: required attributes, number of inputs."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = file.proto.ir_version
    context.opset_imports = {"": opset}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        raise ModelLoadError(f"{file.path}: node {node.name!r} is not valid: {one_line(error)}") from error


def _add_biases(graph: fx.Graph, root: nn.Module) -> None:
    """Fuse a linear layer with the bias that ONNX adds in a separate node (``MatMul``, ``Add``)."""
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
