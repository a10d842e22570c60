"""The torch half of a run: train, prune, fine-tune, export two bundles.

Every step is a stage that is kept once finished, and training resumes from its last checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from benchmarks.subject.backend_options import require_backends
from deploy.bundles.manifest import NetworkOrigin, NominalCost, Provenance
from deploy.bundles.pruning import Proof
from deploy.bundles.write import write_bundle
from deploy.exporting.export_info import require_opset
from deploy.recipe import Recipe
from deploy.report.formatting import score_brief
from deploy.run.loss_check import require_channels, require_losses, require_repeatable
from deploy.run.progress import Progress
from deploy.run.run_stages import RunStages, speed_backend, stages_of
from deploy.run.smaller import Smaller, make_smaller
from deploy.run.speed_tables import require_speeds
from deploy.run.stages import StageStore
from deploy.run.steps import (
    StepContext,
    dense_scores,
    examples,
    load_compact,
    load_dense,
    load_plan,
    pruning_facts,
    scores_of,
    train_dense,
    zeros_of,
)
from deploy.sources.boundary import versions
from deploy.sources.datasets.data import load
from deploy.sources.datasets.told import division_sentence, preparation_sentence
from deploy.sources.network import provenance
from pruners.errors import MethodError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.registry import create

__all__ = ["prepare", "prepare_recipe", "refuse_early"]

_REFERENCE_EXAMPLES = 16


def prepare(context: StepContext, stages: RunStages) -> None:
    """Train, prune, fine-tune and export, skipping what is already done."""
    trained = stages.train.folder
    stages.train.ensure(lambda folder: train_dense(context, folder))
    _tell(context, trained)
    if not stages.export.done:
        smaller = make_smaller(context, stages)
        stages.export.ensure(lambda folder: _export(context, folder, trained, smaller))


def _tell(context: StepContext, trained: Path) -> None:
    """Report how the data is prepared and the dense network's scores on it, before any long work."""
    scores = dense_scores(context, trained)
    context.progress.note(division_sentence(context.data))
    context.progress.note(preparation_sentence(context.data))
    told = (
        f"{score_brief(scores.metric, value)} of {n} {part} images"
        for part, value, n in (
            ("validation", scores.validation, scores.n_validation),
            ("test", scores.test, scores.n_test),
        )
        if value is not None
    )
    context.progress.note(f"the dense network on them: {', '.join(told)}")


def _export(context: StepContext, folder: Path, trained: Path, smaller: Smaller) -> None:
    with context.progress.bar("export the dense network"):
        _write_bundle(context, folder / "dense", load_dense(context, trained), trained)
    with context.progress.bar("export the pruned network"):
        compact = load_compact(context, trained=trained, pruned=smaller.pruned, weights=smaller.tuned)
        _write_bundle(context, folder / "pruned", compact, trained, smaller)


def _write_bundle(
    context: StepContext, folder: Path, model: nn.Module, trained: Path, smaller: Smaller | None = None
) -> None:
    """Export a network with its record; `trained` holds the dense one, `smaller` describes the pruned one."""
    recipe, data = context.recipe, context.data
    plan: PruningPlan | None = None if smaller is None else load_plan(smaller.pruned)
    graph = trace(model, (examples(context, 2),))
    write_bundle(
        folder,
        model,
        (examples(context, _REFERENCE_EXAMPLES),),
        name=folder.name,
        plan=plan,
        scores=dense_scores(context, trained) if smaller is None else scores_of(context, model),
        cost=NominalCost(
            macs=graph.macs(),
            parameters=graph.parameters(),
            zeros=0 if smaller is None else zeros_of(smaller.pruned),
        ),
        provenance=Provenance(
            network=NetworkOrigin(
                spec=provenance(recipe.network),
                n_classes=data.n_classes,
                input_shape=data.input_shape,
                target_shape=data.target_shape,
            ),
            data=dict(data.provenance),
            method=None if plan is None else recipe.prune.method,
            settings={} if plan is None else dict(plan.settings),
            seeds={"recipe": recipe.seed},
            versions=versions("prune-deploy", "torch", "torchvision"),
        ),
        opset=recipe.export.opset,
        dynamic_batch=recipe.export.dynamic_batch,
        batch=None if recipe.export.dynamic_batch else recipe.bench.batch,
        proof=None if smaller is None else _proof(smaller),
    )


def _proof(smaller: Smaller) -> Proof:
    """Return how the pruning was checked, where it landed, and what else was tried."""
    facts = pruning_facts(smaller.pruned)
    known = {name: facts[name] for name in Proof.model_fields if name in facts}
    return Proof.model_validate({**known, "drop": smaller.search})


def refuse_early(recipe: Recipe) -> None:
    """Reject mistakes that can be found now rather than after hours of training.

    Raises
    ------
    MethodError, TrainingError, PlanError, ExportError
        The recipe has one.
    """
    method = create(recipe.prune.method, **recipe.prune.settings)
    if reason := method.lacking():
        raise MethodError(f"method {method.name!r}: {reason}")
    require_losses(recipe.data, recipe.train, recipe.finetune, method.settings)
    for target in recipe.prune.targets:
        require_repeatable(method, target.by)
    if not recipe.prune.target.is_speed:
        recipe.prune.target.as_target()
    else:
        require_channels(method)
        require_backends([speed_backend(recipe, target) for target in recipe.prune.targets], recipe.bench.device)
        require_speeds(recipe)
    require_opset(recipe.export.opset)


def prepare_recipe(recipe_file: str, folder: str) -> None:
    """Prepare the run in `folder` from a resolved recipe; called in a child by `deploy.run.pipeline`."""
    recipe = Recipe.model_validate_json(Path(recipe_file).read_text(encoding="utf-8"))
    refuse_early(recipe)
    progress = Progress()
    with progress.steps("prepare the networks"):
        context = StepContext(recipe=recipe, data=load(recipe.data), progress=progress)
        prepare(context, stages_of(recipe, StageStore(Path(folder))))
