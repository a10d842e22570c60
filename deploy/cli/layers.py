"""``deploy layers``: where the time of a call goes, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.layers.comparison import LayerComparison, LayerReport, compare_layers, other_widths
from benchmarks.layers.layer_profile import LayerProfile
from benchmarks.layers.profiler import profile_in_turn, same_nodes
from benchmarks.machine.lock import machine_lock
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.block import KnownBlock, known_block
from deploy.backend_options import require_backends
from deploy.cli import options as given
from deploy.cli.output import print_tables, say, teller
from deploy.files.atomic import require_writable, write_file
from deploy.report.layer_tables import comparison_tables, profile_tables
from deploy.results.bench_grid import Grid, label_models, numbers, shapes

__all__ = ["layers"]


def layers(
    model: given.Model,
    against: given.Against = None,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.ThreadsList = None,
    device: given.Device = None,
    batch: given.Batches = None,
    shape: given.Shapes = None,
    inputs: given.InputsFile = None,
    input_value: given.InputValues = None,
    input_range: given.InputRanges = None,
    duration: given.Duration = 2.0,
    top: Annotated[int, typer.Option(min=0, help="Layers to list, the slowest first; 0: all.")] = 20,
    seed: given.Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all layers here, as JSON.")] = None,
    json: given.Json = False,
    quiet: given.Quiet = False,
) -> None:
    """Profile an ONNX file layer by layer: time, MACs, bytes, and share of the measured roofline."""
    if output is not None:
        require_writable(output)
    grid = Grid(
        backends=list(dict.fromkeys(backend or ["ort"])),
        precision=precision,
        device=device,
        threads=numbers(threads, "--threads"),
        batches=numbers(batch, "--batch"),
        shapes=shapes(shape or []),
        given=GivenInputs.read(inputs, input_value or (), input_range or ()),
    )
    require_backends(grid.backends, device)
    models = label_models(model, against)
    for path in models.values():
        specs_of_file = model_specs(path)  # finds a broken file now
        resolve_sizes(specs_of_file, shapes={**grid.shapes, **grid.given.shapes(specs_of_file.inputs)})
    shown = top or None
    report = LayerReport()
    for specs in grid.specs(models):
        tell = partial(_tell, teller(quiet=quiet), specs[0].backend)
        with machine_lock(f"deploy layers {model}", say=say):
            profiles = profile_in_turn(specs, budget_s=duration, seed=seed, progress=tell)
        tables = [table for profile in profiles for table in profile_tables(profile, shown)]
        if against is None:
            report = report.model_copy(update={"profiles": (*report.profiles, *profiles)})
        else:
            pair = _compared(specs, profiles, seed, tell)
            report = report.model_copy(update={"comparisons": (*report.comparisons, pair)})
            tables += comparison_tables(pair, shown)
        if output is not None:
            write_file(output, report.model_dump_json(indent=1) + "\n")
        if not json:
            print_tables(*tables)
    if json:
        typer.echo(report.model_dump_json(indent=1))


def _compared(
    specs: Sequence[SubjectSpec], profiles: Sequence[LayerProfile], seed: int, tell: Callable[[str], None]
) -> LayerComparison:
    """Compare the second model with the first, with the blocks of this runtime where counts of channels differ."""
    block = KnownBlock(None, "unknown")
    if other_widths(profiles[1], profiles[0]):
        block = known_block(specs[0], seed=seed, say=tell)
    if block.why:
        tell(f"the number of channels computed together is not known: {block.why}")
    same = same_nodes(specs[1], specs[0])
    return compare_layers(profiles[1], profiles[0], same, block=block.size, block_from=block.source)


def _tell(tell: Callable[[str], None], backend: str, line: str) -> None:
    tell(f"{backend}: {line}")
