"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "AcceptUnfit",
    "Backends",
    "Batches",
    "Budget",
    "Cold",
    "Cores",
    "Device",
    "Margin",
    "OutputFile",
    "PageFile",
    "Precision",
    "Seed",
    "Shapes",
    "Strict",
    "Threads",
    "Trials",
]

Backends: TypeAlias = Annotated[
    list[str] | None, typer.Option("--backend", "-b", help="Repeat for several; default: ort.")
]
Precision: TypeAlias = Annotated[str, typer.Option(help="fp32, bf16 or fp16; what was executed is read back.")]
Threads: TypeAlias = Annotated[
    str | None, typer.Option(help="Threads of one inference, or several: 1,2; default: all usable cores.")
]
Batches: TypeAlias = Annotated[
    str | None, typer.Option("--batch", help="Size of a free batch dimension, or several: 1,8; default: 1.")
]
Device: TypeAlias = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: cpu, cuda for trt.")]
Shapes: TypeAlias = Annotated[
    list[str] | None, typer.Option("--shape", help="NAME=D0,D1,...: sizes of free dimensions of an input.")
]
Trials: TypeAlias = Annotated[
    int | None, typer.Option(help="Fresh processes of each model; default: as many as the answer needs.")
]
Budget: TypeAlias = Annotated[
    float, typer.Option("--budget", help="Seconds for each backend; no process is started after them.")
]
Margin: TypeAlias = Annotated[float, typer.Option(help="Smallest effect that counts, as a share.")]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Say faster or slower only when the whole interval lies beyond the margin.")
]
AcceptUnfit: TypeAlias = Annotated[
    bool, typer.Option("--accept-unfit", help="Do not end with exit code 4 on a machine too noisy to be believed.")
]
Cold: TypeAlias = Annotated[
    bool, typer.Option("--cold", help="Also tell what compiling costs, with and without what was compiled before.")
]
Cores: TypeAlias = Annotated[str | None, typer.Option(help="Bind the measured processes to these cores: 0-3,8.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Of made-up inputs and of the order of measuring.")]
OutputFile: TypeAlias = Annotated[Path | None, typer.Option("--output", "-o", help="Write results.json here.")]
PageFile: TypeAlias = Annotated[Path | None, typer.Option("--page", help="Write the HTML page here.")]
