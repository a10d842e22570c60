"""Fold the BatchNorms that the exporter's own rules leave unfolded. Imports no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from backends.modelfile import subgraphs

__all__ = ["batch_norms", "fold_batch_norms"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm")
_BATCH_NORM = "BatchNormalization"


def batch_norms(model: onnx.ModelProto) -> tuple[str, ...]:
    """List the names of all BatchNormalization nodes."""
    return tuple(node.name for graph in subgraphs(model.graph) for node in graph.node if node.op_type == _BATCH_NORM)


def fold_batch_norms(model: ir.Model) -> int:
    """Fold each BatchNormalization that is the only consumer of a Conv, ConvTranspose or Gemm into its weights.

    The exporter's optimiser folds most of them, but not where two layers share one weight: here the folded copy gets
    its own initializer. A BatchNormalization after anything else (pre-activation networks), after a layer whose
    output is also used elsewhere, or with the statistics of the batch itself, stays unchanged.

    Parameters
    ----------
    model : Model
        Changed in place. Only the main graph is searched.

    Returns
    -------
    int
        Number of nodes folded.

    Notes
    -----
    With ``s = scale / sqrt(var + epsilon)``: ``W' = W * s`` along the output channels,
    ``b' = (b - mean) * s + bias``; computed in float64, stored in the type of the weights.
    """
    folded = sum(_fold(model.graph, node) for node in tuple(model.graph) if node.op_type == _BATCH_NORM)
    if folded:
        RemoveUnusedNodesPass()(model)
    return folded


def _fold(graph: ir.Graph, norm: ir.Node) -> bool:
    between = norm.inputs[0]
    layer = None if between is None else between.producer()
    training = norm.attributes.get_int("training_mode", 0)
    if between is None or layer is None or norm.domain or training:
        return False
    if layer.op_type not in _LINEAR or layer.domain or len(between.uses()) != 1 or between.is_graph_output():
        return False
    parameters = [value for value in (*layer.inputs[1:], *norm.inputs[1:]) if value is not None]
    if any(value.const_value is None or not value.is_initializer() or value.is_graph_input() for value in parameters):
        return False
    weight, bias = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
    assert weight is not None  # a required input of these operators
    kernel = _array(weight)
    scale, shift, mean, variance = (_array(value).astype(np.float64) for value in norm.inputs[1:5])
    factor = scale / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    start: npt.NDArray[np.float64] = np.zeros_like(mean)
    if bias is not None:
        given = _array(bias).astype(np.float64).reshape(-1)
        if given.size not in {1, mean.size}:
            return False  # a Gemm may add a whole matrix, which is not a bias
        start = np.broadcast_to(given, mean.shape) * layer.attributes.get_float("beta", 1.0)
    new_kernel = (kernel.astype(np.float64) * _along_outputs(layer, kernel, factor)).astype(kernel.dtype)
    new_bias = ((start - mean) * factor + shift).astype(kernel.dtype)

    layer.replace_input_with(1, _store(graph, weight, str(weight.name), new_kernel))
    layer.resize_inputs(3)
    layer.replace_input_with(2, _store(graph, bias, f"{str(weight.name).removesuffix('.weight')}.bias", new_bias))
    layer.attributes.pop("beta", None)
    result = norm.outputs[0]
    between.name, between.type, between.shape = result.name, result.type, result.shape
    result.replace_all_uses_with(between, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    return True


def _array(value: ir.Value | None) -> npt.NDArray[np.generic]:
    assert value is not None
    assert value.const_value is not None
    array: npt.NDArray[np.generic] = value.const_value.numpy()
    return array


def _along_outputs(
    layer: ir.Node, weight: npt.NDArray[np.generic], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Reshape the per-output-channel `factor` so that it broadcasts against `weight`."""
    ones = (1,) * (weight.ndim - 2)
    if layer.op_type == "Conv":
        return factor.reshape(-1, 1, *ones)
    if layer.op_type == "Gemm":
        return factor.reshape(-1, 1) if layer.attributes.get_int("transB", 0) else factor.reshape(1, -1)
    # ConvTranspose: (in, out / groups, *kernel), inputs ordered by group; output channel = group * (out / groups) + j
    groups = layer.attributes.get_int("group", 1)
    return np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0).reshape(*weight.shape[:2], *ones)


def _store(graph: ir.Graph, old: ir.Value | None, wanted: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Store `array` in the initializer `old` if only this layer reads it, else in a new one with a similar name."""
    name = wanted if old is None else str(old.name)
    if old is not None and len(old.uses()) == 1:
        old.const_value = ir.tensor(array, name=name)
        old.shape = ir.Shape(array.shape)
        return old
    used = {value.name for node in graph.all_nodes() for value in (*node.inputs, *node.outputs) if value is not None}
    used |= {value.name for value in (*graph.inputs, *graph.initializers.values())}
    free = next(each for each in (name, *(f"{name}.folded_{n}" for n in range(len(used)))) if each not in used)
    tensor = ir.tensor(array, name=free)
    value = ir.Value(name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
