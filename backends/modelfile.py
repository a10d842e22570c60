"""Read an ONNX file without its weights: graph, inputs, outputs and precision.

The measured process reads its model with this module, so it must not disturb the measurement: the file is mapped, and
the bytes of large initializers are skipped, neither copied nor touched. Anything wrong with the file itself (truncated,
external data not where it says) is found here once, with the same message for every backend.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from backends.base import Array, Precision, TensorSpec
from backends.errors import ModelLoadError, OptionError, one_line, shortened
from backends.precision import precision_of
from backends.reading.bounds import broken_rule, held_tensors, inner_graphs, subgraphs
from backends.reading.files import require_regular
from backends.records import Kind

if TYPE_CHECKING:
    import onnx

__all__ = [
    "NO_NAMES",
    "ModelFile",
    "bodies",
    "constants",
    "external_files",
    "fixed_shape",
    "initializers",
    "node_name",
    "read",
    "require_numbers",
    "require_typed",
    "subgraphs",
]

_AROUND = {"sequence_type": "sequence", "optional_type": "optional"}
"""Protobuf types of values that contain other values, and their names."""

_KEPT_BYTES = 4096
"""Initializers up to this size keep their data: shapes and axes are among them."""

NO_NAMES = frozenset({"", "?", "-1", "None"})
"""What exporters write for a free dimension without a name: each such dimension is independent."""

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_DATA = frozenset({4, 5, 6, 7, 9, 10, 11})


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """An ONNX file without the data of its large initializers.

    Parameters
    ----------
    path : Path
        The file.
    proto : onnx.ModelProto
        Everything except the bytes of initializers larger than a few kilobytes.
    inputs, outputs : tuple of TensorSpec
        A free dimension has its name from the file; one without a name is named after its tensor and axis. An output
        of which only the type is known has one free dimension.
    """

    path: Path
    proto: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def precision(self) -> Precision:
        """Precision the file asks for, see `backends.precision.precision_of`."""
        return precision_of(self.proto.graph)


def require_numbers(file: ModelFile, backend: str) -> None:
    """Reject a model with text, sequence or optional inputs or outputs, for backends that do not support them.

    Raises
    ------
    ModelLoadError
        The model has one.
    """
    for spec in (*file.inputs, *file.outputs):
        if spec.dtype == "object":
            raise ModelLoadError(f"{file.path}: {spec.name!r} is text, which backend {backend!r} does not take")
        if spec.kind != "tensor":
            raise ModelLoadError(
                f"{file.path}: {spec.name!r} is not a tensor ({spec}), which backend {backend!r} needs"
            )


def require_typed(file: ModelFile, precision: Precision, backend: str) -> None:
    """Reject a precision other than the file's, for backends that compute in the types of the file.

    Raises
    ------
    OptionError
        The precisions differ.
    """
    if file.precision != precision:
        raise OptionError(
            f"backend {backend!r} computes in the types of the file: {file.path} is {file.precision}, {precision} was "
            f"asked for; export the model in {precision}, or pass --precision {file.precision}"
        )


def read(path: Path) -> ModelFile:
    """Read an ONNX file without its weights.

    Raises
    ------
    ModelLoadError
        The file is missing, truncated or not ONNX; external data is missing, outside the model's folder or too short;
        an input is a map or sparse.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        if not require_regular(path):
            raise ModelLoadError(f"{path} is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            skeleton = _without(data, 0, len(data), _MODEL_GRAPH, _graph_without_data)
        proto = onnx.ModelProto.FromString(skeleton)
    except FileNotFoundError as error:
        raise ModelLoadError(f"{path}: no such file") from error
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, DecodeError) as error:
        raise ModelLoadError(f"{path} is truncated or not an ONNX file: {one_line(error)}") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelLoadError(f"{path} is truncated or not an ONNX file: it holds no graph")
    if not proto.graph.output:
        raise ModelLoadError(f"{path} has no outputs, so nothing is computed: export it with its outputs")
    if (broken := broken_rule(proto)) is not None:
        raise ModelLoadError(f"{path} {broken}")
    _check_external_data(proto, path)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    inputs = [info for info in proto.graph.input if info.name not in initializers]
    outputs = list(proto.graph.output)
    if not all(info.type.tensor_type.HasField("shape") for info in outputs):
        outputs = _inferred_outputs(proto)
    return ModelFile(
        path=path,
        proto=proto,
        inputs=tuple(_spec(info, "input", path) for info in inputs),
        outputs=tuple(_spec(info, "output", path) for info in outputs),
    )


