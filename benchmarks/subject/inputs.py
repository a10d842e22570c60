"""Reproducible inputs for any model: shapes from the ONNX file, values from a seed or from a reference."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backends import modelfile
from backends.base import Array, TensorSpec
from backends.modelfile import ModelFile, fixed_shape, subgraphs
from backends.reading.files import memory_bytes
from benchmarks.errors import InputError
from benchmarks.subject.dtypes import numpy_type
from benchmarks.subject.proposals import proposed_sizes

if TYPE_CHECKING:
    import onnx

__all__ = ["InputSizes", "ModelSpecs", "example_inputs", "index_bounds", "model_specs", "resolve_sizes", "take"]

_BATCH_NAME = re.compile(r"batch|^[bn]$|^bs$|^n_batch$", re.IGNORECASE)
_DEFAULT_BOUND = 2  # 0 and 1 are legal as a mask, as a token, and as an index
_PASS_THROUGH = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_ALONG_AN_AXIS = frozenset({"Gather", "GatherElements", "ScatterElements"})
_BY_COORDINATES = frozenset({"GatherND", "ScatterND"})
_LEAST_PICTURE = 16
_PATCHES = ((1, 0.25), (4, 0.5), (16, 0.8291562))
"""Side lengths of the patches in generated pictures, and their weights, whose squares add up to 1."""
_ELEMENTS = 2
"""Number of elements of a generated sequence."""
_NO_VALUES = "input {!r} is of type {}, for which no values can be generated: give some with --inputs FILE.npz"
_WORDS = ("", "a", "blue", "Monday", "the", "na\u00efve")


class ModelSpecs(NamedTuple):
    """Inputs and outputs of an ONNX file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    model: Path | None = None

    @classmethod
    def of(cls, file: ModelFile) -> ModelSpecs:
        """Return the specs of a file that has been read."""
        return cls(file.inputs, file.outputs, file.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSizes:
    """Shapes and batch size of the inputs of one call.

    Parameters
    ----------
    inputs : tuple of TensorSpec
        Tensors to feed: the inputs, the elements of a sequence, and optional inputs only if given.
    shapes : dict of str to tuple of int
        Full shape of each.
    batch : int
        Examples per call; 1 for a model without a batch axis.
    batched : frozenset of str
        Inputs whose axis 0 is the batch.
    """

    inputs: tuple[TensorSpec, ...] = ()
    shapes: dict[str, tuple[int, ...]]
    batch: int
    batched: frozenset[str]


def model_specs(model: Path) -> ModelSpecs:
    """Read the inputs and outputs of an ONNX file, without its weights.

    Raises
    ------
    ModelLoadError
        The file is missing or truncated, or its external data is not where it says.
    """
    return ModelSpecs.of(modelfile.read(model))


def resolve_sizes(
    specs: ModelSpecs,
    *,
    batch: int | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    examples: Mapping[str, tuple[int, ...]] | None = None,
) -> InputSizes:
    """Decide the size of every free dimension, without guessing.

    The batch is the free dimension with a name like ``batch`` or ``N``, else the free axis 0 of the inputs. In a file
    without free dimensions it is axis 0, if all inputs and outputs that have axes agree on its size.

    A sequence has as many elements as there are shapes given for it (``x[0]``, ``x[1]``, ...). Without any, it has two
    of the shape stated in the file, or none if the file states no shape; optional inputs are left out.

    Parameters
    ----------
    specs : ModelSpecs
        See `model_specs`.
    batch : int, optional
        Examples per call. Defaults to the size the file fixes, else 1.
    shapes : Mapping of str to tuple of int, optional
        Full shapes of some inputs.
    examples : Mapping of str to tuple of int, optional
        Shapes of available examples: they decide what `shapes` leaves open, except the batch.

    Raises
    ------
    InputError
        A free dimension other than the batch has no size, a shape does not fit, or `batch` contradicts the file.
    """
    given = dict(shapes or {})
    inputs = tuple(_fed(specs.inputs, {**(examples or {}), **given}))
    if batch is not None and batch < 1:
        raise InputError(f"the batch must be at least 1, got {batch}")
    sizes = _sizes_given(inputs, given)
    tensors = tuple(spec for spec in inputs if spec.kind == "tensor")
    names = _batch_names(tensors)
    for spec in inputs:
        for want, got in zip(spec.shape, (examples or {}).get(spec.name, ()), strict=False):
            if isinstance(want, str) and want not in names:
                sizes.setdefault(want, got)
    if names:
        known = next((sizes[name] for name in names if name in sizes), None)
        if batch is not None and known is not None and known != batch:
            raise InputError(f"batch {batch} was asked for, but the given shapes say {known}; leave one of them out")
        resolved = known or batch or 1
        for name in names:
            sizes.setdefault(name, resolved)
        held = {name for name in names if sizes[name]}
        batched = frozenset(spec.name for spec in tensors if spec.shape and spec.shape[0] in held)
    else:
        fixed = _fixed_batch(specs)
        resolved = fixed or 1
        if batch is not None and batch != resolved:
            raise InputError(
                f"batch {batch} was asked for, but the model is made for {resolved}: "
                f"export it with a free batch dimension, or leave the batch out"
            )
        batched = frozenset(spec.name for spec in tensors if fixed and spec.shape)
    _require_all(inputs, sizes, specs.model)
    return InputSizes(
        inputs=inputs,
        shapes={
            spec.name: tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape) for spec in inputs
        },
        batch=resolved,
        batched=batched,
    )


