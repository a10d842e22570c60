"""Perturb a model by a few roundings: rounding may change its answers as much as that does.

Weights and inputs are multiplied by ``1 + step * u``, with one ``u`` for the whole tensor and one for each element:
neither a mean (which averages the elements out) nor a norm (which ignores a common factor) hides it. Numbers that
arithmetic handles without rounding stay: tensors of whole numbers, a single power of two, and sizes or bounds of
operators.

Layer results are perturbed as well (by `moved_inside`), because perturbed weights and inputs do not reveal every
difference of nearly equal values: ``sin(x)**2 + cos(x)**2 - 1`` is nothing but rounding for any ``x``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backends.base import Array
from backends.modelfile import bodies, constants
from benchmarks.subject.cost import floating_types
from benchmarks.subject.executions import flattened

if TYPE_CHECKING:
    import onnx

__all__ = ["moved_inside", "shaken", "shaken_model"]

_KEPT = frozenset(
    {"Clip", "ConstantOfShape", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "OneHot", "Pad", "Pow"}
    | {"QuantizeLinear", "Range", "Resize", "Upsample"}
)
"""Operators whose constants are bounds, exponents, quantisation steps or sizes."""
_SIZES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
"""Inputs of an operator that are sizes or positions; they may be computed, even in floating point."""
_NO_SIZE = frozenset({"Conv", "ConvTranspose", "GRU", "Gemm", "LSTM", "MatMul", "RNN", "Shape", "Size"})
"""Operators whose inputs are not sizes, even if their outputs become sizes."""
_EXACT = frozenset(
    {"Abs", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout"}
    | {"Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity"}
    | {"Max", "MaxPool", "Min", "Neg", "OneHot", "OptionalGetElement", "Pad", "Range", "ReduceMax", "ReduceMin"}
    | {"Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "SequenceAt", "Shape", "Sign", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where"}
)
"""Operators that do not round."""
_WINDOWS = frozenset({"BlackmanWindow", "HammingWindow", "HannWindow"})
"""Operators that add up cosines to values between 0 and 1, all with the rounding of 1."""
_LARGEST = 1e30  # mask values are not rounded numbers
_INLINE_BYTES = 1_500_000_000
_LEAST_OPSET = 11
"""First opset in which the inserted operators accept floating-point values."""


def shaken(array: Array, step: float, rng: np.random.Generator) -> Array:
    """Return a real array with each number moved by up to about ``2 * step`` of itself, any other array unchanged."""
    if array.dtype.kind not in "fV" or not array.size:
        return array
    values = array.astype(np.float64)
    whole = bool((values == np.rint(values)).all())
    if whole or (array.size == 1 and abs(float(np.frexp(values)[0].item())) == 0.5):
        return array
    common, each = rng.choice((-1.0, 1.0)), rng.uniform(-1.0, 1.0, values.shape)
    moved = values * (1 + step * common) * (1 + step * each)
    return np.where(np.abs(values) < _LARGEST, moved, values).astype(array.dtype)


def shaken_model(model: Path, folder: Path, step: float, rng: np.random.Generator, *, inside: float = 0.0) -> Path:
    """Write a model with perturbed weights into `folder` and return its path.

    Parameters
    ----------
    model : Path
        ONNX file.
    folder : Path
        Empty folder.
    step : float
        See `shaken`.
    rng : Generator
        Draws the perturbations.
    inside : float, default=0.0
        Largest relative perturbation of layer results, see `moved_inside`; 0: none.
    """
    import onnx

    proto = onnx.load(model)
    readers, sizes = _readers(proto), _sizes(proto)
    for name, tensor in constants(proto):
        by = {operator for operator, _ in readers[name]}
        if by and not by & _KEPT and name not in sizes and tensor.data_type in floating_types():
            moved = shaken(onnx.numpy_helper.to_array(tensor), step, rng)
            tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
    if inside:
        proto = moved_inside(proto, inside, rng)
    place = folder / "shaken.onnx"
    onnx.save(proto, place, save_as_external_data=proto.ByteSize() > _INLINE_BYTES)
    return place


def moved_inside(proto: onnx.ModelProto, step: float, rng: np.random.Generator) -> onnx.ModelProto:
    """Return a model in which each value that a node of its graph rounds is moved by up to `step` of itself.

    Whole numbers stay, because they come out exact; so do sizes and bounds of operators, values computed in the bodies
    of control flow, and values of unknown type. Windows, which lie between 0 and 1, are moved by up to `step`.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model; with an opset older than 11 it is returned unchanged.
    step : float
        For example 4 roundings: 2 ** -22 in fp32.
    rng : Generator
        Draws the seeds; the model itself draws the perturbations.
    """
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        return proto
    proto = flattened(proto)
    kinds = _types(proto)
    readers, sizes = _readers(proto), _sizes(proto)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        proto.graph.node.append(node)
        placed = proto.graph.node[-1]
        for position, name in enumerate(node.output):
            is_bound = name in sizes or any(by in _KEPT and at for by, at in readers[name])
            if node.op_type not in _EXACT and kinds.get(name) in floating_types() and not is_bound:
                raw = placed.output[position] = f"{name}:as computed"
                seed = float(rng.integers(1 << 20))
                proto.graph.node.extend(_moving(raw, name, kinds[name], step, seed, around=node.op_type in _WINDOWS))
    return proto


def _moving(raw: str, name: str, kind: int, step: float, seed: float, *, around: bool) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that compute `name` from `raw`."""
    import onnx

    node, kinds = onnx.helper.make_node, onnx.TensorProto
    narrow = kind not in (kinds.FLOAT, kinds.DOUBLE)
    wide, moved = (f"{name}:wide", f"{name}:moved") if narrow else (raw, name)
    share, drawn, by, up = (f"{name}:{part}" for part in ("share", "drawn", "by", "up"))
    if narrow:
        yield node("Cast", [raw], [wide], to=kinds.FLOAT)
    step_of_type = onnx.helper.make_tensor(share, kinds.FLOAT if narrow else kind, (), [step])
    yield node("Constant", [], [share], value=step_of_type)
    yield node("RandomUniformLike", [wide], [drawn], low=-1.0, high=1.0, seed=seed)
    yield node("Mul", [drawn, share], [by])
    if around:
        yield node("Add", [wide, by], [moved])
    else:
        yield node("Mul", [wide, by], [up])
        yield node("Add", [wide, up], [f"{name}:sum"])
        yield node("Round", [wide], [f"{name}:whole"])
        yield node("Equal", [wide, f"{name}:whole"], [f"{name}:is whole"])
        yield node("Where", [f"{name}:is whole", wide, f"{name}:sum"], [moved])
    if narrow:
        yield node("Cast", [moved], [name], to=kind)


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the known types of the values of a graph, without copying its weights."""
    import onnx

    whole = proto.graph
    held = [onnx.TensorProto(name=one.name, dims=one.dims, data_type=one.data_type) for one in whole.initializer]
    light = onnx.helper.make_graph(whole.node, "light", whole.input, whole.output, value_info=whole.value_info)
    light.initializer.extend(
        one if of.data_type in floating_types() else of for one, of in zip(held, whole.initializer, strict=True)
    )
    try:
        without = onnx.helper.make_model(light, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        graph = onnx.shape_inference.infer_shapes(without).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        graph = whole
    return {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output)}


def _readers(proto: onnx.ModelProto) -> dict[str, set[tuple[str, int]]]:
    """Return for each value the operators that read it, and as which input."""
    readers: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for graph in bodies(proto):
        for node in graph.node:
            for position, name in enumerate(node.input):
                readers[name].add((node.op_type, position))
    return readers


def _sizes(proto: onnx.ModelProto) -> set[str]:
    """Return the values that sizes are computed from."""
    nodes = [node for graph in bodies(proto) for node in graph.node]
    made_by = {name: node for node in nodes for name in node.output}
    open_ = [node.input[at] for node in nodes for at in _SIZES.get(node.op_type, ()) if at < len(node.input)]
    found: set[str] = set()
    while open_:
        name = open_.pop()
        if name and name not in found:
            found.add(name)
            node = made_by.get(name)
            open_ += node.input if node is not None and node.op_type not in _NO_SIZE else ()
    return found