def initializers(path: Path) -> Iterator[tuple[str, Array]]:
    """Read the weights of a file that `read` has accepted, one at a time.

    Yields
    ------
    (str, ndarray)
        Name and value; external data is read from the file's folder.

    Raises
    ------
    ModelLoadError
        The data of a tensor does not fit its shape.
    """
    import onnx

    folder = str(path.resolve().parent)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, _, start, end in _fields(data, 0, len(data)):
            if number != _MODEL_GRAPH:
                continue
            for field, _, payload, stop in _fields(data, start, end):
                if field == _GRAPH_INITIALIZER:
                    tensor = onnx.TensorProto.FromString(data[payload:stop])
                    try:
                        array = onnx.numpy_helper.to_array(tensor, folder)
                    except (ValueError, TypeError, LookupError) as error:
                        raise ModelLoadError(f"{path}: tensor {tensor.name!r} is damaged: {one_line(error)}") from error
                    yield tensor.name, array


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= stop or shift > 63:
            raise ValueError("it ends in the middle of a field")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, start of tag, start of payload, end) of the protobuf message in ``data[at:stop]``."""
    while at < stop:
        start = at
        tag, payload = _varint(data, at, stop)
        wire = tag & 7
        if wire == 0:
            _, end = _varint(data, payload, stop)
        elif wire in (1, 5):
            end = payload + (8 if wire == 1 else 4)
        elif wire == 2:
            length, payload = _varint(data, payload, stop)
            end = payload + length
        else:
            raise ValueError(f"unknown wire type {wire}")
        if end > stop or tag >> 3 == 0:
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, start, payload, end
        at = end


def _length_delimited(number: int, payload: bytes) -> bytes:
    encoded = bytearray()
    for value in (number << 3 | 2, len(payload)):
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded) + payload


def _without(
    data: mmap.mmap, at: int, stop: int, number: int, shorten: Callable[[mmap.mmap, int, int], bytes]
) -> bytes:
    """Copy a message with each field `number` shortened."""
    parts = []
    for field, start, payload, end in _fields(data, at, stop):
        if field == number:
            parts.append(_length_delimited(field, shorten(data, payload, end)))
        else:
            parts.append(data[start:end])
    return b"".join(parts)


def _graph_without_data(data: mmap.mmap, at: int, stop: int) -> bytes:
    return _without(data, at, stop, _GRAPH_INITIALIZER, _tensor_without_data)


def _tensor_without_data(data: mmap.mmap, at: int, stop: int) -> bytes:
    if stop - at <= _KEPT_BYTES:
        return data[at:stop]
    return b"".join(data[start:end] for field, start, _, end in _fields(data, at, stop) if field not in _TENSOR_DATA)


def external_files(proto: onnx.ModelProto) -> tuple[str, ...]:
    """List the files that hold a model's weights, relative to the folder the model is really in."""
    names = {entry.value for tensor in _tensors(proto) for entry in tensor.external_data if entry.key == "location"}
    return tuple(sorted(names))


def node_name(node: onnx.NodeProto) -> str:
    """Return the name of a node, or its first output's name if it has none."""
    return node.name or next(filter(None, node.output), "")


def fixed_shape(info: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Return the shape a file fixes for a tensor, None if a size is free (some exporters write -1 for it)."""
    shape = info.type.tensor_type.shape
    if not info.type.tensor_type.HasField("shape"):
        return None
    sizes = tuple(dimension.dim_value if dimension.HasField("dim_value") else -1 for dimension in shape.dim)
    return None if min(sizes, default=0) < 0 else sizes


def bodies(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield all graphs of a model, then its functions with their inner graphs."""
    yield from subgraphs(proto.graph)
    for function in proto.functions:
        yield function
        yield from inner_graphs(function)


def constants(proto: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Yield the constant tensors of a model with their names: those of ``Constant`` nodes, then initializers."""
    for graph in bodies(proto):
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    yield node.output[0], attribute.t
    for graph in subgraphs(proto.graph):
        for tensor in graph.initializer:
            yield tensor.name, tensor


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in bodies(proto):
        yield from held_tensors(body)


def _check_external_data(proto: onnx.ModelProto, path: Path) -> None:
    import onnx

    folder = path.resolve().parent
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        facts = {entry.key: entry.value for entry in tensor.external_data}
        location = facts.get("location", "")
        data = folder / location
        try:
            lies_there = bool(location) and data.resolve().is_relative_to(folder)
            is_there = data.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
            lies_there, is_there = True, False
        if not lies_there:
            raise ModelLoadError(f"{path}: external data {location!r} of {tensor.name!r} is outside its folder")
        if not is_there:
            raise ModelLoadError(
                f"{path}: external data {shortened(repr(location), 100)} of {tensor.name!r} is missing beside the model"
            )
        try:
            offset, length = int(facts.get("offset", 0)), int(facts.get("length", 0))
        except ValueError:
            offset = length = -1
        if min(offset, length) < 0:
            raise ModelLoadError(f"{path} is damaged: it does not say where the external data of {tensor.name!r} are")
        end = offset + length
        if end > (size := data.stat().st_size):
            raise ModelLoadError(
                f"{path}: external data {location!r} is too short: {tensor.name!r} ends at byte {end} of {size}"
            )


def _inferred_outputs(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    import onnx

    try:
        return list(onnx.shape_inference.infer_shapes(proto).graph.output)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return list(proto.graph.output)  # the runtime decides whether the graph is valid


def _spec(info: onnx.ValueInfoProto, role: str, path: Path) -> TensorSpec:
    import onnx

    value, words = info.type, []
    while (kind := value.WhichOneof("value")) in _AROUND:
        words.append(_AROUND[kind])
        value = getattr(value, kind).elem_type
    tensor = value.tensor_type
    if role == "output" and kind == "map_type":
        return TensorSpec(name=info.name, shape=(), dtype="float32", kind="other", ranked=False)
    is_known = tensor.elem_type in set(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
    around = " ".join(words) or "tensor"
    if kind != "tensor_type" or not is_known or around not in get_args(Kind):
        raise ModelLoadError(f"{path}: {role} {info.name!r} is not a tensor of numbers or text, nor a sequence of such")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape: list[int | str] = []
    for axis, dimension in enumerate(tensor.shape.dim):
        if dimension.HasField("dim_value") and dimension.dim_value >= 0:
            shape.append(dimension.dim_value)
        else:
            unnamed = dimension.dim_param.strip() in NO_NAMES
            shape.append(f"{info.name}_{axis}" if unnamed else dimension.dim_param)
    if role == "output" and not words and not tensor.HasField("shape"):
        shape = [f"{info.name}_0"]
    return TensorSpec(
        name=info.name,
        shape=tuple(shape),
        dtype=dtype,
        kind=cast("Kind", around),
        ranked=tensor.HasField("shape") or role == "output",
    )
