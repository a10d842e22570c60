"""BatchNorm folding on the ONNX graph: what the exporter's own rules leave behind. Knows no torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from deploy.export.onnx_graph import drop_unused, subgraphs

__all__ = ["batch_norms", "fold_batch_norms"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm")
_BATCH_NORM = "BatchNormalization"


def batch_norms(model: onnx.ModelProto) -> tuple[str, ...]:
    """List the names of all BatchNormalization nodes."""
    return tuple(node.name for graph in subgraphs(model.graph) for node in graph.node if node.op_type == _BATCH_NORM)


def fold_batch_norms(model: onnx.ModelProto) -> int:
    """Fold each BatchNormalization that alone follows a Conv, ConvTranspose or Gemm into its weights, in place.

    The exporter's optimiser folds most of them, but not where two layers share one weight: here the folded copy gets
    an initializer of its own. A BatchNormalization behind anything else (pre-activation networks), behind a layer
    whose output is also used elsewhere, or with statistics of the batch itself, is left alone.

    Parameters
    ----------
    model : ModelProto
        Changed in place. Only the main graph is searched.

    Returns
    -------
    int
        How many were folded.

    Notes
    -----
    With ``s = scale / sqrt(var + epsilon)``: ``W' = W * s`` along the output channels,
    ``b' = (b - mean) * s + bias``; computed in float64, stored in the type of the weights.
    """
    folded = 0
    while _fold_one(model.graph):
        folded += 1
    return folded


def _fold_one(graph: onnx.GraphProto) -> bool:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.input:
        constants.pop(value.name, None)
    uses = Counter(name for inner in subgraphs(graph) for node in inner.node for name in node.input)
    uses.update(value.name for inner in subgraphs(graph) for value in inner.output)
    producers = {name: node for node in graph.node for name in node.output}
    for norm in graph.node:
        if norm.op_type != _BATCH_NORM or norm.domain or _attribute(norm, "training_mode", 0):
            continue
        layer = producers.get(norm.input[0])
        if layer is None or layer.op_type not in _LINEAR or layer.domain or uses[norm.input[0]] != 1:
            continue
        parameters = [name for name in (*layer.input[1:], *norm.input[1:]) if name]
        if any(name not in constants for name in parameters):
            continue
        if _rewrite(graph, layer, norm, constants, uses):
            return True
    return False


def _rewrite(
    graph: onnx.GraphProto,
    layer: onnx.NodeProto,
    norm: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    uses: Counter[str],
) -> bool:
    weight = numpy_helper.to_array(constants[layer.input[1]])
    scale, shift, mean, variance = (
        numpy_helper.to_array(constants[name]).astype(np.float64) for name in norm.input[1:5]
    )
    factor = scale / np.sqrt(variance + _attribute(norm, "epsilon", 1e-5))
    has_bias = len(layer.input) > 2 and layer.input[2] != ""
    bias: npt.NDArray[np.float64] = np.zeros_like(mean)
    if has_bias:
        given = numpy_helper.to_array(constants[layer.input[2]]).astype(np.float64).reshape(-1)
        if given.size not in {1, mean.size}:
            return False  # a Gemm may add a whole matrix: that is not a bias
        bias = np.broadcast_to(given, mean.shape) * _attribute(layer, "beta", 1.0)
    new_weight = (weight.astype(np.float64) * _along_outputs(layer, weight, factor)).astype(weight.dtype)
    new_bias = ((bias - mean) * factor + shift).astype(weight.dtype)

    weight_name = _store(graph, layer.input[1], new_weight, constants, replace=uses[layer.input[1]] == 1)
    wanted = layer.input[2] if has_bias else f"{layer.input[1].removesuffix('.weight')}.bias"
    bias_name = _store(graph, wanted, new_bias, constants, replace=has_bias and uses[wanted] == 1)
    kept = [attribute for attribute in layer.attribute if attribute.name != "beta"]
    del layer.attribute[:]
    layer.attribute.extend(kept)
    new_inputs = [layer.input[0], weight_name, bias_name]
    del layer.input[:]
    layer.input.extend(new_inputs)
    layer.output[0] = norm.output[0]
    graph.node.remove(norm)
    drop_unused(graph)
    return True


def _along_outputs(
    layer: onnx.NodeProto, weight: npt.NDArray[np.generic], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shape the per-output-channel `factor` so that it multiplies `weight`."""
    ones = (1,) * (weight.ndim - 2)
    if layer.op_type == "Conv":
        return factor.reshape(-1, 1, *ones)
    if layer.op_type == "Gemm":
        return factor.reshape(-1, 1) if _attribute(layer, "transB", 0) else factor.reshape(1, -1)
    # ConvTranspose: (in, out / groups, *kernel), inputs ordered by group; output channel = group * (out / groups) + j
    groups = int(_attribute(layer, "group", 1))
    return np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0).reshape(*weight.shape[:2], *ones)


def _store(
    graph: onnx.GraphProto,
    wanted: str,
    array: npt.NDArray[np.generic],
    constants: dict[str, onnx.TensorProto],
    *,
    replace: bool,
) -> str:
    """Keep `array` in the initializer `wanted`, or in a new one with a name near to it; return the name."""
    if replace:
        constants[wanted].CopyFrom(numpy_helper.from_array(array, wanted))
        return wanted
    used = {value.name for inner in subgraphs(graph) for value in (*inner.input, *inner.initializer)}
    used |= {name for inner in subgraphs(graph) for node in inner.node for name in node.output}
    name = wanted
    for number in range(len(used)):
        if name not in used:
            break
        name = f"{wanted}.folded_{number}"
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    for attribute in node.attribute:
        if attribute.name == name:
            return float(attribute.f if attribute.type == onnx.AttributeProto.FLOAT else attribute.i)
    return default
