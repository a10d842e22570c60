"""The steps of the torch half: train, prune, fine-tune, as functions of a context and of folders.

A folder of a trained network holds ``weights.safetensors``; that of a pruned one also ``plan.json`` and
``pruned.json``. `deploy.run.prepare` chains the steps of a run; the studies use them one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploy.bundles.manifest import NetworkScores
from deploy.bundles.of_pruned import proof_of
from deploy.bundles.pruning import SpeedLanding
from deploy.recipe import Recipe
from deploy.run.by_cost import prune_by_cost
from deploy.run.progress import Progress
from deploy.run.run_stages import speed_backend
from deploy.run.speed.pruning import prune_to_speed
from deploy.run.speed_tables import measure_tables, read_tables
from deploy.run.stages import write_json
from deploy.sources.datasets.data import DataSource
from deploy.sources.network import build
from pruners.forms.compact import load, save_weights
from pruners.gates.gate import Gate
from pruners.gates.masks import WeightMasks
from pruners.plan import PruningPlan
from pruners.recover.batches import EndlessBatches, epoch_seed, seeded
from pruners.recover.evaluate import Evaluation, evaluate
from pruners.recover.fit import Objective, fit
from pruners.recover.losses import loss_function
from pruners.recover.metric import Loss, loss_of
from pruners.recover.settings import TrainSettings
from pruners.recover.steps import train_steps
from pruners.registry import create
from pruners.removals import RemovalFolder
from pruners.target import Target
from pruners.task import PruningTask, Stream

__all__ = [
    "PLAN",
    "WEIGHTS",
    "SharedTraining",
    "SharedTrainingDone",
    "StepContext",
    "batches",
    "build_dense",
    "dense_scores",
    "end_if_shared",
    "evaluate_both",
    "examples",
    "finetune",
    "fit_network",
    "fit_pruned",
    "load_compact",
    "load_dense",
    "load_plan",
    "measure_dense",
    "prune_dense",
    "pruning_facts",
    "removals_folder",
    "scores_of",
    "scoring_loss",
    "train_dense",
    "validation_score",
    "zeros_of",
]

WEIGHTS = "weights.safetensors"
PLAN = "plan.json"
_FACTS = "pruned.json"
_SCORES = "scores.json"
_SCORE_STREAM, _UPDATE_STREAM, _DROP_STREAM = 1, 2, 6
_KEEP_EVERY_S = 30.0


class SharedTrainingDone(Exception):  # noqa: N818 - not an error
    """The training that this process shares is done; the first process does the rest."""


@dataclass(frozen=True, slots=True)
class SharedTraining:
    """Marks a process that only shares the trainings of another one.

    Parameters
    ----------
    own : Path
        Where this process works.
    kept : Path
        Where the first process works: both resume from the checkpoints there.
    """

    own: Path
    kept: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """Context shared by all steps.

    Parameters
    ----------
    recipe : Recipe
        Settings of all steps.
    data : DataSource
        What the recipe's data section names.
    progress : Progress
        Shows bars and lines.
    training_seed : int, default=0
        Added to the seed of every training.
    shared : SharedTraining, optional
        Set in a process that ends after the trainings it shares.
    """

    recipe: Recipe
    data: DataSource
    progress: Progress
    training_seed: int = 0
    shared: SharedTraining | None = None


def train_dense(context: StepContext, folder: Path) -> None:
    """Train the dense network, or save it as built if the recipe has no training."""
    model = build_dense(context)
    if context.recipe.train is not None:
        fit_network(context, "train the dense network", model, context.recipe.train, folder)
    save_weights(model, folder / WEIGHTS)


def dense_scores(context: StepContext, folder: Path) -> NetworkScores:
    """Return the scores of the dense network in `folder`, evaluated once on the prepared images."""
    file = folder / _SCORES
    if not file.is_file():
        write_json(file, scores_of(context, load_dense(context, folder)).model_dump(mode="json"))
    return NetworkScores.model_validate_json(file.read_text(encoding="utf-8"))


def scores_of(context: StepContext, model: nn.Module) -> NetworkScores:
    """Evaluate on validation and on test images."""
    with context.progress.bar("evaluate on validation and test images"):
        validation, test = evaluate_both(context, model)
    return NetworkScores(
        metric=context.data.metric,
        validation=validation.score,
        test=test.score,
        n_validation=validation.n,
        n_test=test.n,
    )


def measure_dense(context: StepContext, folder: Path, model: nn.Module) -> None:
    """Measure the latency tables for the recipe's speed targets into `folder`; weights do not matter."""
    recipe = context.recipe
    backends = ", ".join(dict.fromkeys(speed_backend(recipe, target) for target in recipe.prune.targets))
    inputs = (examples(context, 2 if recipe.export.dynamic_batch else recipe.bench.batch),)
    with context.progress.bar(f"measure widths on {backends}") as bar:
        measure_tables(recipe, model, inputs, folder, bar.set, context.progress.note)


