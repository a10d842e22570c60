"""Inputs given by the user instead of generated ones: arrays from a file, single values, ranges to draw from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backends.base import Array, TensorSpec
from backends.reading.files import read_arrays
from benchmarks.errors import InputError
from benchmarks.subject.dtypes import numpy_type
from benchmarks.subject.inputs import InputSizes, example_inputs, index_bounds

__all__ = ["HOW_TO_GIVE", "GivenInputs", "call_inputs"]

_UNKNOWN = "the model has no input {!r}; it has {}"

HOW_TO_GIVE = "give real inputs with --inputs FILE.npz, --input NAME=VALUE or --input-range NAME=LOW:HIGH"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenInputs:
    """Inputs of a call given by the user; the others are generated.

    Parameters
    ----------
    arrays : Mapping of str to ndarray
        Whole inputs. An array with one extra leading axis holds several examples.
    others : tuple of Mapping of str to ndarray
        Further examples in the same form.
    values : Mapping of str to tuple of float
        One number for all elements of an input, or one for each.
    ranges : Mapping of str to (float, float)
        Range to draw from; for integers both ends are included.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    others: tuple[Mapping[str, Array], ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, files: Sequence[Path] | None = None, values: Sequence[str] = (), ranges: Sequence[str] = ()
    ) -> GivenInputs:
        """Read the inputs given on the command line.

        Parameters
        ----------
        files : sequence of Path, optional
            ``.npz`` files of arrays named after inputs, the same names in each.
        values, ranges : sequence of str
            ``"sr=16000"``, ``"x=0:1"``.

        Raises
        ------
        InputError
            A value has another form, or an input is given twice.
        """
        arrays, *others = [_arrays(file) for file in files or ()] or [{}]
        if files and not arrays:
            raise InputError(f"{files[0]} holds no arrays: write numpy.savez(file, NAME=array, ...)")
        if apart := {name for each in others for name in each.keys() ^ arrays.keys()}:
            raise InputError(f"input {min(apart)!r} is in some of the files of --inputs, but not in all")
        given = cls(
            arrays=arrays,
            others=tuple(others),
            values=dict(_numbers(text, ",", "--input NAME=VALUE or NAME=VALUE,VALUE,...") for text in values),
            ranges=dict(_bounds(text) for text in ranges),
        )
        names = [*given.arrays, *(text.rpartition("=")[0] for text in (*values, *ranges))]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"input {twice!r} is given twice")
        return given

    def __bool__(self) -> bool:
        return bool(self.arrays or self.values or self.ranges)

    def calls(self, specs: Sequence[TensorSpec]) -> tuple[Mapping[str, Array], ...]:
        """Return the whole inputs of each call: one call per example, at least one.

        Parameters
        ----------
        specs : sequence of TensorSpec
            Inputs of the model; an array with one more axis than its input holds several examples.

        Raises
        ------
        InputError
            The examples differ in number or shape.
        """
        axes = {spec.name: len(spec.shape) for spec in specs if spec.kind == "tensor" and spec.ranked}
        calls: list[Mapping[str, Array]] = []
        for arrays in (self.arrays, *self.others):
            lengths = {name: len(array) for name, array in arrays.items() if array.ndim - 1 == axes.get(name)}
            if len(set(lengths.values())) > 1 or 0 in lengths.values():
                raise InputError(f"the inputs given hold different numbers of examples, or none: {lengths}")
            calls += [
                {name: array[index, ...] if name in lengths else array for name, array in arrays.items()}
                for index in range(next(iter(lengths.values()), 1))
            ]
        for name, array in calls[0].items():
            other = next((each[name] for each in calls if each[name].shape != array.shape), None)
            if other is not None:
                raise InputError(
                    f"the examples given differ in the shape of {name!r}: {array.shape} and {other.shape}; measure "
                    "them one by one"
                )
        return tuple(calls)

    def shapes(
        self, specs: Sequence[TensorSpec], sizes: Mapping[str, tuple[int, ...]] | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs given whole (see `calls`), together with those in `sizes`.

        Parameters
        ----------
        specs : sequence of TensorSpec
            Inputs of the model.
        sizes : Mapping of str to tuple of int, optional
            Shapes by input name, for example from ``--shape``.

        Raises
        ------
        InputError
            See `calls`; or the model has no such input; or the shape of an array contradicts `sizes`.
        """
        _require_known((*self.arrays, *self.values, *self.ranges), specs)
        shapes = dict(sizes or {})
        for name, array in self.calls(specs)[0].items():
            if shapes.setdefault(name, array.shape) != array.shape:
                said, own = (",".join(map(str, shape)) for shape in (shapes[name], array.shape))
                raise InputError(
                    f"input {name!r} should have shape {said}, but what is given has {own}; leave one of them out"
                )
        return shapes

    def over(
        self, made_up: Mapping[str, Array], specs: Sequence[TensorSpec], *, seed: int = 0
    ) -> tuple[dict[str, Array], ...]:
        """Replace generated inputs by the given ones: one call per example.

        A value or a range takes precedence over an array.

        Raises
        ------
        InputError
            The model has no such input, or its shape or number type differs.
        """
        known = {spec.name: spec for spec in specs}
        for name in (*self.arrays, *self.values, *self.ranges):
            if name not in known:
                raise InputError(_UNKNOWN.format(name, ", ".join(map(repr, known)) or "none"))
        said: dict[str, Array] = {}
        for name, values in self.values.items():
            like = made_up[name]
            if len(values) not in (1, like.size):
                raise InputError(f"input {name!r} holds {like.size} numbers, {len(values)} are given")
            repeated = np.broadcast_to(np.array(values), (like.size,)) if len(values) == 1 else np.array(values)
            said[name] = _cast(repeated.reshape(like.shape), known[name])
        for index, (name, (low, high)) in enumerate(self.ranges.items()):
            rng = np.random.default_rng([seed, index])
            said[name] = _cast(_drawn(known[name], low, high, made_up[name].shape, rng), known[name])
        return tuple(
            {**made_up, **{name: _cast(array, known[name]) for name, array in arrays.items()}, **said}
            for arrays in self.calls(specs)
        )


def call_inputs(
    model: Path, sizes: InputSizes, *, seed: int = 0, given: GivenInputs | None = None
) -> tuple[dict[str, Array], ...]:
    """Return the inputs of one call, or of several if several examples are given; the rest is generated.

    Parameters
    ----------
    model : Path
        ONNX file.
    sizes : InputSizes
        Sizes of the inputs of the call.
    seed : int, default=0
        See `example_inputs`.
    given : GivenInputs, optional
        Nothing by default.

    Raises
    ------
    InputError
        No values can be generated for a type, or a given input does not fit.
    """
    given = given or GivenInputs()
    whole = given.arrays.keys() - given.values.keys() - given.ranges.keys()
    made_up = example_inputs(sizes.inputs, seed=seed, shapes=sizes.shapes, bounds=index_bounds(model), given=whole)
    return given.over(made_up, sizes.inputs, seed=seed)


def _require_known(names: Iterable[str], specs: Sequence[TensorSpec]) -> None:
    for name in names:
        # Elements of a sequence x are named x[0], x[1], ...
        if not any(name == spec.name or (name.startswith(f"{spec.name}[") and name.endswith("]")) for spec in specs):
            raise InputError(_UNKNOWN.format(name, ", ".join(repr(spec.name) for spec in specs) or "none"))


def _drawn(spec: TensorSpec, low: float, high: float, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if (held := _whole_numbers(spec.dtype)) is None:
        drawn: Array = rng.uniform(low, high, shape)
        return drawn
    least, most = math.ceil(low), math.floor(high)
    if not held[0] <= least <= most <= held[1]:
        raise InputError(
            f"input {spec.name!r} is of type {spec.dtype}: from {low:g} to {high:g} there is no whole number, or one "
            "that it does not hold"
        )
    return rng.integers(least, most, shape, np.int64 if most < 1 << 63 else np.uint64, endpoint=True)


def _whole_numbers(dtype: str) -> tuple[int, int] | None:
    """Return the smallest and largest value of an integer or boolean type, None for other types."""
    if dtype == "bool":
        return 0, 1
    if (integer := re.fullmatch(r"(u?)int(\d+)", dtype)) is None:
        return None
    bits = int(integer[2])
    return (0, (1 << bits) - 1) if integer[1] else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _cast(array: Array, spec: TensorSpec) -> Array:
    kind = numpy_type(spec.dtype)
    if array.dtype == kind:
        return array
    try:
        with np.errstate(all="ignore"):
            cast = array.astype(kind)
    except (ValueError, TypeError):  # text, records
        cast = array
    whole = _whole_numbers(spec.dtype) is not None
    kept = array.dtype.kind in "fiub" and kind.kind != "O" and cast is not array
    if kept:
        kept = np.array_equal(cast, array) if whole else np.array_equal(np.isfinite(cast), np.isfinite(array))
    if not kept:
        wanted, found = ("text" if name == "object" else name for name in (spec.dtype, array.dtype.name))
        raise InputError(f"input {spec.name!r} is of type {wanted}: {found} was given, which does not fit")
    return cast


def _arrays(file: Path) -> dict[str, Array]:
    try:
        arrays = read_arrays(file)
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file") from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{file} is not a readable .npz ({reason}): write numpy.savez(file, NAME=array, ...)"
        ) from error
    return {name: array.astype(np.object_) if array.dtype.kind == "U" else array for name, array in arrays.items()}


def _numbers(text: str, between: str, form: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = text.rpartition("=")
    words = {"true": 1.0, "false": 0.0}
    try:
        read = tuple(words[word.lower()] if word.lower() in words else _number(word) for word in values.split(between))
    except ValueError:
        name = ""
    if not name:
        raise InputError(f"{text!r}: write {form} with numbers")
    return name, read


def _number(word: str) -> float:
    try:
        return int(word)  # a float would round large integers
    except ValueError:
        return float(word)


def _bounds(text: str) -> tuple[str, tuple[float, float]]:
    name, ends = _numbers(text, ":", form := "--input-range NAME=LOW:HIGH")
    if len(ends) != 2 or not math.isfinite(ends[1] - ends[0]) or ends[0] > ends[1]:
        raise InputError(f"{text!r}: write {form} with numbers, the lower one first")
    return name, (ends[0], ends[1])
