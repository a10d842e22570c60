"""``deploy layers``: where the time of a call goes, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.layers.comparison import LayerReport, compare_layers
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.layers.profiler import profile_layers
from benchmarks.machine.lock import machine_lock
from benchmarks.subject.cost import cost
from benchmarks.subject.subject import SubjectSpec
from deploy.backend_options import require_backends
from deploy.cli import options as given
from deploy.cli.output import print_tables, say
from deploy.errors import OutputError
from deploy.files.atomic import write_file
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.results.bench_grid import Grid, label_models, numbers, shapes

__all__ = ["layers"]


def layers(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    against: Annotated[
        Path | None, typer.Option("--against", "-a", help="ONNX file compared with it layer by layer: the baseline.")
    ] = None,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batches = None,
    shape: given.Shapes = None,
    budget: Annotated[
        float, typer.Option("--budget", help="Seconds of calls of each model, and again of profiled ones.")
    ] = 2.0,
    top: Annotated[int, typer.Option(min=0, help="Layers that have a row of their own; 0: all.")] = 20,
    seed: given.Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all layers as JSON here.")] = None,
) -> None:
    """Profile an ONNX file: the time of each layer, its MACs and bytes, and its share of the measured roofline."""
    if output is not None and not output.absolute().parent.is_dir():
        raise OutputError(f"{output}: there is no folder {output.parent}")
    grid = Grid(
        backends=list(dict.fromkeys(backend or ["ort"])),
        precision=precision,
        device=device,
        threads=numbers(threads, "--threads"),
        batches=numbers(batch, "--batch"),
        shapes=shapes(shape or []),
    )
    require_backends(grid.backends, device)
    models = label_models(model, against)
    for path in models.values():
        cost(path, shapes=grid.shapes)  # finds a broken file before anything is profiled
    shown = top or None
    found = LayerReport()
    with machine_lock(f"deploy layers {model}", say=say):
        for specs in grid.specs(models):
            profiles = [_profile(spec, budget, seed) for spec in specs]
            tables = [table for profile in profiles for table in profile_tables(profile, shown)]
            if against is None:
                found = found.model_copy(update={"profiles": (*found.profiles, *profiles)})
            else:
                pair = compare_layers(profiles[1], profiles[0])
                found = found.model_copy(update={"comparisons": (*found.comparisons, pair)})
                tables += comparison_tables(pair, shown)
            if output is not None:
                write_file(output, found.model_dump_json(indent=1) + "\n")
            print_tables(*tables)


def _profile(spec: SubjectSpec, budget_s: float, seed: int) -> LayerProfile:
    return profile_layers(spec, budget_s=budget_s, seed=seed, progress=lambda line: say(f"{spec.backend}: {line}"))
