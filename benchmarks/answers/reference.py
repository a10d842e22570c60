"""Reference answers of a model: read from a file, or computed by ONNX Runtime without any optimisation.

The file (``reference.npz``) holds arrays ``input:<name>`` and ``output:<name>`` and a 0-d string ``source``. Text is
stored as NumPy's fixed-width type and is ``object`` in memory; it must match exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.base import Array, Precision
from backends.errors import ModelLoadError
from backends.reading.files import read_arrays
from benchmarks.answers import reference_process
from benchmarks.answers.comparing import distance, numbers, span_of
from benchmarks.errors import InputError, WorkerError, WrongAnswersError
from benchmarks.process.child import Conversation
from benchmarks.records.disk import write_atomically
from benchmarks.records.measurement import Agreement
from benchmarks.subject.inputs import InputSizes, take

__all__ = [
    "LEAST_RANGE",
    "TOLERANCES",
    "Reference",
    "check",
    "coarsest",
    "compute_references",
    "feeds_of",
    "nowhere_finite",
    "read_reference",
    "require_agreement",
    "write_reference",
]

TOLERANCES: Mapping[Precision, float] = {"fp64": 1e-9, "fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2}
"""Largest error that counts as the same answer, as a share of the output's range; coarser precisions come later.

Typical errors in fp32 are about 1e-6; "masked equals compact" (`pruners.verify`) has the same bound and least range.
fp16 rounds to 11 bits and bf16 to 8, at every layer: hence their wider bounds. The reference of a quantised file is
quantised as well; a fused layer rounds once where the file rounds twice, and one step is 1/255 of a range.
"""
LEAST_RANGE: Mapping[Precision, float] = {"fp64": 1e-2, "fp32": 1e-2, "fp16": 0.2, "bf16": 0.3, "int8": 0.1}
"""Floor of an output's range, as a share of its magnitude: there the tolerance is a few roundings."""

_INPUT, _OUTPUT, _SOURCE = "input:", "output:", "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Inputs and their expected outputs.

    Parameters
    ----------
    inputs, outputs : Mapping of str to ndarray
        By name in the ONNX graph; axis 0 is the batch if the model has one.
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
        The file is missing or broken, or holds something else.
    """
    try:
        arrays = read_arrays(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable reference: {' '.join(str(error).split())[:200]}") from error
    inputs = {name.removeprefix(_INPUT): _typed(array) for name, array in arrays.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): _typed(array) for name, array in arrays.items() if name.startswith(_OUTPUT)}
    if not outputs:
        raise InputError(f"{path} is not a reference: it wants arrays called 'input:<name>' and 'output:<name>'")
    return Reference(inputs=inputs, outputs=outputs, source=str(arrays.get(_SOURCE, path.name)))


def write_reference(path: Path, reference: Reference) -> None:
    """Write ``reference.npz`` atomically."""
    arrays = {_INPUT + name: _storable(array) for name, array in reference.inputs.items()}
    arrays |= {_OUTPUT + name: _storable(array) for name, array in reference.outputs.items()}
    arrays[_SOURCE] = np.array(reference.source)

    def write(part: Path) -> None:
        with part.open("wb") as file:  # given a path, numpy would add a suffix
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as allow_pickle

    write_atomically(path, write)


def compute_references(
    model: Path,
    calls: Sequence[Mapping[str, Array]],
    *,
    measured: str = "",
    made_up: bool = True,
    timeout_s: float = 600.0,
) -> tuple[Reference, ...]:
    """Compute the answers to some calls in a separate process, by ONNX Runtime with all graph optimisations off.

    If ONNX Runtime does not accept the model (an unknown format or operator), or not with inputs given by the user, the
    first of OpenVINO, ONNX's own evaluator and torch that does is used.

    Parameters
    ----------
    model : Path
        ONNX file.
    calls : sequence of Mapping of str to ndarray
        Inputs of each call.
    measured : str, optional
        Name of the backend whose answers are checked: it cannot be its own reference.
    made_up : bool, default=True
        Whether the inputs are generated: if ONNX Runtime refuses these, they are considered invalid.
    timeout_s : float, default=600.0
        Seconds until a process is killed.

    Raises
    ------
    WorkerError
        ONNX Runtime refuses the inputs, or its process died; or no runtime accepts the model. The reason is that of
        ONNX Runtime.
    """
    first: WorkerError | None = None
    for by, name in reference_process.RUNTIMES.items():
        if by == measured and first is not None:
            continue
        program = ["-m", reference_process.__name__]
        try:
            with Conversation(program, who=name, timeout_s=timeout_s) as process:
                question = {"model": str(model.resolve()), "by": by}
                answers = [process.ask("answer", dict(question), feeds)[1] for feeds in calls]
        except WorkerError as error:
            if first is None:
                first = WorkerError(f"{model}: no reference answers: {error}", error.kind)
            if first.kind != ModelLoadError.__name__ and made_up:
                break
            continue
        source = name if first is None else f"{name}, because ONNX Runtime does not take the model or the inputs"
        return tuple(
            Reference(inputs=feeds, outputs=outputs, source=source)
            for feeds, outputs in zip(calls, answers, strict=True)
        )
    assert first is not None
    raise first


def feeds_of(reference: Reference, sizes: InputSizes) -> dict[str, Array]:
    """Return the inputs of one call from a reference: its first examples, repeated if there are too few.

    Raises
    ------
    InputError
        The reference lacks an input, or has one of another shape.
    """
    batches = _batches(reference, sizes)
    return next(batches)[0]


def check(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    reference: Reference,
    sizes: InputSizes,
    *,
    precision: Precision,
    rounding: Mapping[str, float] | None = None,
) -> Agreement:
    """Compare answers with a reference, in calls of the timed size.

    Parameters
    ----------
    run : callable
        Answers one call.
    reference : Reference
        All its examples are used; the last call is filled up with the first ones.
    sizes : InputSizes
        Input sizes of one call.
    precision : {"fp64", "fp32", "bf16", "fp16", "int8"}
        Decides the tolerance, see `coarsest`.
    rounding : Mapping of str to float, optional
        Error by output that rounding alone explains; see `benchmarks.answers.rounding`.

    Returns
    -------
    Agreement
        Agreement of the worst output; ``ok`` says whether it is within tolerance. A NaN or infinite value agrees only
        with the same value; otherwise the error is infinite.

    Raises
    ------
    InputError
        The reference does not fit the model.
    WrongAnswersError
        An output is missing or has another shape, or a text differs.
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
            errors[name] = max(errors[name], distance(answer, expected))
    tolerance = TOLERANCES[precision]
    moved = {name: (rounding or {}).get(name, 0.0) for name in errors}
    spans = {name: span_of(array, LEAST_RANGE[precision]) for name, array in reference.outputs.items()}
    allowed = {name: max(tolerance * spans[name], moved[name]) for name in errors}
    # A violated tolerance ranks above an error that rounding allows; infinite errors are capped for the ratio.
    worst = max(errors, key=lambda name: (errors[name] > allowed[name], min(errors[name], 1e300) / allowed[name]))
    return Agreement(
        reference=reference.source,
        max_abs_error=errors[worst],
        output_range=spans[worst],
        tolerance=tolerance,
        rounding=moved[worst],
        n_inputs=_n_examples(reference, sizes),
        ok=errors[worst] <= allowed[worst],
    )