def example_inputs(
    specs: tuple[TensorSpec, ...],
    *,
    batch: int = 1,
    seed: int = 0,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    bounds: Mapping[str, int] | None = None,
    given: Container[str] = (),
) -> dict[str, Array]:
    """Generate the inputs of one call: the same for the same arguments.

    Floats are standard normal (rounded to the type, unsigned if it has no sign), integers uniform in [0, bound),
    ``uint8`` uniform in [0, 256), booleans fair coin flips, texts drawn from a few words, and an integer scalar is 1.
    Inputs that look like images (1, 3 or 4 channels, at least 16 x 16) have patches of several sizes with edges, of
    mean 0 and variance 1, or around 128 in ``uint8``: on white noise, image networks answer nearly the same everywhere.

    Parameters
    ----------
    specs : tuple of TensorSpec
        The model's inputs.
    batch : int, default=1
        Size of the free batch dimension, unless `shapes` gives it.
    seed : int, default=0
        Each input draws from its own random stream, so one more input does not change the others.
    shapes : Mapping of str to tuple of int, optional
        Full shapes of inputs.
    bounds : Mapping of str to int, optional
        Exclusive upper bound of integer inputs, see `index_bounds`; 2 if not given.
    given : container of str
        Inputs that are not generated.

    Raises
    ------
    InputError
        A dimension stays free, or no values can be generated for a type.
    """
    whole = dict(shapes or {})
    if any(spec.name not in whole for spec in specs):
        free = bool(_batch_names(specs))
        whole = resolve_sizes(ModelSpecs(specs, ()), batch=batch if free else None, shapes=shapes).shapes
    _require_room(specs, whole)
    return {
        spec.name: _values(spec, whole[spec.name], np.random.default_rng([seed, index]), (bounds or {}).get(spec.name))
        for index, spec in enumerate(specs)
        if spec.name not in given
    }


