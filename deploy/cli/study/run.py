"""``deploy study RECIPE``: compare pruning methods on one network, with equal budgets, recoveries and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backends.errors import OptionError
from deploy.cli import options as given
from deploy.cli.output import leave, note, print_json, print_line, print_tables, tell
from deploy.exit_codes import measured_code, sides
from deploy.files.atomic import write_file
from deploy.recipe import with_data_root
from deploy.report.markdown import require_block
from deploy.studies.methods.cluster import DaskCluster
from deploy.studies.methods.executor import Executor, LocalProcesses
from deploy.studies.methods.formatting import answers, failures
from deploy.studies.methods.gpus import visible_gpus
from deploy.studies.methods.page import BLOCK, study_page, write_page
from deploy.studies.methods.recipe import load_study
from deploy.studies.methods.results import StudyResults
from deploy.studies.methods.study import RESULTS, run_study
from deploy.studies.methods.summary import rule
from deploy.studies.methods.tables import tables

__all__ = ["run"]


def run(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="YAML file; see recipes/study-*.yaml and latency-*.yaml.")
    ],
    output: given.RunFolder = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that train at the same time.")] = 1,
    cluster: Annotated[
        str,
        typer.Option("--cluster", help="Address of a Dask scheduler whose workers do the jobs."),
    ] = "",
    gpus_per_job: Annotated[
        int,
        typer.Option("--gpus-per-job", min=1, help="GPUs that share a job's training (torchrun starts its processes)."),
    ] = 1,
    only: given.Only = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Measure speed after the trainings.")] = True,
    data_root: given.DataRoot = None,
    accept_unfit: given.AcceptUnfit = False,
    markdown: given.MarkdownPage = None,
    json: given.Json = False,
) -> None:
    """Compare pruning methods as RECIPE says: accuracy over seeds alongside measured speed.

    Every training is a process of its own. After an interruption the same command continues where it stopped.
    """
    loaded = with_data_root(load_study(recipe), data_root)
    if markdown is not None:
        require_block(markdown, BLOCK)
    folder = output or Path("runs") / loaded.name
    executor = _executor(cluster, folder.resolve(), jobs, gpus_per_job)
    results = run_study(
        loaded,
        folder.resolve(),
        executor,
        note,
        tell,
        only=tuple(only or ()),
        measured=measure,
        keep_unfit=accept_unfit,
    )
    if json:
        print_json(results.model_dump_json(indent=1))
    else:
        _print(results)
    page = folder / "study.html"
    write_file(page, study_page(results))
    if markdown is not None:
        write_page(results, markdown)
    note(f"Page: {page}   data: {folder / RESULTS}")
    missing = any(cell.outcome == "failed" for cell in results.cells) or any(row.reason for row in results.measured)
    measured = sides(row.comparison for row in results.measured)
    leave(measured_code(measured, missing=missing, accept_unfit=accept_unfit))


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
        print_line(f"failed: {line}")
    for answer in answers(results):
        print_line(answer)
    print_line(rule(results.metric))
