"""Measure the networks of a run: their test score on each backend, and their times in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from backends.base import CompileOptions
from benchmarks.answers.reference import read_reference
from benchmarks.records.measurement import Comparison
from benchmarks.settings import Settings
from benchmarks.subject.backend_options import compile_options
from benchmarks.subject.subject import SubjectSpec
from deploy.bundles.bundle import Bundle
from deploy.exporting.backend_score import score_on_backend
from deploy.recipe import Bench, Recipe
from deploy.results.bench_grid import saying_for
from deploy.run.pairs import measure_pair, read_pair
from deploy.run.stages import Stage, write_json
from deploy.sources.datasets.data import load

__all__ = ["check_backend", "measure_backend"]

Say = Callable[[str], None]


def _options(name: str, bench: Bench) -> CompileOptions:
    return compile_options(name, precision=bench.precision, threads=bench.threads, device=bench.device)


def check_backend(name: str, recipe: Recipe, bundles: Mapping[str, Bundle], stage: Stage, say: Say) -> dict[str, float]:
    """Measure the test score of every bundle through one backend, in separate processes.

    Returns
    -------
    dict of str to float
        By label: accuracy in [0, 1], or PSNR in dB.
    """
    file = stage.folder / "scores.json"
    if not stage.done:
        say(f"check the answers of {name} on the test set")
        stage.begin()
        data = load(recipe.data)
        options = _options(name, recipe.bench)
        scores = {
            label: score_on_backend(bundle.model, name, options, data.test, metric=data.metric).score
            for label, bundle in bundles.items()
        }
        write_json(file, scores)
        stage.finish()
    try:
        known: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        say(f"{file} is damaged: checking {name} again")
        stage.redo()
        return check_backend(name, recipe, bundles, stage, say)
    return known


def measure_backend(
    name: str, recipe: Recipe, bundles: Mapping[str, Bundle], stage: Stage, say: Say, *, keep_unfit: bool
) -> Comparison:
    """Measure dense and pruned in turn on one backend, checking their answers first. See `measure_pair`."""
    known = read_pair(stage, say, keep_unfit=keep_unfit)
    if known is not None:
        return known
    bench, options = recipe.bench, _options(name, recipe.bench)
    specs = {
        label: SubjectSpec(model=bundle.model, label=label, backend=name, options=options, batch=bench.batch)
        for label, bundle in bundles.items()
    }
    references = {label: read_reference(bundle.reference) for label, bundle in bundles.items()}
    return measure_pair(
        stage,
        specs["pruned"],
        specs["dense"],
        Settings(trials=bench.trials, budget_s=bench.budget_s, margin=bench.margin, seed=recipe.seed),
        saying_for(name, say),
        keep_unfit=keep_unfit,
        candidate_reference=references["pruned"],
        baseline_reference=references["dense"],
    )
