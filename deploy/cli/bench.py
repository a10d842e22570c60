"""``deploy bench``: measure any ONNX file, alone or against another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.exit_codes import USAGE, WRONG_ANSWERS

if TYPE_CHECKING:
    from benchmarks.records import Comparison, Measurement
    from benchmarks.reference import Reference
    from benchmarks.settings import Settings
    from benchmarks.subject import SubjectSpec

__all__ = ["bench"]


def bench(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    against: Annotated[
        Path | None, typer.Option("--against", "-a", help="ONNX file measured in turn with it: the baseline.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Repeat for several; default: ort.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16; what was executed is read back.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="Threads of one inference; default: all usable cores.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: cpu, cuda for trt.")] = None,
    batch: Annotated[int | None, typer.Option(help="Size of a free batch dimension; default: 1.")] = None,
    shape: Annotated[list[str] | None, typer.Option("--shape", help="NAME=D0,D1,...: other free dimensions.")] = None,
    trials: Annotated[int, typer.Option(help="Fresh processes of each model; 6 give an interval of 96.9 %.")] = 6,
    budget: Annotated[float, typer.Option("--budget", help="Seconds of timed calls for each backend.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Of made-up inputs and of the order of measuring.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write results.json here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the HTML page here.")] = None,
) -> None:
    """Measure an ONNX file: answers first, then latency, throughput and memory, in processes of its own."""
    from benchmarks.cost import cost
    from benchmarks.settings import Settings
    from benchmarks.subject import SubjectSpec
    from deploy.measure import compile_options, require_backends
    from deploy.report.page import write_page
    from deploy.report.table import print_results
    from deploy.results import results_of_bench

    names = list(dict.fromkeys(backend or ["ort"]))
    shapes = _shapes(shape or [])
    models = {label: _onnx_file(path) for label, path in _labels(model, against).items()}
    options = {name: compile_options(name, precision=precision, threads=threads, device=device) for name in names}
    require_backends(names, device)
    # Reading both files now finds a broken one before anything is measured.
    costs = {label: cost(path, shapes=shapes) for label, path in models.items()}
    references = {label: _reference(path) for label, path in models.items()}
    settings = Settings(trials=trials, budget_s=budget, seed=seed)
    comparisons: list[Comparison] = []
    measurements: list[Measurement] = []
    for name in names:
        specs = [
            SubjectSpec(model=path, label=label, backend=name, options=options[name], batch=batch, shapes=shapes)
            for label, path in models.items()
        ]
        found = _measure(specs, references, settings)
        (measurements if len(specs) == 1 else comparisons).append(found)  # type: ignore[arg-type]
    results = results_of_bench(comparisons, measurements, costs, models)
    _tell_failures(comparisons, measurements)
    print_results(results)
    if output is not None:
        results.save(output)
    if page is not None:
        write_page(results, page)
    kinds = {found.failure_kind for found in _all(comparisons, measurements) if found.failure is not None}
    if kinds:
        raise typer.Exit(WRONG_ANSWERS if "WrongAnswersError" in kinds else USAGE)


def _labels(model: Path, against: Path | None) -> dict[str, Path]:
    """Name the models after their files, or after their folders where the files share a name; the baseline first."""
    if against is None:
        return {model.stem if model.is_file() else model.name: model}
    names = (against.stem, model.stem)
    if names[0] == names[1]:
        names = (against.resolve().parent.name, model.resolve().parent.name)
    if names[0] == names[1]:
        names = ("baseline", "candidate")
    return {names[0]: against, names[1]: model}


def _onnx_file(path: Path) -> Path:
    return path / "model.onnx" if path.is_dir() else path


def _reference(model: Path) -> Reference | None:
    """Take torch's answers on real inputs where the file lies in a bundle; a bundle that was changed is refused."""
    from benchmarks.reference import read_reference
    from deploy.bundle import bundle_of

    bundle = bundle_of(model)
    return None if bundle is None else read_reference(bundle.reference)


def _shapes(given: list[str]) -> dict[str, tuple[int, ...]]:
    from benchmarks.errors import InputError

    shapes: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        try:
            shapes[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--shape {text!r}: write NAME=D0,D1,... with whole numbers")
    return shapes


def _measure(
    specs: list[SubjectSpec], references: dict[str, Reference | None], settings: Settings
) -> Comparison | Measurement:
    from benchmarks.runner import compare, measure

    def say(line: str) -> None:
        typer.echo(f"{specs[0].backend}: {line}", err=True)

    if len(specs) == 1:
        return measure(specs[0], reference=references[specs[0].label], settings=settings, progress=say)
    baseline, candidate = specs
    # Both are timed on the same inputs: those of the baseline, where it has real ones.
    return compare(
        candidate,
        baseline,
        candidate_reference=references[candidate.label],
        baseline_reference=references[baseline.label],
        settings=settings,
        progress=say,
    )


def _all(comparisons: list[Comparison], measurements: list[Measurement]) -> list[Measurement]:
    return [*measurements, *(side for pair in comparisons for side in (pair.baseline, pair.candidate))]


def _tell_failures(comparisons: list[Comparison], measurements: list[Measurement]) -> None:
    """Raise the reason where nothing at all was measured: a table would only hide it."""
    from benchmarks.runner import raise_failure

    found = _all(comparisons, measurements)
    if all(measurement.failure is not None for measurement in found):
        raise_failure(found[0])
    for measurement in found:
        if measurement.failure is not None:
            subject = measurement.subject
            typer.echo(f"deploy: {subject.label} on {subject.backend}: {measurement.failure}", err=True)
