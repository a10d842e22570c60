"""The answers a compiled model must give: read from a file, or computed by ONNX Runtime without any optimisation.

The file (``reference.npz``) holds arrays ``input:<name>`` and ``output:<name>`` and a 0-d string ``source``. Text is
held there in NumPy's type of fixed width and is ``object`` in memory; it must be answered exactly.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.base import Array, Precision
from benchmarks.answers import reference_process
from benchmarks.errors import InputError, WorkerError, WrongAnswersError
from benchmarks.process.child import Conversation
from benchmarks.records.disk import write_atomically
from benchmarks.records.measurement import Agreement
from benchmarks.subject.inputs import InputSizes, take

__all__ = [
    "TOLERANCES",
    "Reference",
    "check",
    "compute_reference",
    "feeds_of",
    "read_reference",
    "require_agreement",
    "write_reference",
]

TOLERANCES: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2}
"""Largest error that counts as the same answer, as a share of the output's range.

In fp32 about 1e-6 is seen. fp16 rounds to 11 bits and bf16 to 8, at every layer: hence the wider ones. Of a
quantised file the reference is quantised as well; a fused layer rounds once where the file rounds twice, and one step
is 1/255 of a range.
"""

_INPUT, _OUTPUT, _SOURCE = "input:", "output:", "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Inputs and the outputs that belong to them.

    Parameters
    ----------
    inputs, outputs : Mapping of str to ndarray
        By name in the ONNX graph; axis 0 is the batch where the model has one.
    source : str
        Where the outputs come from, in words.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    source: str


def read_reference(path: Path) -> Reference:
    """Read ``reference.npz``.

    Raises
    ------
    InputError
        It is missing, broken, or holds something else; or an answer in it is not finite.
    """
    reference = _read(path)
    for name, array in reference.outputs.items():
        if not array.dtype.hasobject and not np.isfinite(array.astype(np.float64)).all():
            raise InputError(f"{path}: output {name!r} holds values that are not finite: nothing can be checked by it")
    return reference


def _read(path: Path) -> Reference:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path} is not a reference: it is a single array")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is not a readable reference: {' '.join(str(error).split())[:200]}") from error
    inputs = {name.removeprefix(_INPUT): _typed(array) for name, array in arrays.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): _typed(array) for name, array in arrays.items() if name.startswith(_OUTPUT)}
    if not inputs or not outputs:
        raise InputError(f"{path} is not a reference: it wants arrays called 'input:<name>' and 'output:<name>'")
    return Reference(inputs=inputs, outputs=outputs, source=str(arrays.get(_SOURCE, path.name)))


def write_reference(path: Path, reference: Reference) -> None:
    """Write ``reference.npz``; it appears whole or not at all."""
    arrays = {_INPUT + name: _storable(array) for name, array in reference.inputs.items()}
    arrays |= {_OUTPUT + name: _storable(array) for name, array in reference.outputs.items()}
    arrays[_SOURCE] = np.array(reference.source)

    def write(part: Path) -> None:
        with part.open("wb") as file:  # given a name, numpy would add a suffix
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as allow_pickle

    write_atomically(path, write)


def compute_reference(model: Path, feeds: Mapping[str, Array], *, timeout_s: float = 600.0) -> Reference:
    """Compute the answers to `feeds` by ONNX Runtime with all graph optimisations off, in a process of its own.

    Parameters
    ----------
    model : Path
        ONNX file.
    feeds : Mapping of str to ndarray
        Inputs of one call.
    timeout_s : float, default=600.0
        Seconds until the process is killed.

    Raises
    ------
    WorkerError
        ONNX Runtime cannot load or run the model, or its process died.
    InputError
        The answers are not finite: nothing could be compared with them.
    """
    program = ["-m", reference_process.__name__]
    try:
        with Conversation(program, who="ONNX Runtime", timeout_s=timeout_s) as process:
            _, outputs = process.ask("answer", {"model": str(model.resolve())}, feeds)
    except WorkerError as error:
        raise WorkerError(f"{model}: no reference answers: {error}", error.kind) from error
    for name, array in outputs.items():
        if not np.isfinite(_numbers(array)).all():
            raise InputError(f"{model}: output {name!r} is not finite on the inputs made up for it; give a reference")
    return Reference(inputs=feeds, outputs=outputs, source="ONNX Runtime, graph optimisations off")


def feeds_of(reference: Reference, sizes: InputSizes) -> dict[str, Array]:
    """Make the inputs of one call from a reference: its first examples, again and again where it has too few.

    Raises
    ------
    InputError
        It has no such input, or one of another shape.
    """
    batches = _batches(reference, sizes)
    return next(batches)[0]


def check(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    reference: Reference,
    sizes: InputSizes,
    *,
    precision: Precision,
) -> Agreement:
    """Compare answers with a reference, in calls of the size that is timed.

    Parameters
    ----------
    run : callable
        Answers one call.
    reference : Reference
        All its examples are used; the last call is filled up with the first ones.
    sizes : InputSizes
        Of one call.
    precision : {"fp32", "bf16", "fp16"}
        Decides the tolerance.

    Returns
    -------
    Agreement
        Of the output that agrees least. Its range is max - min over the reference, or the largest magnitude where the
        reference is constant, or 1 where it is zero everywhere. ``ok`` says whether it holds.

    Raises
    ------
    InputError
        The reference does not fit the model.
    WrongAnswersError
        An answer is not finite, an output is missing or of another shape, or a text differs.
    """
    errors = dict.fromkeys(reference.outputs, 0.0)
    for feeds, wanted in _batches(reference, sizes):
        answers = run(feeds)
        for name, expected in wanted.items():
            if name not in answers:
                raise WrongAnswersError(f"wrong answers: there is no output {name!r}")
            answer = answers[name]
            if answer.shape != expected.shape:
                raise WrongAnswersError(
                    f"wrong answers: output {name!r} has shape {answer.shape}, the reference {expected.shape}"
                )
            if expected.dtype.hasobject:
                _require_same_text(name, answer, expected)
                continue
            values = _numbers(answer)
            if not np.isfinite(values).all():
                raise WrongAnswersError(f"wrong answers: output {name!r} holds values that are not finite")
            errors[name] = max(errors[name], float(np.abs(values - _numbers(expected)).max(initial=0.0)))
    spans = {name: _span(array) for name, array in reference.outputs.items()}
    worst = max(errors, key=lambda name: errors[name] / spans[name])
    tolerance = TOLERANCES[precision]
    return Agreement(
        reference=reference.source,
        max_abs_error=errors[worst],
        output_range=spans[worst],
        tolerance=tolerance,
        n_inputs=_n_examples(reference, sizes),
        ok=errors[worst] <= tolerance * spans[worst],
    )


def require_agreement(agreement: Agreement) -> None:
    """Refuse answers that differ.

    Raises
    ------
    WrongAnswersError
        They do.
    """
    if not agreement.ok:
        raise WrongAnswersError(
            f"wrong answers: max abs error {agreement.max_abs_error:.3g} is "
            f"{agreement.max_abs_error / agreement.output_range:.3g} of the output's range, at most "
            f"{agreement.tolerance:g} is allowed (reference: {agreement.reference})"
        )


def _n_examples(reference: Reference, sizes: InputSizes) -> int:
    counts = {name: len(reference.inputs[name]) for name in sorted(sizes.batched)}
    if not counts:
        return 1
    if len(set(counts.values())) > 1 or not min(counts.values()):
        raise InputError(f"the reference holds different numbers of examples: {counts}")
    return next(iter(counts.values()))


def _batches(reference: Reference, sizes: InputSizes) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    for name, shape in sizes.shapes.items():
        if name not in reference.inputs:
            raise InputError(f"the reference has no input {name!r}; it has {', '.join(map(repr, reference.inputs))}")
        got = reference.inputs[name].shape
        skipped = 1 if name in sizes.batched else 0
        if len(got) != len(shape) or got[skipped:] != shape[skipped:]:
            raise InputError(f"the reference's input {name!r} has shape {got}, the model wants {shape}")
    n = _n_examples(reference, sizes)
    whole = not sizes.batched or n == sizes.batch
    for name, array in reference.outputs.items():
        if not whole and (not array.ndim or len(array) != n):
            raise InputError(
                f"output {name!r} of the reference is not one answer for each of its {n} examples: "
                f"it can only be compared with batch {n}"
            )
    for start in range(0, n, n if whole else sizes.batch):
        indices = np.arange(start, start + (n if whole else sizes.batch), dtype=np.int64) % n
        yield (
            {
                name: take(reference.inputs[name], indices, is_batched=name in sizes.batched and not whole)
                for name in sizes.shapes
            },
            {name: take(array, indices, is_batched=not whole) for name, array in reference.outputs.items()},
        )


def _span(reference: Array) -> float:
    values = _numbers(reference)
    if not values.size:
        return 1.0
    low, high = float(values.min()), float(values.max())
    return (high - low) or abs(high) or 1.0


def _require_same_text(name: str, answer: Array, expected: Array) -> None:
    if n_other := int(np.not_equal(answer, expected).sum()):
        raise WrongAnswersError(f"wrong answers: {n_other} of the {expected.size} texts of output {name!r} differ")


def _numbers(array: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return what can be subtracted: a complex number is two, a text none."""
    if array.dtype.hasobject:
        return np.empty(0)
    if array.dtype.kind == "c":
        return np.stack([array.real, array.imag]).astype(np.float64)
    return array.astype(np.float64)


def _storable(array: Array) -> Array:
    """Give text a type that NumPy stores without pickle."""
    return array.astype(np.str_) if array.dtype.hasobject else array


def _typed(array: Array) -> Array:
    """Give text and bfloat16 their types back: NumPy's file format knows the latter as two bytes of anything."""
    if array.dtype.kind == "U":
        return array.astype(np.object_)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array
