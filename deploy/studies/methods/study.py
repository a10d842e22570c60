"""Run a whole study: do its jobs, measure the networks, and save every number to ``study.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.subject.backend_options import require_backends
from deploy.errors import SourceError
from deploy.files.validation_errors import suggestion
from deploy.report.formatting import score_name
from deploy.run.alignment import alignment_risk
from deploy.run.speed.profiled import require_layer_times
from deploy.run.stages import StageStore
from deploy.sources.boundary import versions
from deploy.sources.datasets.data import data_availability, metric_of
from deploy.studies.methods.executor import Executor
from deploy.studies.methods.jobs import StudyJob, StudyJobs, cell_name, jobs_of
from deploy.studies.methods.measuring import measure, measured_before
from deploy.studies.methods.recipe import StudyRecipe
from deploy.studies.methods.results import Cell, JobResult, MeasuredRow, StudyResults
from deploy.studies.methods.schedule import do_jobs, finished
from pruners.registry import method_class

__all__ = ["RESULTS", "run_study", "split_rule"]

Say = Callable[[str], None]
RESULTS = "study.json"


def run_study(
    recipe: StudyRecipe,
    root: Path,
    executor: Executor,
    say: Say,
    step: Say = lambda _: None,
    *,
    only: Sequence[str] = (),
    measured: bool = True,
    keep_unfit: bool = False,
) -> StudyResults:
    """Run the rest of a study.

    Parameters
    ----------
    recipe : StudyRecipe
        Recipe of the study.
    root : Path
        Folder of the study, created if missing; its ``study.json`` is written after every job.
    executor : Executor
        Executor of the jobs; measuring happens here, after the jobs, one pair at a time.
    say : callable
        Called with messages that deserve their own line: a job that ended, a network measured before.
    step : callable, optional
        Called with one short line for each step.
    only : sequence of str
        Patterns of the names of methods to work on; for the others, existing results are shown.
    measured : bool
        Whether to measure at all; finished comparisons are shown in any case.
    keep_unfit : bool
        Count measurements of an unfit machine as finished.

    Raises
    ------
    RecipeError, SourceError
        No method matches, or the network or the data is unknown.
    BackendUnavailableError, UnknownBackendError
        A backend cannot run here; nothing was done.
    TargetError
        A speed is asked for on a backend without a profiler by layer; nothing was done.
    OutputError
        The folder cannot be written to, or another study works in it.
    """
    jobs = jobs_of(recipe, only=only, measure=measured, processes=executor.processes)
    asked = list(dict.fromkeys(budget.on for budget in recipe.all_budgets if budget.on is not None))
    require_backends(recipe.bench.backends if measured else asked, recipe.bench.device)
    for backend in asked:
        require_layer_times(backend)
    _require_data(recipe)
    store = StageStore(root)
    with store.locked():
        exports = jobs if measured else jobs_of(recipe, processes=executor.processes)
        known = {_pair(row): row for row in measured_before(recipe, exports, store, say)}

        def save(results: dict[str, JobResult], rows: Iterable[MeasuredRow]) -> StudyResults:
            study = _gather(recipe, jobs, results, tuple(rows), executor.processes)
            study.save(root / RESULTS)
            return study

        def after(results: dict[str, JobResult]) -> None:
            save(results, known.values())

        for method in recipe.all_methods:
            if reason := method_class(method.method).lacking():
                say(f"{method.name} is left out: {reason}")
        left = [job.recipe.prune for job in jobs.pruned.values() if finished(root, job) is None]
        if risk := alignment_risk(left, recipe.bench, "budgets"):
            say(risk)
        results = do_jobs(jobs.all, root, executor, say, step, chosen=jobs.chosen, after=after)
        if not measured:
            return save(results, known.values())
        rows: list[MeasuredRow] = []
        for row in measure(recipe, jobs, results, store, say, step, keep_unfit=keep_unfit):
            rows.append(row)
            known[_pair(row)] = row
            save(results, known.values())
        return save(results, rows)


def split_rule(recipe: StudyRecipe, results: Iterable[Cell] = ()) -> str:
    """Describe how images are split, and what is chosen on which split."""
    data, train, metric = recipe.data, recipe.train, metric_of(recipe.data)
    scored = score_name(metric)
    sizes = next(
        (f" ({one.dense.n_validation} and {one.dense.n_test} images)" for one in results if one.dense is not None), ""
    )
    rules = {train.keep} | {one.fine_tune.keep for one in recipe.recoveries if one.fine_tune is not None}
    rules |= {one.distil.training.keep for one in recipe.recoveries if one.distil is not None}
    kept = {
        frozenset({"last"}): "the weights of the last epoch are kept, whatever they score",
        frozenset({"best"}): f"the weights of the epoch with the best validation {scored} are kept",
    }.get(frozenset(rules), f"the weights of the last epoch, or of the one with the best validation {scored}, are kept")
    whole = "" if metric == "accuracy" else " Photographs are divided whole: these images are pieces of them."
    return (
        f"{data.name}: {100 * data.validation_fraction:g} % of the training images are split off for validation by "
        f"seed {data.seed}; validation and test images{sizes} train nothing. {kept[0].upper()}{kept[1:]}. Test images "
        f"are looked at once, for the tables; nothing is chosen on them.{whole}"
    )


def _pair(row: MeasuredRow) -> tuple[str, str, int, str]:
    return row.method, row.budget, row.seed, row.backend


def _require_data(recipe: StudyRecipe) -> None:
    """Check in advance that the images are available."""
    kind = recipe.data.name.partition(":")[0]
    known = {one.name: one for one in data_availability(recipe.data.root)}
    if kind not in known:
        raise SourceError(f"unknown data set {kind!r}{suggestion(kind, tuple(known))}")
    if not known[kind].ok:
        raise SourceError(f"data set {kind!r} is missing: {known[kind].reason}; {known[kind].hint}")


def _gather(
    recipe: StudyRecipe,
    jobs: StudyJobs,
    results: dict[str, JobResult],
    rows: tuple[MeasuredRow, ...],
    processes: int,
) -> StudyResults:
    cells = tuple(_cells(recipe, jobs, results))
    return StudyResults(
        name=recipe.name,
        recipe=recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        split=split_rule(recipe, cells),
        versions=versions("prune-deploy", "torch", "torchvision"),
        processes=processes,
        cells=cells,
        measured=rows,
    )


def _cells(recipe: StudyRecipe, jobs: StudyJobs, results: dict[str, JobResult]) -> Iterable[Cell]:
    for method in recipe.all_methods:
        known = method_class(method.method)
        for budget in recipe.all_budgets:
            for recovery in recipe.recoveries:
                for seed in recipe.seeds:
                    dense = results.get(jobs.dense[seed].folder)
                    cell = Cell(
                        method=method.name,
                        removes=known.removes,
                        budget=budget.title,
                        recovery=recovery.title,
                        from_scratch=recovery.from_scratch,
                        seed=seed,
                        outcome="not run",
                        reason=known.lacking() or budget.refusal(known.removes) or "not done yet",
                        dense=None if dense is None else dense.scores,
                    )
                    name = cell_name(method.name, budget, seed)
                    prune, job = jobs.pruned.get(name), jobs.recovered.get(f"{name}/{recovery.title}")
                    yield cell if prune is None or job is None else _filled(cell, prune, job, results)


def _filled(cell: Cell, prune: StudyJob, job: StudyJob, results: dict[str, JobResult]) -> Cell:
    """Return the cell with the results of its two jobs."""
    changes: dict[str, Any] = {"key": job.key, "folder": job.folder, "plan_folder": prune.folder}
    if (pruned := results.get(prune.folder)) is not None:
        changes |= {name: getattr(pruned, name) for name in ("macs", "params", "zeros", "landing", "speeds")}
        changes["pruned"] = pruned.scores
    if (recovered := results.get(job.folder)) is not None:
        shared = ("reason", "lr", "epochs", "kept_epoch", "seconds", "training_seconds")
        changes |= {name: getattr(recovered, name) for name in shared}
        changes |= {"outcome": "failed" if recovered.reason else "ok", "recovered": recovered.scores}
    return cell.model_copy(update=changes)
