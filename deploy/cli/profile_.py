"""``deploy profile``: what the board is, and how a network fares on it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, cast

import typer

from benchmarks.errors import SettingError
from benchmarks.machine.affinity import parse_cores
from benchmarks.settings import Settings
from benchmarks.subject.given import GivenInputs
from deploy.cli import options as given
from deploy.cli.output import leave, print_json, tell
from deploy.edge.profile.markdown import profile_markdown
from deploy.edge.profile.page import profile_page
from deploy.edge.profile.record import PARTS, PartName
from deploy.edge.profile.run import Wanted, profile_on_board
from deploy.edge.profile.terminal import print_profile
from deploy.exit_codes import measured_code
from deploy.files.atomic import require_writable, write_file
from deploy.report.markdown import require_block, write_block
from deploy.results.bench_grid import Grid, label_models, shapes

__all__ = ["profile"]

_BLOCK = "deploy profile"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)")
_OPTIONAL = tuple(part for part in PARTS if part not in ("steady", "energy"))


def profile(
    model: given.Model,
    against: given.Against = None,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batch = None,
    shape: given.Shapes = None,
    inputs: given.InputsFile = None,
    input_value: given.InputValues = None,
    input_range: given.InputRanges = None,
    cores: given.Cores = None,
    sustain: Annotated[
        str, typer.Option("--sustain", help="Load each model for so long: 90s, 5m; 0: not at all.")
    ] = "30s",
    budget: given.Budget = 60.0,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", help=f"Leave out a part: {', '.join(_OPTIONAL)}; repeat for several.")
    ] = None,
    fast: given.Fast = False,
    no_check: given.NoCheck = False,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the profile here, as JSON.")] = None,
    page: given.PageFile = None,
    markdown: given.MarkdownPage = None,
    json: given.Json = False,
    verbose: given.Verbose = False,
) -> None:
    """Profile a network on this board: cold, steady and sustained speed, heat, memory, best setting, layers.

    All parts use the first backend; for --budget seconds its other settings and the other backends are tried too.
    What the board does not tell, and what the budget has no room for, is said.
    """
    for target in filter(None, (output, page)):
        require_writable(target)
    if markdown is not None:
        require_block(markdown, _BLOCK)
    settings = Settings(budget_s=budget, seed=seed, check=not no_check)
    backends = list(dict.fromkeys(backend or ["ort"]))
    wanted = Wanted(
        models=label_models(model, against),
        grid=Grid(
            backends=backends[:1],
            precision=precision,
            device=device,
            threads=(threads,),
            batches=(batch,),
            shapes=shapes(shape or []),
            cores=None if cores is None else parse_cores(cores),
            given=GivenInputs.read(inputs, input_value or (), input_range or ()),
        ),
        backends=backends[1:] if backend else None,
        settings=settings.quick() if fast else settings,
        sustain_s=_seconds(sustain),
        skip=_parts(skip or []),
        accepts_unfit=accept_unfit,
    )
    made = profile_on_board(wanted, tell, output)
    code = measured_code(made.results.all_measurements(), accept_unfit=accept_unfit)
    if page is not None:
        write_file(page, profile_page(made))
    if markdown is not None:
        write_block(markdown, _BLOCK, profile_markdown(made))
    if json:
        print_json(made.model_dump_json(indent=1))
    else:
        print_profile(made, code=code, output=output, page=page, verbose=verbose)
    leave(code, told=not json)


def _seconds(text: str) -> float:
    match = _LENGTH.fullmatch(text.strip())
    seconds = math.inf if match is None else float(match[1]) * _UNITS[match[2]]
    if not seconds <= 86_400:
        raise SettingError(f"--sustain {text!r}: write how long, for example 90s or 5m (a day at most); 0: not at all")
    return seconds


def _parts(names: list[str]) -> frozenset[PartName]:
    for name in names:
        if name not in _OPTIONAL:
            raise SettingError(f"--skip {name!r} is not one of {', '.join(_OPTIONAL)}")
    return cast("frozenset[PartName]", frozenset(names))