def coarsest(precisions: Iterable[Precision]) -> Precision:
    """Return the precision with the largest rounding: it bounds an answer that went through all of them."""
    return max((each for each in precisions if each in TOLERANCES), key=list(TOLERANCES).index)


def require_agreement(agreement: Agreement) -> None:
    """Refuse answers that differ from the reference.

    Raises
    ------
    WrongAnswersError
        They differ by more than is allowed.
    """
    if agreement.max_abs_error == np.inf and not agreement.ok:
        raise WrongAnswersError(
            f"wrong answers: some are not finite where the reference is, or the other way round (reference: "
            f"{agreement.reference})"
        )
    if not agreement.ok:
        raise WrongAnswersError(
            f"wrong answers: max abs error {agreement.max_abs_error:.3g} is "
            f"{agreement.max_abs_error / agreement.output_range:.3g} of the output's range, at most "
            f"{agreement.allowed / agreement.output_range:.3g} is allowed (reference: {agreement.reference})"
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


def nowhere_finite(reference: Reference) -> list[str]:
    """Return the numeric outputs without a single finite value: there is nothing to compare in them."""
    values_of = {name: numbers(array) for name, array in reference.outputs.items()}
    return [name for name, values in values_of.items() if values.size and not np.isfinite(values).any()]


def _require_same_text(name: str, answer: Array, expected: Array) -> None:
    if n_other := int(np.not_equal(answer, expected).sum()):
        raise WrongAnswersError(f"wrong answers: {n_other} of the {expected.size} texts of output {name!r} differ")


def _storable(array: Array) -> Array:
    """Convert text to a type that NumPy stores without pickle."""
    return array.astype(np.str_) if array.dtype.hasobject else array


def _typed(array: Array) -> Array:
    """Restore the types of text and bfloat16: NumPy's file format stores the latter as raw two-byte items."""
    if array.dtype.kind == "U":
        return array.astype(np.object_)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    return array
