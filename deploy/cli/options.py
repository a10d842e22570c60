"""Options that several commands share, and `spread`, which passes a group of options as one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer

__all__ = [
    "MARGIN",
    "AcceptUnfit",
    "Against",
    "Backend",
    "Backends",
    "Batch",
    "Batches",
    "Budget",
    "Cold",
    "Cores",
    "DataRoot",
    "Device",
    "Duration",
    "Fast",
    "InputRanges",
    "InputValues",
    "InputsFile",
    "Json",
    "Margin",
    "MarkdownPage",
    "Model",
    "NoCheck",
    "Only",
    "OutputFile",
    "PageFile",
    "Precision",
    "RunFolder",
    "Seed",
    "Shapes",
    "Strict",
    "Threads",
    "ThreadsList",
    "Trials",
    "Verbose",
    "spread",
]

Model: TypeAlias = Annotated[Path, typer.Argument(metavar="MODEL", help="ONNX file, or the folder of a bundle.")]
Against: TypeAlias = Annotated[
    Path | None,
    typer.Option("--against", metavar="BASELINE", help="ONNX file or bundle to compare MODEL with."),
]
Backends: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--backend", "-b", help="Backend, as shown by deploy list; repeat for several. Default: ort."),
]
Backend: TypeAlias = Annotated[str, typer.Option("--backend", "-b", help="Backend, as shown by deploy list.")]
Precision: TypeAlias = Annotated[
    str, typer.Option(help="fp32, bf16, fp16 or int8; the executed precision is read back and reported.")
]
Threads: TypeAlias = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of one inference; default: all usable cores.")
]
ThreadsList: TypeAlias = Annotated[
    str | None,
    typer.Option("--threads", help="Threads of one inference, or several: 1,2; default: all usable cores."),
]
Batch: TypeAlias = Annotated[int | None, typer.Option(min=1, help="Size of a free batch dimension; default: 1.")]
Batches: TypeAlias = Annotated[
    str | None, typer.Option("--batch", help="Size of a free batch dimension, or several: 1,8; default: 1.")
]
Device: TypeAlias = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default: cpu; for trt: cuda.")]
Shapes: TypeAlias = Annotated[
    list[str] | None, typer.Option("--shape", help="NAME=D0,D1,...: sizes of the free dimensions of an input.")
]
InputsFile: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--inputs",
        help="numpy.savez file with arrays by input name; other inputs are generated. For several examples in turn, "
        "repeat the option or give the arrays one more axis.",
    ),
]
InputValues: TypeAlias = Annotated[
    list[str] | None, typer.Option("--input", help="NAME=VALUE: fill an input with this number, for example sr=16000.")
]
InputRanges: TypeAlias = Annotated[
    list[str] | None, typer.Option("--input-range", help="NAME=LOW:HIGH: draw an input from this range.")
]
Trials: TypeAlias = Annotated[
    int | None, typer.Option(help="Fresh processes per model; default: as many as the answer needs.")
]
Budget: TypeAlias = Annotated[
    float,
    typer.Option("--budget", help="Seconds for each measurement on a backend; no process is started after that."),
]
Duration: TypeAlias = Annotated[float, typer.Option("--duration", help="About how many seconds to make calls for.")]
MARGIN = 0.03
Margin: TypeAlias = Annotated[
    float | None, typer.Option(help=f"Smallest effect that counts in a comparison, as a share; default: {MARGIN}.")
]
Strict: TypeAlias = Annotated[
    bool,
    typer.Option("--strict", help="Call it faster or slower only when the whole interval lies beyond the margin."),
]
AcceptUnfit: TypeAlias = Annotated[
    bool,
    typer.Option("--accept-unfit", help="Accept results from a machine judged too noisy (otherwise exit code 4)."),
]
NoCheck: TypeAlias = Annotated[
    bool, typer.Option("--no-check", help="Time it without comparing its answers, for models that draw random numbers.")
]
Fast: TypeAlias = Annotated[
    bool, typer.Option("--fast", help="First look in a few seconds: short warm-up, two trials, never a verdict.")
]
Cold: TypeAlias = Annotated[
    bool, typer.Option("--cold", help="Also measure compilation, with and without a warm compile cache.")
]
Cores: TypeAlias = Annotated[str | None, typer.Option(help="Pin the measured processes to these cores: 0-3,8.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of generated inputs and of the order of measurements.")]
OutputFile: TypeAlias = Annotated[Path | None, typer.Option("--output", "-o", help="Write results.json here.")]
PageFile: TypeAlias = Annotated[Path | None, typer.Option("--page", help="Write the HTML page here.")]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON on stdout; everything else goes to stderr.")
]
Verbose: TypeAlias = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print all tables and caveats below the answer.")
]
MarkdownPage: TypeAlias = Annotated[
    Path | None, typer.Option("--markdown", help="Markdown file to write the result into, between its two markers.")
]
RunFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder that keeps finished steps; default: runs/NAME.")
]
DataRoot: TypeAlias = Annotated[
    Path | None, typer.Option("--data-root", help="Directory of the data sets; overrides the recipe.")
]
Only: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--only", help="Name or pattern, for example 'l1-*'; repeat for several. Default: all."),
]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as typer needs it, with each group of options replaced by its options.

    Parameters
    ----------
    command : callable
        Its parameters are arguments, options, and groups: dataclasses whose fields are options with a default.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for one in inspect.signature(command, eval_str=True).parameters.values():
        if is_dataclass(one.annotation):
            groups[one.name] = one.annotation
            kinds = get_type_hints(one.annotation, include_extras=True)
            parameters += [
                inspect.Parameter(field.name, one.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name])
                for field in fields(one.annotation)
            ]
        else:
            parameters.append(one.replace(kind=one.KEYWORD_ONLY))

    @wraps(command)
    def collect(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    collecting: Any = collect
    collecting.__signature__ = inspect.Signature(parameters)
    return collect
