"""Time each pruned network in turn with the dense one: one pair at a time, in the parent, after all trainings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from backends.errors import BackendError
from benchmarks.errors import BenchmarkError
from benchmarks.records.measurement import Comparison
from benchmarks.settings import Settings
from deploy.results.bench_grid import Grid, saying_for
from deploy.run.pairs import measure_pair, measured_key, read_pair
from deploy.run.stages import StageStore
from deploy.studies.methods.jobs import MODEL, StudyJob, StudyJobs, cell_name
from deploy.studies.methods.recipe import StudyRecipe
from deploy.studies.methods.results import JobResult, MeasuredRow
from deploy.studies.methods.schedule import finished

__all__ = ["measure", "measured_before"]

Say = Callable[[str], None]
_SHOWN = 12


def measure(
    recipe: StudyRecipe,
    jobs: StudyJobs,
    results: dict[str, JobResult],
    store: StageStore,
    say: Say,
    step: Say,
    *,
    keep_unfit: bool = False,
) -> Iterator[MeasuredRow]:
    """Yield a row per network and backend; finished rows are reused, networks of one shape are measured once.

    Networks that are neither chosen nor available have no row.

    Parameters
    ----------
    recipe, jobs, results
        Recipe, jobs and results of the study.
    store : StageStore
        Its folder.
    say : callable
        Called with messages that deserve their own line.
    step : callable
        Called with one short line for each step.
    keep_unfit : bool
        Count rows of an unfit machine as finished.
    """
    wanted = jobs.chosen.union(results)
    return _rows(recipe, jobs, results, store, say, step, wanted=wanted, keep_unfit=keep_unfit, measures=True)


def measured_before(recipe: StudyRecipe, jobs: StudyJobs, store: StageStore, say: Say) -> Iterator[MeasuredRow]:
    """Yield the rows of finished comparisons, measured on a fit machine or not; nothing is measured.

    Parameters
    ----------
    recipe, jobs, store, say
        As in `measure`.
    """
    results = {
        job.folder: result for job in jobs.exported.values() if (result := finished(store.root, job)) is not None
    }
    rows = _rows(recipe, jobs, results, store, say, say, wanted=results, keep_unfit=True, measures=False)
    return (row for row in rows if row.comparison is not None)


def _rows(
    recipe: StudyRecipe,
    jobs: StudyJobs,
    results: dict[str, JobResult],
    store: StageStore,
    say: Say,
    step: Say,
    *,
    wanted: Collection[str],
    keep_unfit: bool,
    measures: bool,
) -> Iterator[MeasuredRow]:
    bench = recipe.bench
    settings = Settings(trials=bench.trials, budget_s=bench.budget_s, margin=bench.margin, seed=recipe.seeds[0])
    seeds = recipe.seeds[: recipe.measure_seeds]
    for backend in bench.backends:
        grid = Grid(
            backends=[backend],
            precision=bench.precision,
            device=bench.device,
            threads=(bench.threads,),
            batches=(bench.batch,),
        )
        dense = jobs.exported["dense"]
        pairs = _Pairs(dense, results, store, grid, settings, say, step, keep_unfit=keep_unfit, measures=measures)
        for method in recipe.all_methods:
            for budget in recipe.all_budgets:
                for seed in seeds:
                    name = cell_name(method.name, budget, seed)
                    pruned = jobs.exported.get(name)
                    if pruned is None or pruned.folder not in wanted:
                        continue
                    comparison, reason, same = pairs.of(pruned, name)
                    yield MeasuredRow(
                        method=method.name,
                        budget=budget.title,
                        seed=seed,
                        backend=backend,
                        comparison=comparison,
                        reason=reason,
                        same_as=same,
                    )


class _Pairs:
    """Measured pairs of one backend, by the shape of the pruned network."""

    def __init__(
        self,
        dense: StudyJob,
        results: dict[str, JobResult],
        store: StageStore,
        grid: Grid,
        settings: Settings,
        say: Say,
        step: Say,
        *,
        keep_unfit: bool,
        measures: bool,
    ) -> None:
        self.dense = dense
        self.results = results
        self.store = store
        self.grid = grid
        self.settings = settings
        self.say = say
        self.step = step
        self.keep_unfit = keep_unfit
        self.measures = measures
        self.known: dict[str, tuple[Comparison | None, str, str]] = {}

    def of(self, pruned: StudyJob, name: str) -> tuple[Comparison | None, str, str]:
        """Return the comparison, or why there is none, and whose comparison it is if not its own."""
        sides = [self.results.get(job.folder) for job in (self.dense, pruned)]
        for job, side in zip((self.dense, pruned), sides, strict=True):
            if side is None or side.reason:
                return None, f"{job.title}: {'not done yet' if side is None else side.reason}", ""
        shapes = [side.architecture for side in sides if side is not None]
        if shapes[1] in self.known:
            comparison, reason, whose = self.known[shapes[1]]
            return comparison, reason, whose
        comparison, reason = self._measure(pruned, name, shapes)
        self.known[shapes[1]] = (comparison, reason, name)
        return comparison, reason, ""

    def _measure(self, pruned: StudyJob, name: str, shapes: list[str]) -> tuple[Comparison | None, str]:
        (backend,) = self.grid.backends
        key = measured_key(shapes, self.grid, self.settings)
        stage = self.store.stage(f"measured/{backend}-{key[:_SHOWN]}", key)
        known = read_pair(stage, self.say, keep_unfit=self.keep_unfit)
        if not self.measures:
            return known, "" if known is not None else "not measured yet"
        if known is not None:
            self.say(f"{backend}: {name} was measured before")
            return known, ""
        paths = {"dense": self.dense, "pruned": pruned}
        ((dense, candidate),) = self.grid.specs(
            {label: self.store.root / job.folder / MODEL for label, job in paths.items()}
        )
        try:
            return measure_pair(
                stage,
                candidate,
                dense,
                self.settings,
                saying_for(f"{backend}: {name} beside the dense network", self.step),
                keep_unfit=self.keep_unfit,
            ), ""
        except (BackendError, BenchmarkError) as error:
            reason = " ".join(str(error).split())
            self.say(f"{backend}: {reason}")
            return None, reason
