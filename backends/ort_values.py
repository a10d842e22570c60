"""What ONNX Runtime takes and gives beside tensors: sequences, maps, and what is optional.

Outside of this package there are only arrays by name: the elements of a sequence ``x`` are ``x[0]``, ``x[1]``, ...; an
output that is one has its length under its own name as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from backends.base import Array, TensorSpec

__all__ = ["arrays_of", "values_of"]


def values_of(specs: Sequence[TensorSpec], feeds: Mapping[str, Array]) -> dict[str, Any]:
    """Return what ``InferenceSession.run`` takes: lists for sequences, None for what is optional and not given.

    Parameters
    ----------
    specs : sequence of TensorSpec
        All inputs.
    feeds : Mapping of str to ndarray
        The arrays of `TensorSpec.entries`.
    """
    values: dict[str, Any] = {}
    for spec in specs:
        arrays = [_fed(feeds[name]) for name in spec.entries(feeds)]
        if spec.kind == "sequence" or (spec.kind == "optional sequence" and arrays):
            values[spec.name] = arrays
        else:
            values[spec.name] = arrays[0] if arrays else None
    return values


def arrays_of(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of an output: its own, or length and elements of a sequence, or keys and values of a map.

    Parameters
    ----------
    name : str
        Of the output.
    value : ndarray, list, dict or None
        As ``InferenceSession.run`` returns it; None is an empty array.
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


def _fed(array: Array) -> Any:
    """Return what ONNX Runtime takes for an array: bfloat16, which NumPy lacks, needs its ONNX name."""
    if array.dtype.name != "bfloat16":
        return array
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, kind)
