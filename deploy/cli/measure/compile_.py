"""``deploy compile``: compile for a device, on this machine or not, and list the resulting layers."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from backends import registry
from benchmarks.subject.backend_options import compile_options
from deploy.cli import options as given
from deploy.cli.output import print_json, tell
from deploy.report.terminal import as_text
from deploy.results.bench_grid import onnx_file

__all__ = ["compile_model"]


def compile_model(
    model: given.Model,
    backend: given.Backend = "ort",
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or sm_XY: an NVIDIA compute capability, without a GPU here.")
    ] = None,
    json: given.Json = False,
) -> None:
    """Compile an ONNX file and list its layers: what was fused, and what the runtime added."""
    options = compile_options(backend, precision=precision, threads=threads, device=device)
    path = onnx_file(model)
    tell(f"{backend}: compiling {path}")
    started = perf_counter()
    compiled = registry.create(backend).compile(path, options)
    seconds = perf_counter() - started
    layers = compiled.layers()
    executed = compiled.executed_precision
    compiled.close()
    if json:
        print_json(
            dumps(
                {
                    "model": str(path),
                    "backend": backend,
                    "device": options.device,
                    "executed_precision": executed,
                    "compile_seconds": seconds,
                    "layers": [asdict(layer) for layer in layers],
                },
                indent=1,
            )
        )
        return
    console = Console(highlight=False, markup=False)
    about = f"{path} compiled by {backend} for {options.device} in {executed}: {seconds:.1f} s"
    console.print(as_text(about))
    table = Table("layer", "kind", "ONNX nodes in it", title=f"{len(layers)} layers", title_justify="left")
    for layer in layers:
        cells = (layer.name, layer.kind, ", ".join(layer.nodes) or "- (added by the runtime)")
        table.add_row(*map(as_text, cells))
    console.print(table)