def prune_dense(context: StepContext, folder: Path, *, trained: Path, table_folder: Path | None = None) -> None:
    """Prune the network in the folder `trained`, resuming from the last removals kept in `folder`.

    Parameters
    ----------
    table_folder : Path, optional
        Where `measure_dense` left the latency tables of speed targets; by default they are measured first.
    """
    recipe, section = context.recipe, context.recipe.prune
    method = create(section.method, **section.settings)
    updates = Stream(batches(context, _UPDATE_STREAM))
    loss = scoring_loss(context)

    def fit_in_stage(model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> None:
        fit_network(context, f"{section.method}: {name}", model, settings, folder / name, gate)

    def update(model: nn.Module, n_updates: int) -> None:
        with seeded(epoch_seed(epoch_seed(recipe.seed, _DROP_STREAM), updates.drawn)):
            train_steps(model, updates, loss, n_updates=n_updates, lr=section.lr)

    model, inputs = load_dense(context, trained), (examples(context, 2),)
    if section.target.is_speed and table_folder is None:
        table_folder = folder / "table"
        measure_dense(context, table_folder, model)
    with context.progress.bar(f"prune by {section.method}") as bar:
        tables = (
            ()
            if table_folder is None
            else read_tables(recipe, table_folder, bar.note, learned=removals_folder(context, folder))
        )
        task = PruningTask(
            model=model,
            example_inputs=inputs,
            target=Target(speed_up=2.0, table=tables[0].model) if tables else section.target.as_target(),
            constraints=section.constraints(lcm(*(table.model.block for table in tables))),
            seed=recipe.seed,
            batches=lambda: batches(context, _SCORE_STREAM),
            loss=loss,
            train=update,
            fit=fit_in_stage,
            keeper=RemovalFolder(removals_folder(context, folder), {"updates": updates}, every_s=_KEEP_EVERY_S),
            progress=bar.set,
        )
        landings: tuple[SpeedLanding, ...] = ()
        if not tables:
            pruned = method.prune(task)
        elif section.target.by is not None:
            pruned, landings = prune_by_cost(method, section.target.by, task, tables)
        else:
            pruned, landings = prune_to_speed(method, task, tables)
    for landing in landings:
        context.progress.note(str(landing))
    pruned.plan.save(folder / PLAN)
    save_weights(pruned.model, folder / WEIGHTS)
    write_json(
        folder / _FACTS,
        {
            "macs": [pruned.macs_before, pruned.macs_after],
            "parameters": [pruned.params_before, pruned.params_after],
            **proof_of(pruned, landings).model_dump(mode="json"),
            "zeros": pruned.zeros,
            "history": [dict(row) for row in pruned.history],
        },
    )


def finetune(context: StepContext, folder: Path, *, trained: Path, pruned: Path) -> None:
    """Fine-tune the network in the folder `pruned`, if the recipe has a fine-tuning."""
    model = load_compact(context, trained=trained, pruned=pruned)
    if context.recipe.finetune is not None:
        fit_pruned(context, "fine-tune the pruned network", model, context.recipe.finetune, folder, pruned=pruned)
    save_weights(model, folder / WEIGHTS)


def fit_pruned(
    context: StepContext,
    title: str,
    model: nn.Module,
    settings: TrainSettings,
    folder: Path,
    *,
    pruned: Path,
    objective: Objective | None = None,
) -> None:
    """Train a network of the folder `pruned`; weights that pruning set to zero stay zero."""
    masks = WeightMasks.of_zeros(model) if zeros_of(pruned) else None
    fit_network(context, title, model, settings, folder, masks, objective)
    if masks is not None:
        masks.fold()


def fit_network(
    context: StepContext,
    title: str,
    model: nn.Module,
    settings: TrainSettings,
    folder: Path,
    gate: Gate | None = None,
    objective: Objective | None = None,
) -> None:
    """Train `model` from the last checkpoint of `folder`, and leave ``history.json`` there.

    Raises
    ------
    SharedTrainingDone
        This process only shares the training.
    """
    settings = settings.model_copy(update={"seed": settings.seed + context.training_seed})
    with context.progress.training(title, settings.epochs) as bar:
        history = fit(
            model,
            context.data.train,
            context.data.validation,
            settings,
            metric=context.data.metric,
            gate=gate,
            objective=objective,
            checkpoints=_checkpoints(context, folder),
            progress=bar,
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "history.json", history.to_json())
    end_if_shared(context)


def end_if_shared(context: StepContext) -> None:
    """End a process that only shares trainings.

    Raises
    ------
    SharedTrainingDone
        It does.
    """
    if context.shared is not None:
        raise SharedTrainingDone


def build_dense(context: StepContext, *, seed: int | None = None, **changes: Any) -> nn.Module:
    """Build the dense network of the recipe, its weights drawn with `seed`, by default the recipe's.

    Parameters
    ----------
    changes
        Fields of the network's specification to replace.
    """
    torch.manual_seed(context.recipe.seed if seed is None else seed)
    return build(
        context.recipe.network.model_copy(update=changes),
        n_classes=context.data.n_classes,
        input_shape=context.data.input_shape,
        target_shape=context.data.target_shape,
    )


def load_dense(context: StepContext, trained: Path) -> nn.Module:
    """Build the dense network with the weights in the folder `trained`, in evaluation mode."""
    return build_dense(context, weights=str(trained / WEIGHTS), new_classifier=False).eval()


def load_compact(context: StepContext, *, trained: Path, pruned: Path, weights: Path | None = None) -> nn.Module:
    """Rebuild the pruned network, in evaluation mode.

    Parameters
    ----------
    trained, pruned : Path
        Folders of the dense network and of the plan.
    weights : Path, optional
        Folder of other weights than pruning left, such as fine-tuned ones.
    """
    file = (weights or pruned) / WEIGHTS
    dense, plan = load_dense(context, trained), load_plan(pruned)
    return load(dense, plan, file, form=context.recipe.prune.form).eval()


def load_plan(pruned: Path) -> PruningPlan:
    """Read the plan in the folder `pruned`."""
    return PruningPlan.load(pruned / PLAN)


def pruning_facts(pruned: Path) -> dict[str, Any]:
    """Read the results of pruning besides its plan: costs, landing, form, proof and history."""
    facts: dict[str, Any] = json.loads((pruned / _FACTS).read_text(encoding="utf-8"))
    return facts


def zeros_of(pruned: Path) -> int:
    """Return how many single weights pruning set to zero."""
    return int(pruning_facts(pruned)["zeros"])


def examples(context: StepContext, n: int) -> Tensor:
    """Return the first `n` validation images, of shape (n, C, H, W)."""
    validation: Any = context.data.validation
    return torch.stack([validation[index][0] for index in range(min(n, len(validation)))])


def batches(context: StepContext, stream: int) -> EndlessBatches:
    """Return endless training batches; each stream has its own order and augmentations."""
    seed = epoch_seed(context.recipe.seed, stream)
    return EndlessBatches(context.data.train, batch_size=context.recipe.prune.batch_size, seed=seed)


def scoring_loss(context: StepContext) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss that methods score and update by: that of the dense network's training, without smoothing."""
    return loss_function(loss_of(context.data.metric, _training_loss(context)))


def validation_score(context: StepContext, model: nn.Module) -> float:
    """Evaluate on validation images only, which may be used for choices."""
    data = context.data
    return evaluate(model, data.validation, metric=data.metric, loss=_training_loss(context)).score


def evaluate_both(context: StepContext, model: nn.Module) -> tuple[Evaluation, Evaluation]:
    """Evaluate on validation and on test images."""
    loss, data = _training_loss(context), context.data
    validation, test = (evaluate(model, part, metric=data.metric, loss=loss) for part in (data.validation, data.test))
    return validation, test


def removals_folder(context: StepContext, folder: Path) -> Path:
    """Return where an iterative pruning that works in `folder` keeps its progress."""
    return _checkpoints(context, folder) / "removals"


def _checkpoints(context: StepContext, folder: Path) -> Path:
    """Return where a training that works in `folder` keeps its last epoch."""
    shared = context.shared
    return (folder if shared is None else shared.kept / folder.relative_to(shared.own)) / "checkpoints"


def _training_loss(context: StepContext) -> Loss | None:
    return None if context.recipe.train is None else context.recipe.train.loss
