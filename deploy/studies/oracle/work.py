"""The torch half of the oracle study. Scores use training or validation images; test images are not read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from deploy.files.atomic import write_file
from deploy.recipe import Recipe
from deploy.run.progress import Progress
from deploy.run.run_stages import stages_of
from deploy.run.stages import StageStore
from deploy.run.steps import StepContext, examples, load_dense, scoring_loss, train_dense
from deploy.sources.datasets.data import load
from deploy.studies.oracle.results import CriterionRow, OracleResults
from deploy.studies.oracle.study import FOLDER, RESULTS, OracleSettings
from pruners.errors import MethodError, NothingToPruneError
from pruners.graph import trace
from pruners.importance.criteria import create_criterion
from pruners.importance.criterion import Criterion
from pruners.importance.evidence import Evidence
from pruners.importance.measures.oracle import ablate
from pruners.importance.ranks import correlate
from pruners.importance.scores import Scores
from pruners.recover.batches import ordered_batches
from pruners.recover.evaluate import evaluate

__all__ = ["study_recipe"]


def study_recipe(recipe_file: str, folder: str, settings_json: str) -> None:
    """Train the dense network of a resolved recipe as `deploy run` does, study it, and write ``oracle.json``.

    Called in a child process by `deploy.studies.oracle.study`.

    Raises
    ------
    MethodError
        A criterion does not exist, or the network has no feature map to ablate.
    NothingToPruneError
        The network has no group that can lose a unit.
    """
    recipe = Recipe.model_validate_json(Path(recipe_file).read_text(encoding="utf-8"))
    settings, store = OracleSettings.model_validate_json(settings_json), StageStore(Path(folder))
    criteria = [create_criterion(name) for name in settings.criteria]
    progress = Progress()
    with progress.steps("prepare the dense network"):
        context = StepContext(recipe=recipe, data=load(recipe.data), progress=progress)
        trained = stages_of(recipe, store).train
        if not trained.done:
            train_dense(context, trained.begin())
            trained.finish()
        results = _compare(context, settings, criteria, trained.folder)
    write_file(store.root / FOLDER / RESULTS, results.model_dump_json(indent=1) + "\n")


def _compare(
    context: StepContext, settings: OracleSettings, criteria: Sequence[Criterion], trained: Path
) -> OracleResults:
    recipe, data, progress = context.recipe, context.data, context.progress
    model = load_dense(context, trained)
    evidence = _evidence(context, model, settings)
    validation = evaluate(model, data.validation, metric=data.metric)
    with progress.bar("ablate each unit") as bar:
        started = time.perf_counter()
        oracle = ablate(evidence, bar.set)
        seconds = time.perf_counter() - started
    with progress.bar("score by each criterion") as bar:
        rows = []
        for done, criterion in enumerate(criteria):
            bar.set(criterion.name, done / len(criteria))
            rows.append(_row(criterion, evidence, oracle.absolute))
    return OracleResults(
        name=recipe.name,
        network=recipe.network.model_dump(mode="json"),
        data=recipe.data.name,
        split=settings.split,
        n_examples=oracle.n_examples,
        batch_size=settings.batch_size,
        seed=recipe.seed,
        metric=validation.metric,
        score=validation.score,
        loss=oracle.loss,
        seconds=seconds,
        losses=oracle.changes,
        rows=tuple(rows),
        tool_version=version("prune-deploy"),
    )


def _evidence(context: StepContext, model: nn.Module, settings: OracleSettings) -> Evidence:
    graph = trace(model, (examples(context, 2),))
    groups = tuple(group.name for group in graph.groups if group.prunable and group.n_units > 1)
    if not groups:
        raise NothingToPruneError("the network has no group of channels that could be ablated")
    return Evidence(
        model=model,
        graph=graph,
        groups=groups,
        batches=_drawn(context, settings),
        loss=scoring_loss(context),
        seed=context.recipe.seed,
    )


def _drawn(context: StepContext, settings: OracleSettings) -> list[tuple[Tensor, Tensor]]:
    data: Any = context.data.train_plain if settings.split == "train" else context.data.validation
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(context.recipe.seed))
    chosen = Subset(data, order[: settings.n_examples].tolist())
    return list(ordered_batches(chosen, batch_size=settings.batch_size))


def _row(criterion: Criterion, evidence: Evidence, oracle: Scores) -> CriterionRow:
    started = time.perf_counter()
    scores, left_out = _scores(criterion, evidence)
    seconds = time.perf_counter() - started
    correlation = correlate(scores, {name: oracle[name] for name in scores})
    return CriterionRow(
        criterion=criterion.name,
        paper=criterion.paper,
        per_group=dict(correlation.per_group),
        per_layer=correlation.per_layer,
        overall=correlation.overall,
        overall_l2=correlation.overall_l2,
        seconds=seconds,
        left_out=left_out,
    )


def _scores(criterion: Criterion, evidence: Evidence) -> tuple[Scores, dict[str, str]]:
    """Score all groups, or each alone if the criterion refuses one; also return why groups were refused."""
    try:
        return criterion.scores(evidence), {}
    except MethodError:
        pass
    scores: Scores = {}
    left_out: dict[str, str] = {}
    for name in evidence.groups:
        try:
            scores |= criterion.scores(replace(evidence, groups=(name,)))
        except MethodError as error:
            left_out[name] = str(error)
    return scores, left_out
