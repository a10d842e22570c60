"""``deploy profile``: profile a network on this board, and describe the board."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import typer

from benchmarks.errors import SettingError
from benchmarks.machine.affinity import parse_cores
from benchmarks.settings import Settings
from deploy.cli import options as given
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.measure.options import Feeds, names_of
from deploy.cli.output import leave, print_json, say, tell
from deploy.edge.profile.markdown import profile_markdown
from deploy.edge.profile.page import profile_page
from deploy.edge.profile.record import PARTS, PartName, Profile, load
from deploy.edge.profile.run import Wanted, profile_on_board
from deploy.edge.profile.terminal import print_profile, profile_code
from deploy.files.atomic import require_writable, write_file
from deploy.report.formatting import failures
from deploy.report.markdown import require_block, write_block
from deploy.results.bench_grid import Grid, label_models

__all__ = ["profile", "show_fetched"]

_BLOCK = "deploy profile"
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)")
_OPTIONAL = tuple(part for part in PARTS if part not in ("steady", "energy"))


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where a profile is written, and how much of it is printed."""

    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the profile here, as JSON.")] = None
    page: given.PageFile = None
    markdown: given.MarkdownPage = None
    json: given.Json = False
    verbose: given.Verbose = False


def profile(
    model: given.Model,
    against: given.Against = None,
    backend: given.Backends = None,
    precision: given.Precision = "fp32",
    threads: given.Threads = None,
    device: given.Device = None,
    batch: given.Batch = None,
    *,
    feeds: Feeds,
    cores: given.Cores = None,
    sustain: Annotated[
        str, typer.Option("--sustain", help="How long to load each model: 90s, 5m; 0: not at all.")
    ] = "30s",
    budget: given.Budget = 60.0,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", help=f"Leave out a part: {', '.join(_OPTIONAL)}; repeat for several.")
    ] = None,
    fast: given.Fast = False,
    no_check: given.NoCheck = False,
    accept_unfit: given.AcceptUnfit = False,
    seed: given.Seed = 0,
    shown: _Shown,
) -> None:
    """Profile a network on this board: cold, steady and sustained speed, heat, memory, best setting, layers.

    All parts use the first backend; for --budget seconds its other settings and the other backends are tried too.
    What the board does not report, and what does not fit in the budget, is listed.
    """
    for target in filter(None, (shown.output, shown.page)):
        require_writable(target)
    if shown.markdown is not None:
        require_block(shown.markdown, _BLOCK)
    settings = Settings(budget_s=budget, seed=seed, check=not no_check)
    backends = names_of(backend)
    wanted = Wanted(
        models=label_models(model, against),
        grid=feeds.into(
            Grid(
                backends=backends[:1],
                precision=precision,
                device=device,
                threads=(threads,),
                batches=(batch,),
                cores=None if cores is None else parse_cores(cores),
            )
        ),
        backends=backends[1:] if backend else None,
        settings=settings.quick() if fast else settings,
        sustain_s=_seconds(sustain),
        skip=_parts(skip or []),
        accepts_unfit=accept_unfit,
    )
    _show(profile_on_board(wanted, tell, shown.output), shown)


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what the command wrote on a board.

    Raises
    ------
    ResultsError
        It is not a profile.
    BoardError
        It is of other models, or does not match the exit code that the board reports.
    """
    made = load(file)
    accepts_unfit = bool(command.options["accept_unfit"])
    made = made.model_copy(update={"results": made.results.model_copy(update={"accepts_unfit": accepts_unfit})})
    command.require((row.sha256 for row in made.results.models), profile_code(made))
    output = command.path("output")
    if output is not None:
        made.save(output)
    json, verbose = bool(command.options["json"]), bool(command.options["verbose"])
    _show(made, _Shown(output, command.path("page"), command.path("markdown"), json, verbose))


def _show(made: Profile, shown: _Shown) -> None:
    code = profile_code(made)
    if shown.page is not None:
        write_file(shown.page, profile_page(made))
    if shown.markdown is not None:
        write_block(shown.markdown, _BLOCK, profile_markdown(made))
    measured = made.results.all_measurements()
    if not shown.json and all(one.failure for one in measured):
        # If nothing ran, the reasons are the answer.
        for reason in failures(measured):
            say(f"deploy: {reason}")
        leave(code)
    if shown.json:
        print_json(made.model_dump_json(indent=1))
    else:
        print_profile(made, output=shown.output, page=shown.page, verbose=shown.verbose)
    leave(code, told=not shown.json)


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
