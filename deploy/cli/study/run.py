"""``deploy study RECIPE``: pruning methods compared on one network, with equal budgets, recoveries and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backends.errors import OptionError
from deploy.cli import options as given
from deploy.cli.output import print_tables, say
from deploy.exit_codes import OK, measured_code, sides
from deploy.report.markdown import require_block
from deploy.studies.methods.cluster import DaskCluster
from deploy.studies.methods.executor import Executor, LocalProcesses
from deploy.studies.methods.formatting import answers, failures
from deploy.studies.methods.gpus import visible_gpus
from deploy.studies.methods.page import BLOCK, write_page
from deploy.studies.methods.recipe import load_study
from deploy.studies.methods.results import StudyResults
from deploy.studies.methods.study import RESULTS, run_study
from deploy.studies.methods.summary import rule
from deploy.studies.methods.tables import tables

__all__ = ["run"]


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file; see recipes/study-*.yaml.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that keeps finished work; default: runs/NAME.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that train at the same time.")] = 1,
    cluster: Annotated[
        str,
        typer.Option("--cluster", help="Address of a Dask scheduler whose workers do the jobs."),
    ] = "",
    gpus_per_job: Annotated[
        int,
        typer.Option("--gpus-per-job", min=1, help="GPUs that share a job's training (torchrun starts its processes)."),
    ] = 1,
    only: Annotated[
        str, typer.Option("--only", help="Pattern of methods to work on; of the others what is done is shown.")
    ] = "",
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Measure speed after the trainings.")] = True,
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Where data sets lie; overrides the recipe.")
    ] = None,
    accept_unfit: given.AcceptUnfit = False,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Page that receives tables and plots, between its two marks.")
    ] = None,
) -> None:
    """Compare pruning methods as RECIPE says: accuracy over seeds and measured speed, side by side.

    Every training is a process of its own. After an interruption the same command goes on where it stopped.
    """
    loaded = load_study(recipe)
    if data_root is not None:
        loaded = loaded.model_copy(update={"data": loaded.data.model_copy(update={"root": data_root.resolve()})})
    if markdown is not None:
        require_block(markdown, BLOCK)
    folder = out or Path("runs") / loaded.name
    executor = _executor(cluster, folder.resolve(), jobs, gpus_per_job)
    results = run_study(loaded, folder.resolve(), executor, say, only=only, measured=measure, keep_unfit=accept_unfit)
    _print(results)
    if markdown is not None:
        write_page(results, markdown)
    typer.echo(f"\nData: {folder / RESULTS}", err=True)
    missing = any(cell.outcome == "failed" for cell in results.cells) or any(row.reason for row in results.measured)
    measured = sides(row.comparison for row in results.measured)
    if (code := measured_code(measured, missing=missing, accept_unfit=accept_unfit)) != OK:
        raise typer.Exit(code)


def _executor(cluster: str, folder: Path, jobs: int, gpus_per_job: int) -> Executor:
    if cluster:
        return DaskCluster(cluster, folder, processes=gpus_per_job)
    gpus = visible_gpus()
    if gpus_per_job > max(1, len(gpus)):
        raise OptionError(
            f"--gpus-per-job {gpus_per_job}: {len(gpus) or 'no'} GPUs are visible here; take at most that"
        )
    return LocalProcesses(jobs, processes=gpus_per_job, gpus=gpus)


def _print(results: StudyResults) -> None:
    print_tables(*tables(results))
    for line in failures(results):
        typer.echo(f"failed: {line}")
    for answer in answers(results):
        typer.echo(answer)
    typer.echo(rule(results.metric))
