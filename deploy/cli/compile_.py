"""``deploy compile``: compile for a device, here or elsewhere, and list the layers that came out."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backends import registry
from deploy.backend_options import compile_options

__all__ = ["compile_model"]


def compile_model(
    model: Annotated[Path, typer.Option("--model", "-m", help="ONNX file, or a bundle's folder.")],
    backend: Annotated[str, typer.Option("--backend", "-b", help="One of `deploy list`.")] = "ort",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    threads: Annotated[int, typer.Option(help="Threads of one inference.")] = 1,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or sm_XY: an NVIDIA compute capability, without a GPU here.")
    ] = None,
) -> None:
    """Compile an ONNX file and list its layers: what was fused, and what the runtime put in by itself."""
    options = compile_options(backend, precision=precision, threads=threads, device=device)
    path = model / "model.onnx" if model.is_dir() else model
    started = perf_counter()
    compiled = registry.create(backend).compile(path, options)
    seconds = perf_counter() - started
    layers = compiled.layers()
    console = Console(highlight=False, markup=False)
    console.print(
        f"{path} compiled by {backend} for {options.device} in {compiled.executed_precision}: {seconds:.1f} s"
    )
    table = Table("layer", "kind", "ONNX nodes in it", title=f"{len(layers)} layers", title_justify="left")
    for layer in layers:
        cells = (layer.name, layer.kind, ", ".join(layer.nodes) or "- (put in by the runtime)")
        table.add_row(*map(Text, cells))  # names come from outside and may hold what rich takes for markup
    console.print(table)
    compiled.close()