def index_bounds(model: Path) -> dict[str, int]:
    """Find bounds of integer inputs that index a tensor of known size (token embeddings).

    Parameters
    ----------
    model : Path
        ONNX file.

    Returns
    -------
    dict of str to int
        For each such input, the length of the shortest axis it indexes.
    """
    graph = modelfile.read(model).proto.graph
    tables: dict[str, tuple[int, ...]] = {}
    for info in (*graph.input, *graph.value_info):
        if (shape := fixed_shape(info)) and min(shape) > 0:
            tables[info.name] = shape
    tables |= {tensor.name: tuple(tensor.dims) for each in subgraphs(graph) for tensor in each.initializer}
    origin = {info.name: info.name for info in graph.input}
    bounds: dict[str, int] = {}
    for node in (node for each in subgraphs(graph) for node in each.node):
        if node.op_type in _PASS_THROUGH and node.input and node.input[0] in origin:
            origin |= dict.fromkeys(node.output, origin[node.input[0]])
        elif len(node.input) > 1 and node.input[0] in tables and node.input[1] in origin:
            name = origin[node.input[1]]
            for size in _indexed(node, tables[node.input[0]]):
                bounds[name] = max(1, min(size, bounds.get(name, size)))
    return bounds


def take(array: Array, indices: np.ndarray[tuple[int], np.dtype[np.int64]], *, is_batched: bool) -> Array:
    """Return the examples `indices` of a batched array; an array without a batch axis stays whole.

    Parameters
    ----------
    array : ndarray of shape (n_examples, ...)
        Or of any shape if it has no batch axis.
    indices : ndarray of shape (n,), dtype int64
        Which examples; may repeat.
    is_batched : bool
        Whether axis 0 is the batch.
    """
    return array[indices] if is_batched else array


