"""``deploy bench``, ``compare`` and ``layers`` as functions that print nothing and return the measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.settings import Settings
from benchmarks.subject.given import GivenInputs
from deploy.errors import as_call_errors
from deploy.files.advice import PYTHON, advised
from deploy.report.answer.shown import show_results
from deploy.report.layers_shown import ShownLayers
from deploy.results.bench_grid import Grid, bench_models, label_models
from deploy.results.layer_profiles import profile_models
from deploy.results.results import Results, load

__all__ = ["bench", "compare", "layers", "load_results"]

File: TypeAlias = str | PathLike[str]
Numbers: TypeAlias = int | Sequence[int] | None
Progress: TypeAlias = Callable[[str], None]

show_results()


@as_call_errors()
@advised(PYTHON)
def bench(
    model: File,
    against: File | None = None,
    backends: str | Sequence[str] = ("ort",),
    *,
    precision: str = "fp32",
    threads: Numbers = None,
    device: str | None = None,
    batch: Numbers = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    trials: int | None = None,
    budget_s: float = 60.0,
    percentile: float = 50.0,
    margin: float = 0.03,
    strict: bool = False,
    cores: Sequence[int] | None = None,
    cold: bool = False,
    fast: bool = False,
    check: bool = True,
    accept_unfit: bool = False,
    seed: int = 0,
    output: File | None = None,
    progress: Progress | None = None,
) -> Results:
    """Measure an ONNX file, or two of them in turn: check the outputs, then measure latency and memory.

    Parameters
    ----------
    model : str, path or Bundle
        ONNX file, or the folder of a bundle.
    against : str, path or Bundle, optional
        Baseline: the two are measured in turn, and `model` is judged against it.
    backends : sequence of str, default=("ort",)
        Measured one after the other.
    precision : str, default="fp32"
        fp32, bf16, fp16 or int8; the precision that actually ran is read back.
    threads, batch : int or sequence of int, optional
        Of one inference; default: all usable cores, and 1. Several are measured one after the other.
    device : str, optional
        cpu, cuda or cuda:N.
    shapes : Mapping of str to sequence of int, optional
        Shapes of inputs with free dimensions.
    inputs : Mapping of str to array or number, optional
        Inputs that are given instead of generated.
    input_ranges : Mapping of str to (float, float), optional
        Range that an input is drawn from.
    trials : int, optional
        Fresh processes of each model; default: as many as the answer needs.
    budget_s : float, default=60.0
        Seconds for each backend.
    percentile : float, default=50.0
        For a single model: the latency percentile to estimate precisely; it sets how long the measurement takes.
    margin : float, default=0.03
        Smallest effect that counts, as a share.
    strict : bool, default=False
        Decide only if the whole interval is beyond the margin.
    cores : sequence of int, optional
        Cores that the measured processes are pinned to.
    cold : bool, default=False
        Also measure compilation.
    fast : bool, default=False
        Quick look in a few seconds; never gives a verdict.
    check : bool, default=True
        Compare the outputs with a reference.
    accept_unfit : bool, default=False
        Accept the numbers of a machine judged too noisy.
    seed : int, default=0
        Seed of generated inputs and of the measurement order.
    output : str or path, optional
        Save the results to this file; a killed measurement resumes from it.
    progress : callable, optional
        Called with one short line for each step.

    Raises
    ------
    DeployError
        One line: what is wrong and what to do. A model that fails or gives wrong outputs is a row of the results.
    """
    grid = _grid(backends, precision, threads, device, batch, shapes, inputs, input_ranges, cores)
    settings = Settings(
        trials=trials,
        budget_s=budget_s,
        percentile=percentile / 100,
        margin=margin,
        strict=strict,
        cold=cold,
        seed=seed,
        check=check,
    )
    return bench_models(
        label_models(Path(model), None if against is None else Path(against)),
        grid,
        settings.quick() if fast else settings,
        progress or (lambda _: None),
        None if output is None else Path(output),
        accepts_unfit=accept_unfit,
    )


def compare(baseline: File, candidate: File, backends: str | Sequence[str] = ("ort",), **options: Any) -> Results:
    """Measure two ONNX files in turn: `bench` of `candidate` against `baseline`, with the options of `bench`."""
    return bench(candidate, baseline, backends, **options)


@as_call_errors()
@advised(PYTHON)
def layers(
    model: File,
    against: File | None = None,
    backends: str | Sequence[str] = ("ort",),
    *,
    precision: str = "fp32",
    threads: Numbers = None,
    device: str | None = None,
    batch: Numbers = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    input_ranges: Mapping[str, tuple[float, float]] | None = None,
    duration_s: float = 2.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> ShownLayers:
    """Profile an ONNX file layer by layer, alone or beside another one; the arguments are those of `bench`.

    Returns a `LayerReport` with ``to_frame()``, shown as tables in a notebook.

    Parameters
    ----------
    duration_s : float, default=2.0
        Approximate profiling time in seconds.

    Raises
    ------
    DeployError
        One line: what is wrong and what to do.
    """
    grid = _grid(backends, precision, threads, device, batch, shapes, inputs, input_ranges, None)
    models = label_models(Path(model), None if against is None else Path(against))
    say = progress or (lambda _: None)
    report = ShownLayers()
    for profiles, pair in profile_models(models, grid, duration_s=duration_s, seed=seed, say=say):
        report = report.with_point(profiles, pair)
    return report


def load_results(path: File) -> Results:
    """Read a results file, or the ``results.json`` in the folder of a run.

    Raises
    ------
    ResultsError
        It is missing, broken, or of an unknown version.
    """
    where = Path(path)
    return load(where / "results.json" if where.is_dir() else where)


def _grid(
    backends: str | Sequence[str],
    precision: str,
    threads: Numbers,
    device: str | None,
    batch: Numbers,
    shapes: Mapping[str, Sequence[int]] | None,
    inputs: Mapping[str, Any] | None,
    ranges: Mapping[str, tuple[float, float]] | None,
    cores: Sequence[int] | None,
) -> Grid:
    arrays = {name: np.asarray(value) for name, value in (inputs or {}).items()}
    return Grid(
        backends=[backends] if isinstance(backends, str) else list(dict.fromkeys(backends)),
        precision=precision,
        device=device,
        threads=_several(threads),
        batches=_several(batch),
        shapes={name: tuple(sizes) for name, sizes in (shapes or {}).items()},
        cores=None if cores is None else tuple(cores),
        given=GivenInputs(
            arrays={name: array for name, array in arrays.items() if array.ndim},
            values={name: (float(array),) for name, array in arrays.items() if not array.ndim},
            ranges=dict(ranges or {}),
        ),
    )


def _several(numbers: Numbers) -> tuple[int | None, ...]:
    return (numbers,) if numbers is None or isinstance(numbers, int) else tuple(numbers)
