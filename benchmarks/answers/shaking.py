"""A model whose weights are moved by a few roundings: what its answers do then, rounding may do to them as well.

Weights and inputs are multiplied by ``1 + step * u``, with one ``u`` for the whole tensor and one for each element:
neither a mean (which evens the elements out) nor a norm (which a common factor leaves alone) hides it. Numbers that
arithmetic handles without rounding stay: tensors of whole numbers, a single power of two, and what an operator takes
for a size or a bound.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from backends.base import Array
from backends.modelfile import bodies, constants

__all__ = ["shaken", "shaken_model"]

_KEPT = frozenset(
    {"Clip", "ConstantOfShape", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "OneHot", "Pad", "Pow"}
    | {"QuantizeLinear", "Range", "Resize", "Upsample"}
)
"""Operators whose constants are sizes, bounds, exponents or steps of a quantisation."""
_LARGEST = 1e30  # what masks add is no number that is rounded
_INLINE_BYTES = 1_500_000_000


def shaken(array: Array, step: float, rng: np.random.Generator) -> Array:
    """Return an array of real numbers with each moved by up to about ``2 * step`` of itself, any other as it is."""
    if array.dtype.kind not in "fV" or not array.size:
        return array
    values = array.astype(np.float64)
    whole = bool((values == np.rint(values)).all())
    if whole or (array.size == 1 and abs(float(np.frexp(values)[0].item())) == 0.5):
        return array
    common, each = rng.choice((-1.0, 1.0)), rng.uniform(-1.0, 1.0, values.shape)
    moved = values * (1 + step * common) * (1 + step * each)
    return np.where(np.abs(values) < _LARGEST, moved, values).astype(array.dtype)


def shaken_model(model: Path, folder: Path, step: float, rng: np.random.Generator) -> Path:
    """Write a model with its weights moved into `folder`, and return its place.

    Parameters
    ----------
    model : Path
        ONNX file.
    folder : Path
        Empty.
    step : float
        See `shaken`.
    rng : Generator
        Draws the moves.
    """
    import onnx

    proto = onnx.load(model)
    readers: dict[str, set[str]] = defaultdict(set)
    for graph in bodies(proto):
        for node in graph.node:
            for name in node.input:
                readers[name].add(node.op_type)
    for name, tensor in constants(proto):
        if readers[name] and not readers[name] & _KEPT and tensor.data_type in _floats():
            moved = shaken(onnx.numpy_helper.to_array(tensor), step, rng)
            tensor.CopyFrom(onnx.numpy_helper.from_array(moved, tensor.name))
    place = folder / "shaken.onnx"
    onnx.save(proto, place, save_as_external_data=proto.ByteSize() > _INLINE_BYTES)
    return place


def _floats() -> frozenset[int]:
    import onnx

    kinds = onnx.TensorProto
    return frozenset({kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16, kinds.BFLOAT16})
