"""Measure models over a grid of backends and options: the work of ``deploy bench`` and ``deploy compare``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from benchmarks.answers.counted import counted
from benchmarks.answers.reference import Reference, read_reference
from benchmarks.errors import InputError
from benchmarks.journal import Journal, journal_path
from benchmarks.records.measurement import Comparison, Cost, Measurement
from benchmarks.runner import compare, measure
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import compile_options, require_backends
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.subject import SubjectSpec
from deploy.bundles.bundle import bundle_of
from deploy.files.atomic import require_writable
from deploy.results.gather import results_of_bench
from deploy.results.results import Results

__all__ = ["Grid", "bench_models", "label_models", "numbers", "onnx_file", "reference_of", "saying_for", "shapes"]

Say = Callable[[str], None]

_WATCHED_S = 60.0
"""Time limit of the run that shows what in a file depends on the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Grid that each model is measured on: every backend with every number of threads and every batch.

    Parameters
    ----------
    backends : sequence of str
        Backend names.
    precision : str
        Precision of all backends.
    device : str or None
        None: the default of each backend.
    threads : sequence of int or None
        None: all usable cores.
    batches : sequence of int or None
        Sizes of a free batch dimension; None: 1.
    shapes : Mapping of str to tuple of int
        Shapes of inputs with other free dimensions.
    cores : tuple of int or None
        Cores that the measured processes are pinned to.
    given : GivenInputs
        Inputs that are given instead of generated.
    """

    backends: Sequence[str]
    precision: str = "fp32"
    device: str | None = None
    threads: Sequence[int | None] = (None,)
    batches: Sequence[int | None] = (None,)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cores: tuple[int, ...] | None = None
    given: GivenInputs = field(default_factory=GivenInputs)

    def specs(self, models: Mapping[str, Path]) -> Iterator[list[SubjectSpec]]:
        """Yield, for each point of the grid, the models that are measured in turn."""
        for backend, given, batch in product(self.backends, self.threads, self.batches):
            threads = given if given or self.cores is None else len(self.cores)
            options = compile_options(backend, precision=self.precision, threads=threads, device=self.device)
            yield [
                SubjectSpec(
                    model=path,
                    label=label,
                    backend=backend,
                    options=options,
                    batch=batch,
                    shapes=dict(self.shapes),
                    cores=self.cores,
                    given=self.given,
                )
                for label, path in models.items()
            ]


def bench_models(
    models: Mapping[str, Path],
    grid: Grid,
    settings: Settings,
    say: Say,
    output: Path | None = None,
    *,
    accepts_unfit: bool = False,
) -> Results:
    """Measure one model, or two in turn, at every point of a grid; outputs are checked first.

    Parameters
    ----------
    models : Mapping of str to Path
        One or two ONNX files by label, the baseline first.
    grid : Grid
        The grid.
    settings : Settings
        Settings of each point.
    say : callable
        Called with one short line for each step.
    output : Path, optional
        File that gets the results after each point of the grid; a journal beside it holds the trials in between.
    accepts_unfit : bool, default=False
        Whether the numbers of an unfit machine are accepted.

    Raises
    ------
    BackendError, BenchmarkError
        A file is broken, a backend is not usable here, or an option makes no sense.
    OutputError
        `output` cannot be written; detected before anything is measured.
    """
    if output is not None:
        require_writable(output)
    require_backends(grid.backends, grid.device)
    points = list(grid.specs(models))
    references = {label: reference_of(path) for label, path in models.items()}
    # Reading both files now finds a broken one before anything is measured.
    costs = {
        label: counted(
            path,
            shapes=grid.shapes,
            reference=references[label],
            given=grid.given,
            seed=settings.seed,
            timeout_s=min(_WATCHED_S, settings.budget_s),
        )
        for label, path in models.items()
    }
    comparisons: list[Comparison] = []
    measurements: list[Measurement] = []
    for specs in points:
        with _journal(output) as journal:
            _measure(specs, references, costs, settings, say, comparisons, measurements, journal)
            results = results_of_bench(comparisons, measurements, costs, models, accepts_unfit=accepts_unfit)
            if output is not None:
                results.save(output)
            if journal is not None:
                journal.finish()
    return results


def saying_for(backend: str, say: Say) -> Say:
    """Return `say` with each line prefixed by the name of a backend."""
    return lambda line: say(f"{backend}: {line}")


def label_models(model: Path, against: Path | None) -> dict[str, Path]:
    """Name the models after their files, or their folders if the file names are equal; the baseline first."""
    if against is None:
        # The file has the same name in every bundle.
        name = model.stem if model.is_file() and model.name != "model.onnx" else _folder_name(onnx_file(model))
        return {name: onnx_file(model)}
    names = (against.stem, model.stem)
    if names[0] == names[1]:
        names = (_folder_name(against), _folder_name(model))
    if names[0] == names[1]:
        names = ("baseline", "candidate")
    return {names[0]: onnx_file(against), names[1]: onnx_file(model)}


def _folder_name(file: Path) -> str:
    return Path(os.path.realpath(file)).parent.name  # `Path.resolve` fails on a symlink loop


def onnx_file(path: Path) -> Path:
    """Return the ONNX file of a bundle's folder, or the file itself."""
    return path / "model.onnx" if path.is_dir() else path


def numbers(text: str | None, option: str) -> tuple[int | None, ...]:
    """Parse ``"1,8"``; None stands for the default.

    Raises
    ------
    InputError
        `text` is not a list of whole numbers of at least 1.
    """
    if text is None:
        return (None,)
    try:
        read = tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        read = ()
    if not read or min(read) < 1:
        raise InputError(f"{option} {text!r}: write whole numbers of at least 1, for example 1 or 1,8")
    return read


def shapes(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Parse ``["input=1,3,224,224"]``.

    Raises
    ------
    InputError
        An entry has another form.
    """
    read: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            read[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--shape {text!r}: write NAME=D0,D1,... with whole numbers")
    return read


def reference_of(model: Path) -> Reference | None:
    """Return torch's outputs on real inputs if the file is in a bundle, else None.

    Raises
    ------
    BundleError
        The bundle has changed.
    """
    bundle = bundle_of(model)
    return None if bundle is None else read_reference(bundle.reference)


def _measure(
    specs: Sequence[SubjectSpec],
    references: Mapping[str, Reference | None],
    costs: Mapping[str, Cost],
    settings: Settings,
    say: Say,
    comparisons: list[Comparison],
    measurements: list[Measurement],
    journal: Journal | None,
) -> None:
    tell = saying_for(specs[0].backend, say)
    if len(specs) == 1:
        measurements.append(
            measure(
                specs[0],
                reference=references[specs[0].label or ""],
                settings=settings,
                cost=costs[specs[0].label],
                progress=tell,
                journal=journal,
            )
        )
        return
    baseline, candidate = specs
    # Both are timed on the same inputs: those of the baseline if it has real ones.
    comparisons.append(
        compare(
            candidate,
            baseline,
            candidate_reference=references[candidate.label or ""],
            baseline_reference=references[baseline.label or ""],
            settings=settings,
            costs=(costs[baseline.label], costs[candidate.label]),
            progress=tell,
            journal=journal,
        )
    )


@contextmanager
def _journal(output: Path | None) -> Iterator[Journal | None]:
    if output is None:
        yield None
        return
    with Journal(journal_path(output)) as journal:
        yield journal
