"""``deploy bench`` and ``deploy compare``: measure an ONNX file, or two in turn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.errors import SettingError
from benchmarks.machine.affinity import parse_cores
from benchmarks.settings import NOT_A_VERDICT, Settings
from deploy.cli import options as given
from deploy.cli.boards.fetched import GivenCommand
from deploy.cli.measure.options import Feeds, Points
from deploy.cli.output import leave, print_json, say, tell
from deploy.exit_codes import WRONG_ANSWERS, exit_code
from deploy.files.atomic import require_writable
from deploy.report.formatting import failures
from deploy.report.page import write_page
from deploy.report.terminal import print_results
from deploy.results.bench_grid import Grid, bench_models, label_models
from deploy.results.results import Results, load

__all__ = ["bench", "compare", "show_fetched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """How a model or a pair of models is measured."""

    margin: given.Margin = None
    strict: given.Strict = False
    cores: given.Cores = None
    cold: given.Cold = False
    fast: given.Fast = False
    no_check: given.NoCheck = False
    accept_unfit: given.AcceptUnfit = False
    seed: given.Seed = 0

    def settings(self, trials: int | None, budget_s: float) -> Settings:
        return Settings(
            trials=trials,
            budget_s=budget_s,
            margin=given.MARGIN if self.margin is None else self.margin,
            strict=self.strict,
            cold=self.cold,
            seed=self.seed,
            check=not self.no_check,
        )

    def grid(self, points: Points, feeds: Feeds) -> Grid:
        return feeds.into(points.grid(None if self.cores is None else parse_cores(self.cores)))


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the results are written, and how much of them is printed."""

    output: given.OutputFile = None
    page: given.PageFile = None
    json: given.Json = False
    verbose: given.Verbose = False


def bench(
    model: given.Model,
    against: given.Against = None,
    *,
    points: Points,
    feeds: Feeds,
    trials: given.Trials = None,
    budget: given.Budget = 60.0,
    percentile: Annotated[
        float, typer.Option(help="Percentile of the latency to estimate, for example 99; sets how long to measure.")
    ] = 50.0,
    half_width: Annotated[
        float, typer.Option(help="Target half-width of its confidence interval, as a share of the percentile.")
    ] = 0.02,
    terms: _Terms,
    shown: _Shown,
) -> None:
    """Measure an ONNX file: check its answers, then latency, throughput and memory, in separate processes.

    With --against the two are measured in turn, as deploy compare BASELINE MODEL does, with its exit codes.
    """
    if against is None and (terms.margin is not None or terms.strict):
        option = "--strict" if terms.margin is None else "--margin"
        raise SettingError(f"{option} is for a comparison: give --against too")
    settings = replace(terms.settings(trials, budget), percentile=percentile / 100, half_width=half_width)
    _measure(label_models(model, against), terms.grid(points, feeds), settings, terms, shown)


def compare(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="ONNX file or bundle to compare against.")],
    candidate: Annotated[Path, typer.Argument(metavar="CANDIDATE", help="ONNX file or bundle that would replace it.")],
    *,
    points: Points,
    feeds: Feeds,
    trials: given.Trials = None,
    budget: given.Budget = 60.0,
    terms: _Terms,
    shown: _Shown,
) -> None:
    """Measure two ONNX files in turn, and decide whether CANDIDATE is faster than BASELINE.

    deploy bench CANDIDATE --against BASELINE is the same. Exit code 0: faster or equivalent, 1: slower, 3: not decided.
    """
    settings = terms.settings(trials, budget)
    _measure(label_models(candidate, baseline), terms.grid(points, feeds), settings, terms, shown)


def _measure(models: dict[str, Path], grid: Grid, settings: Settings, terms: _Terms, shown: _Shown) -> None:
    if shown.page is not None:
        require_writable(shown.page)
    if terms.fast:
        settings = settings.quick()
    results = bench_models(models, grid, settings, tell, shown.output, accepts_unfit=terms.accept_unfit)
    _show(results, models, shown, fast=terms.fast)


def show_fetched(file: Path, command: GivenCommand) -> None:
    """Show what either command wrote on a board.

    Raises
    ------
    ResultsError
        It is not a results file.
    BoardError
        It is of other models, or does not match the exit code that the board reports.
    """
    accepts_unfit = bool(command.options["accept_unfit"])
    results = load(file).model_copy(update={"accepts_unfit": accepts_unfit})
    command.require((row.sha256 for row in results.models), exit_code(results))
    model = command.path("model") or command.path("candidate")
    against = command.path("against") or command.path("baseline")
    assert model is not None
    json, verbose, fast = (bool(command.options[name]) for name in ("json", "verbose", "fast"))
    shown = _Shown(command.path("output"), command.path("page"), json, verbose)
    if shown.output is not None:
        results.save(shown.output)
    _show(results, label_models(model, against), shown, fast=fast, here=False)


def _show(results: Results, models: dict[str, Path], shown: _Shown, *, fast: bool, here: bool = True) -> None:
    if shown.page is not None:
        write_page(results, shown.page)
    code, measured = exit_code(results), results.all_measurements()
    # If nothing ran, the reasons are the answer.
    answered = not shown.json and (not all(one.failure for one in measured) or code == WRONG_ANSWERS)
    if shown.json:
        print_json(results.model_dump_json(indent=1))
    if answered:
        # A command with these paths would explain the speed of this machine, not of the board.
        paths = {label: str(path) for label, path in models.items()} if here else {}
        print_results(
            results, code=code, paths=paths, page="" if shown.page is None else str(shown.page), verbose=shown.verbose
        )
    else:
        for reason in failures(measured):
            say(f"deploy: {reason}")
        if fast:
            say(NOT_A_VERDICT)
    leave(code, told=answered)
