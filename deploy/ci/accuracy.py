"""Top-1 accuracy of a compiled model on given examples: a data set, or an ``.npz`` file, which needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from backends.base import Array, CompileOptions
from backends.errors import BackendError, one_line
from backends.reading.files import read_arrays
from benchmarks.errors import BenchmarkError
from benchmarks.records.disk import read_errors
from deploy.ci.check_file import AccuracyLimit
from deploy.ci.finding import Finding
from deploy.errors import CheckFileError, DeployError
from deploy.exporting.backend_score import score_on_backend
from deploy.exporting.inference import RemoteModel, compiled_elsewhere
from deploy.sources.datasets.data import load
from deploy.sources.datasets.data_spec import DataSpec

__all__ = ["Examples", "Scored", "judge_accuracy", "read_examples", "score", "scored_or_why"]

_LABELS = "labels"
_FOLDER = "imagefolder"
_BATCH = 64


class Scored(NamedTuple):
    """Accuracy in [0, 1] on `n` examples."""

    accuracy: float
    n: int


class Examples(NamedTuple):
    """Source of the examples.

    Parameters
    ----------
    arrays : Mapping of str to ndarray or None
        Contents of an ``.npz`` file: inputs of shape (n, ...) by name, and labels of shape (n,).
    spec : DataSpec or None
        The data set used instead.
    where : str
        Name of the source, for messages.
    """

    arrays: dict[str, Array] | None
    spec: DataSpec | None
    where: str


def read_examples(limit: AccuracyLimit, folder: Path) -> Examples:
    """Read the examples that a check file names.

    Parameters
    ----------
    limit : AccuracyLimit
        Its ``data`` is an ``.npz`` file, the name of a data set, or a data set with its settings.
    folder : Path
        Folder that paths are relative to.

    Raises
    ------
    CheckFileError
        The file is missing, broken, or has no labels.
    """
    if not isinstance(limit.data, str) or not limit.data.endswith(".npz"):
        spec = DataSpec(name=limit.data) if isinstance(limit.data, str) else limit.data
        return Examples(None, _beside(spec, folder), spec.name)
    path = folder / limit.data
    with read_errors(path, CheckFileError):
        try:
            arrays = read_arrays(path)
        except ValueError as error:
            raise CheckFileError(f"{path} is not a readable .npz file: {one_line(error)}") from error
    labels = arrays.get(_LABELS)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise CheckFileError(f"{path}: it wants an array {_LABELS!r} of whole numbers, one for each example")
    for name, array in arrays.items():
        if not array.ndim or len(array) != len(labels):
            raise CheckFileError(f"{path}: array {name!r} has shape {array.shape}, there are {len(labels)} labels")
    return Examples(arrays, None, limit.data)


def score(model: Path, backend: str, options: CompileOptions, examples: Examples) -> Scored:
    """Return the top-1 accuracy of a compiled model.

    Raises
    ------
    CheckFileError
        The examples do not fit the model.
    BackendError, BenchmarkError, DeployError
        The model cannot be compiled or run, or the data set cannot be read.
    """
    if examples.arrays is not None:
        return _score_arrays(model, backend, options, examples.arrays, examples.where)
    assert examples.spec is not None
    data = load(examples.spec)
    if data.metric != "accuracy":
        raise CheckFileError(f"{examples.where}: its examples have no classes, so that there is no accuracy")
    found = score_on_backend(model, backend, options, data.test)
    return Scored(found.score, found.n)


def scored_or_why(model: Path, backend: str, options: CompileOptions, examples: Examples) -> Scored | str:
    """Return the accuracy, or one line why there is none: it becomes a row, and the other models are still checked."""
    try:
        return score(model, backend, options, examples)
    except (BackendError, BenchmarkError, DeployError) as error:
        return one_line(error, limit=500)


def judge_accuracy(limit: AccuracyLimit, scored: Scored | str, baseline: Scored | str | None) -> list[Finding]:
    """Return the findings for the accuracy limits.

    Parameters
    ----------
    limit : AccuracyLimit
        The limits.
    scored, baseline : Scored or str
        Accuracy of the model and its baseline; a string says why there is none.
    """
    made = []
    if limit.at_least is not None:
        statement = f"accuracy at least {100 * limit.at_least:.4g} %"
        if isinstance(scored, str):
            made.append(Finding("accuracy.at_least", statement, "failed", scored, "", limit.at_least, unit="share"))
        else:
            made.append(
                Finding(
                    "accuracy.at_least",
                    statement,
                    "kept" if scored.accuracy >= limit.at_least else "broken",
                    f"{100 * scored.accuracy:.2f} % of {scored.n:,} examples",
                    "",
                    limit.at_least,
                    scored.accuracy,
                    unit="share",
                )
            )
    if limit.max_drop is not None:
        statement = f"accuracy at most {100 * limit.max_drop:.3g} points below the baseline"
        missing = next((one for one in (scored, baseline) if not isinstance(one, Scored)), None)
        if not isinstance(scored, Scored) or not isinstance(baseline, Scored):
            reason = missing or "the baseline was not scored"
            made.append(Finding("accuracy.max_drop", statement, "failed", reason, "", limit.max_drop, unit="share"))
        else:
            drop = baseline.accuracy - scored.accuracy
            made.append(
                Finding(
                    "accuracy.max_drop",
                    statement,
                    "kept" if drop <= limit.max_drop + 1e-12 else "broken",
                    f"{-100 * drop:+.2f} points: {100 * baseline.accuracy:.2f} % before, "
                    f"{100 * scored.accuracy:.2f} % now, of {scored.n:,} examples",
                    "",
                    limit.max_drop,
                    drop,
                    unit="share",
                )
            )
    return made


def _beside(spec: DataSpec, folder: Path) -> DataSpec:
    """Return `spec` with its paths made relative to `folder`."""
    kind, colon, path = spec.name.partition(":")
    name = f"{kind}{colon}{folder / path}" if kind == _FOLDER and path else spec.name
    root = None if spec.root is None else folder / spec.root
    return spec.model_copy(update={"name": name, "root": root})


def _score_arrays(model: Path, backend: str, options: CompileOptions, arrays: dict[str, Array], where: str) -> Scored:
    labels = arrays[_LABELS]
    with compiled_elsewhere(model, backend, options) as remote:
        inputs = _inputs(remote, arrays, where)
        size = remote.fixed_batch or min(_BATCH, len(labels))
        right = 0
        for start in range(0, len(labels), size):
            wanted = labels[start : start + size]
            indices = np.arange(start, start + size, dtype=np.int64) % len(labels)  # pads the last batch
            answers = remote.run({name: np.ascontiguousarray(array[indices]) for name, array in inputs.items()})
            scores = np.asarray(answers[remote.outputs[0].name])
            if scores.ndim != 2 or len(scores) != size:
                raise CheckFileError(
                    f"{where}: output {remote.outputs[0].name!r} has shape {scores.shape}; accuracy needs a row of "
                    "scores for each example"
                )
            right += int((scores[: len(wanted)].argmax(axis=1) == wanted).sum())
    return Scored(right / len(labels), len(labels))


def _inputs(remote: RemoteModel, arrays: dict[str, Array], where: str) -> dict[str, Array]:
    given = {name: array for name, array in arrays.items() if name != _LABELS}
    names = [spec.name for spec in remote.inputs]
    if len(given) == len(names) == 1:
        given = {names[0]: next(iter(given.values()))}
    if missing := [name for name in names if name not in given]:
        raise CheckFileError(
            f"{where}: the model wants an input {missing[0]!r}; there are {', '.join(map(repr, given))}"
        )
    return {name: given[name] for name in names}
