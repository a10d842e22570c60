"""The whole run: prepare the two networks, check their answers, measure them together, write the results.

This process loads no runtime: training and export run in one child (`deploy.run.prepare`), every compiled model in
children of its own. Each step is a stage that is skipped if it already finished for the same recipe.
"""

from __future__ import annotations

from collections.abc import Callable

from backends.errors import BackendError
from benchmarks.records.measurement import Comparison
from benchmarks.subject.backend_options import require_backends
from deploy.bundles.bundle import Bundle, read_bundle
from deploy.errors import BundleError, ExportError
from deploy.files.atomic import write_file
from deploy.recipe import Recipe
from deploy.report.page import write_page
from deploy.results.gather import results_of_run
from deploy.results.results import Results, Skipped
from deploy.run.alignment import alignment_risk
from deploy.run.child import call_in_child
from deploy.run.measure import check_backend, measure_backend
from deploy.run.run_stages import stages_of
from deploy.run.stages import Stage, StageStore

__all__ = ["run"]

Say = Callable[[str], None]


def run(recipe: Recipe, store: StageStore, say: Say, step: Say | None = None, *, accept_unfit: bool = False) -> Results:
    """Run the whole recipe, or what is left of it.

    Parameters
    ----------
    recipe : Recipe
        What to prepare and measure.
    store : StageStore
        The run's folder; ends up with ``results.json``, ``report.html`` and the bundles ``export/dense`` and
        ``export/pruned``.
    say : callable
        Receives messages worth a line of their own.
    step : callable, optional
        Receives one line per step; default: `say`.
    accept_unfit : bool, default=False
        Also finish measurements made on a machine that was unfit for them; otherwise the next run repeats them.

    Raises
    ------
    ChildFailedError
        The preparing child failed; its own message is already on stderr.
    DeployError, BackendError, BenchmarkError
        A backend is not usable, or something cannot be read or written.
    """
    stages, step = stages_of(recipe, store), step or say
    with store.locked():
        require_backends(recipe.bench.backends, recipe.bench.device)
        if not stages.export.done:
            if risk := alignment_risk([recipe.prune], recipe.bench):
                say(risk)
            _prepare(recipe, store)
        bundles = _bundles(stages.export, recipe, store, say)
        scores: dict[str, dict[str, float]] = {"dense": {}, "pruned": {}}
        comparisons: list[Comparison] = []
        skipped: list[Skipped] = []
        for name in recipe.bench.backends:
            try:
                backend_scores = check_backend(name, recipe, bundles, stages.check[name], step)
            except (BackendError, ExportError) as error:
                say(f"{name} failed: {error}")
                skipped.append(Skipped(backend=name, reason=" ".join(str(error).split())))
                continue
            for label, value in backend_scores.items():
                scores[label][name] = value
            pair = measure_backend(name, recipe, bundles, stages.bench[name], step, keep_unfit=accept_unfit)
            comparisons.append(pair)
        results = results_of_run(recipe, bundles, scores, comparisons, skipped=skipped, accepts_unfit=accept_unfit)
        results.save(store.root / "results.json")
        write_page(results, store.root / "report.html")
    return results


def _bundles(stage: Stage, recipe: Recipe, store: StageStore, say: Say) -> dict[str, Bundle]:
    """Read the exported bundles; damaged ones are exported again once."""

    def read() -> dict[str, Bundle]:
        return {label: read_bundle(stage.folder / label) for label in ("dense", "pruned")}

    try:
        return read()
    except BundleError as error:
        say(f"{error}: exporting again")
        stage.redo()
        _prepare(recipe, store)
        return read()


def _prepare(recipe: Recipe, store: StageStore) -> None:
    write_file(store.resolved, recipe.model_dump_json(indent=1) + "\n")
    call_in_child("deploy.run.prepare:prepare_recipe", store.resolved, store.root)
