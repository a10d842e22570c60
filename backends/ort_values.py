"""Convert ONNX Runtime values that are not NumPy arrays: sequences, maps, optional values and types NumPy lacks.

Outside this package there are only arrays by name: the elements of a sequence ``x`` are ``x[0]``, ``x[1]``, ...; an
output sequence also has its length under its own name.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backends.base import Array, TensorSpec

__all__ = ["array_of", "arrays_of", "run", "value_of", "values_of"]

_NOT_OF_NUMPY = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e4m3fnuz)": "float8_e4m3fnuz",
    "tensor(float8e5m2)": "float8_e5m2",
    "tensor(float8e5m2fnuz)": "float8_e5m2fnuz",
}
"""Types NumPy lacks: ONNX Runtime's names and those of ml_dtypes."""


def values_of(specs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> dict[str, Any]:
    """Return the values for ``InferenceSession.run``: lists for sequences, None for optional inputs not given.

    Parameters
    ----------
    specs : sequence of TensorSpec
        All inputs.
    feeds : Mapping of str to ndarray
        The arrays of `TensorSpec.entries`.
    """
    values: dict[str, Any] = {}
    for spec in specs:
        arrays = [value_of(feeds[name]) for name in spec.entries(feeds)]
        if spec.kind == "sequence" or (spec.kind == "optional sequence" and arrays):
            values[spec.name] = arrays
        else:
            values[spec.name] = arrays[0] if arrays else None
    return values


def arrays_of(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of an output: the tensor, the length and elements of a sequence, or keys and values of a map.

    Parameters
    ----------
    name : str
        Name of the output.
    value : ndarray, list, dict or None
        As returned by ``InferenceSession.run``; None becomes an empty array.
    """
    if isinstance(value, list):
        yield name, np.array(len(value))
        for index, element in enumerate(value):
            yield from arrays_of(f"{name}[{index}]", element)
    elif isinstance(value, dict):
        for part, listed in (("keys", list(value)), ("values", list(value.values()))):
            array = np.array(listed)
            yield f"{name}.{part}", array.astype(np.object_) if array.dtype.kind == "U" else array
    else:
        yield name, np.empty(0) if value is None else np.array(value)


def value_of(array: Array) -> Any:
    """Return an array as ONNX Runtime accepts it: a type that NumPy lacks needs its ONNX type number."""
    if array.dtype.name not in _NOT_OF_NUMPY.values():
        return array
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), kind)


def array_of(value: Any) -> Array:
    """Copy an ONNX Runtime tensor to an array, including types NumPy lacks, which ONNX Runtime cannot convert."""
    name = _NOT_OF_NUMPY.get(value.data_type())
    if name is None:
        return np.array(value.numpy())
    import ml_dtypes

    kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    shape = tuple(value.shape())
    size = math.prod(shape) * kind.itemsize
    held = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(held, kind).reshape(shape)


def run(session: Any, values: Mapping[str, Any]) -> dict[str, Array]:
    """Run an ``InferenceSession`` on the values from `values_of` and return its outputs as arrays by name."""
    outputs = session.get_outputs()
    if any(output.type in _NOT_OF_NUMPY for output in outputs):
        import onnxruntime

        held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }
        names = [output.name for output in outputs]
        answers = session.run_with_ort_values(names, held)
        return {name: array_of(value) for name, value in zip(names, answers, strict=True)}
    named = zip(outputs, session.run(None, dict(values)), strict=True)
    return {name: array for output, value in named for name, array in arrays_of(output.name, value)}
