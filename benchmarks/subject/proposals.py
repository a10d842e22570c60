"""Propose sizes for free dimensions, only for the message that asks the user for them: never used on their own.

``python -m benchmarks.subject.proposals`` is a separate process: only a run shows whether a model accepts a size, and
the parent process holds no runtime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backends import modelfile
from backends.base import Array, TensorSpec
from backends.errors import ModelLoadError
from backends.modelfile import bodies, constants, fixed_shape
from backends.ort_errors import cause, failures
from backends.ort_values import values_of
from benchmarks.errors import WorkerError
from benchmarks.process.channel import Message
from benchmarks.process.child import Conversation
from benchmarks.process.serving import serve_parent
from benchmarks.subject.fixed_shapes import fix_shapes

if TYPE_CHECKING:
    import onnx

__all__ = ["main", "proposed_sizes"]

_PICTURES = (224, 48, 64, 32, 96, 112, 128, 160, 192, 256, 299, 320, 384, 416, 512, 640)
_SERIES = (128, 16, 64, 256, 512, 1)
_MOST_OF_ITS_OWN = 12
_MOST_TRIALS, _MOST_NODES = 300, 40_000
_RANK_OF_A_MAP, _MOST_AXES = 3, 8


def proposed_sizes(
    model: Path, specs: Sequence[TensorSpec], known: Mapping[str, int], *, timeout_s: float = 30.0
) -> dict[str, int]:
    """Return a size for each free dimension that lacks one, such that ONNX Runtime runs the model.

    Tried first are sizes of another input at the same axis, then usual sizes of pictures and series, then sizes of the
    model's own weights.

    Parameters
    ----------
    model : Path
        ONNX file.
    specs : sequence of TensorSpec
        Its inputs.
    known : Mapping of str to int
        Sizes already decided.
    timeout_s : float, default=30.0
        Seconds after which the search is given up.

    Returns
    -------
    dict of str to int
        Empty if none was found.
    """
    question = {"model": str(model.resolve()), "specs": [asdict(spec) for spec in specs], "known": dict(known)}
    try:
        with Conversation(["-m", __name__], who="ONNX Runtime", timeout_s=timeout_s) as process:
            sizes: dict[str, int] = process.ask("propose", question)[0]["sizes"]
    except WorkerError:
        return {}
    return sizes


def main() -> None:
    """Serve the parent process."""
    serve_parent({"propose": _propose})


def _propose(question: Message, _: dict[str, Array]) -> tuple[Message, dict[str, Array]]:
    specs = tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in question["specs"])
    model, known = Path(question["model"]), question["known"]
    file = modelfile.read(model)
    proto, serialised = file.proto, file.proto.SerializeToString()
    session = _session(model)
    trials = min(_MOST_TRIALS, 1 + _MOST_NODES // max(1, len(proto.graph.node)))
    for chosen in islice(_choices(proto, specs, known), trials):
        sizes = {**known, **chosen}
        shapes = {
            spec.name: tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape) for spec in specs
        }
        if _agree(serialised, shapes) and _runs(session, file.inputs, specs, shapes):
            return {"sizes": chosen}, {}
    return {"sizes": {}}, {}


def _choices(proto: onnx.ModelProto, specs: Sequence[TensorSpec], known: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield the first candidate of each dimension, then the same size for all, then every combination."""
    free = {size: spec for spec in specs for size in spec.shape if isinstance(size, str) and size not in known}
    own = sorted({size for size in _sizes_in(proto) if size > 1})
    candidates = []
    for name, spec in free.items():
        axis = spec.shape.index(name)
        rest = (*spec.shape[:axis], *spec.shape[axis + 1 :])
        siblings = [
            other.shape[axis]
            for other in specs
            if len(other.shape) == len(spec.shape) and (*other.shape[:axis], *other.shape[axis + 1 :]) == rest
        ]
        fixed = [size for size in siblings if isinstance(size, int) and size > 0]
        # The state of a recurrent layer: layers, batch, units.
        state = [1] if axis == 1 and isinstance(spec.shape[0], int) and len(spec.shape) == 3 else []
        usual = _PICTURES if len(spec.shape) == 4 else _SERIES
        candidates.append(list(dict.fromkeys([*fixed, *state, *usual, *own[:_MOST_OF_ITS_OWN]])))
    yield dict(zip(free, (each[0] for each in candidates), strict=True))
    for size in candidates[0]:
        yield dict.fromkeys(free, size)
    for sizes in product(*candidates):
        yield dict(zip(free, sizes, strict=True))


def _sizes_in(proto: onnx.ModelProto) -> Iterator[int]:
    """Yield the sizes that occur in a model: of kernels and weights, and in shape constants."""
    import onnx

    for graph in bodies(proto):
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "kernel_shape":
                    yield from attribute.ints
    for _, tensor in constants(proto):
        yield from tensor.dims
        is_shape = tensor.data_type == onnx.TensorProto.INT64 and tensor.data_location != onnx.TensorProto.EXTERNAL
        if is_shape and len(tensor.dims) == 1 and tensor.dims[0] <= _MOST_AXES:
            yield from onnx.numpy_helper.to_array(tensor).tolist()


def _agree(serialised: bytes, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether shape inference succeeds and no feature map is empty."""
    import onnx

    proto = onnx.ModelProto.FromString(serialised)
    fix_shapes(proto, shapes)
    try:
        graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return False
    found = (fixed_shape(info) for info in (*graph.value_info, *graph.output))
    return all(len(shape) < _RANK_OF_A_MAP or min(shape) > 0 for shape in found if shape is not None)


def _session(model: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except failures() as error:
        raise ModelLoadError(f"onnxruntime: {cause(error)}") from error


def _runs(
    session: Any, inputs: Sequence[TensorSpec], specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    feeds = {
        spec.name: np.full(shapes[spec.name], "a" if spec.dtype == "object" else 1, np.dtype(spec.dtype))
        for spec in specs
    }
    try:
        session.run(None, values_of(inputs, feeds))
    except failures():
        return False
    return True


if __name__ == "__main__":
    main()