def _fed(specs: tuple[TensorSpec, ...], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[TensorSpec]:
    """Yield the tensors to feed, with the given shapes where the file states none."""
    for spec in specs:
        names = spec.entries(shapes)
        if spec.kind == "sequence" and spec.ranked and not names:
            names = tuple(f"{spec.name}[{index}]" for index in range(_ELEMENTS))
        for name in names:
            shape = spec.shape if spec.ranked else shapes.get(name, ())
            if spec.kind.endswith("sequence"):  # a dimension name may mean another size in each element
                shape = tuple(f"{name}_{axis}" if isinstance(size, str) else size for axis, size in enumerate(shape))
            yield replace(spec, name=name, shape=shape, ranked=spec.ranked or name in shapes)


def _sizes_given(specs: tuple[TensorSpec, ...], given: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    known = {spec.name: spec for spec in specs}
    sizes: dict[str, int] = {}
    for name, shape in given.items():
        if name not in known:
            raise InputError(f"--shape names an unknown input {name!r}; there are {', '.join(map(repr, known))}")
        spec = known[name]
        fits = len(shape) == len(spec.shape) and all(
            want == got or (isinstance(want, str) and (got > 0 or len(shape) == 1))
            for want, got in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InputError(f"shape {','.join(map(str, shape))} does not fit input {name!r} {spec}")
        for want, got in zip(spec.shape, shape, strict=True):
            if isinstance(want, str) and sizes.setdefault(want, got) != got:
                raise InputError(f"free dimension {want!r} is given as {sizes[want]} and as {got}")
    return sizes


def _require_all(specs: tuple[TensorSpec, ...], sizes: Mapping[str, int], model: Path | None) -> None:
    """Refuse free dimensions without a size, all in one message."""
    reasons, asking = [], []
    for spec in specs:
        if not spec.ranked:
            reasons.append(f"input {spec.name!r} {spec} has a shape")
            asking.append(spec)
        missing = list(dict.fromkeys(size for size in spec.shape if isinstance(size, str) and size not in sizes))
        if missing:
            what = "a free dimension" if len(missing) == 1 else "free dimensions"
            reasons.append(f"input {spec.name!r} {spec} has {what} {', '.join(map(repr, missing))}")
            asking.append(spec)
    if reasons:
        ranked = [spec for spec in asking if spec.ranked]
        proposed = proposed_sizes(model, specs, sizes) if model is not None and ranked == asking else {}
        example = f", for example {_options(asking, {**sizes, **proposed})}" if proposed else ""
        raise InputError(
            f"{' and '.join(reasons)} that nothing determines: give {_options(asking, sizes)} with numbers for every "
            f"?{example}"
        )


def _options(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> str:
    """Return the shape options to pass, with ? for each dimension without a size."""
    shapes = {
        spec.name: ",".join(str(sizes.get(size, "?")) if isinstance(size, str) else str(size) for size in spec.shape)
        for spec in specs
    }
    return " ".join(f"--shape {spec.name}={shapes[spec.name] if spec.ranked else '?'}" for spec in specs)


def _require_room(specs: tuple[TensorSpec, ...], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse inputs too large for the memory of this machine: each is copied to several processes."""
    sizes = {spec.name: 8 * math.prod(shapes[spec.name]) for spec in specs}
    if sum(sizes.values()) > memory_bytes() // 2:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"input {largest!r} of shape {','.join(map(str, shapes[largest]))} takes more memory than this machine can "
            "give: choose smaller sizes with --batch or --shape"
        )


def _batch_names(specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    free = [size for spec in specs for size in spec.shape if isinstance(size, str)]
    named = [size for size in dict.fromkeys(free) if _BATCH_NAME.search(size)]
    first = [spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], str)]
    return tuple(named or dict.fromkeys(first))


def _fixed_batch(specs: ModelSpecs) -> int | None:
    if not any(spec.shape for spec in specs.inputs):
        return None
    tensors = [spec for spec in (*specs.inputs, *specs.outputs) if spec.kind == "tensor"]
    sizes = {spec.shape[0] for spec in tensors if spec.shape}
    only = sizes.pop() if len(sizes) == 1 else None
    return only if isinstance(only, int) and only > 0 else None


def _values(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, bound: int | None) -> Array:
    try:
        kind = numpy_type(spec.dtype)
    except (AttributeError, TypeError) as error:
        raise InputError(_NO_VALUES.format(spec.name, spec.dtype)) from error
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind.kind == "O":
        return np.array([_WORDS[index] for index in np.ravel(rng.integers(0, len(_WORDS), shape))], object).reshape(
            shape
        )
    if integer := re.fullmatch(r"(u?)int(\d+)", spec.dtype):
        if not shape:
            return np.ones(shape, kind)
        if kind == np.uint8 and (axes := _picture_axes(shape)):
            return np.clip(np.rint(128 + 48 * _pictures(shape, axes, rng)), 0, 255).astype(kind)
        largest = 2 ** (int(integer[2]) - (not integer[1])) - 1
        upper = bound or (256 if kind == np.uint8 else _DEFAULT_BOUND)
        return rng.integers(0, min(upper, largest + 1), shape, np.uint64).astype(kind)
    if kind.kind == "f" or spec.dtype.startswith(("bfloat", "float")):
        axes = _picture_axes(shape)
        values = _pictures(shape, axes, rng) if axes else rng.standard_normal(shape, np.float32)
        return (np.abs(values) if spec.dtype.startswith("float8_e8m0") else values).astype(kind)
    raise InputError(_NO_VALUES.format(spec.name, spec.dtype))


def _picture_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the height and width axes if the shape looks like pictures, else None."""
    if len(shape) == 4:
        for channels, axes in ((1, (2, 3)), (3, (1, 2))):
            if shape[channels] in (1, 3, 4) and min(shape[axis] for axis in axes) >= _LEAST_PICTURE:
                return axes
    return None


def _pictures(shape: tuple[int, ...], axes: tuple[int, int], rng: np.random.Generator) -> Array:
    values = np.zeros(shape, np.float32)
    for side, weight in _PATCHES:
        coarse = [-(-size // side) if axis in axes else size for axis, size in enumerate(shape)]
        patches = rng.standard_normal(coarse, np.float32)
        for axis in axes:
            patches = np.repeat(patches, side, axis).take(np.arange(shape[axis]), axis)
        values += np.float32(weight) * patches
    return values


def _indexed(node: onnx.NodeProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths of the axes of `shape` that the second input of `node` indexes into."""
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type in _BY_COORDINATES:
        return shape[numbers.get("batch_dims", 0) :]
    axis = numbers.get("axis", 0)
    return (shape[axis],) if node.op_type in _ALONG_AN_AXIS and -len(shape) <= axis < len(shape) else ()
