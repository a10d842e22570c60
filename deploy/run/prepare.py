"""The torch half of a run, in a process of its own: train, prune, fine-tune, export two bundles.

Started by `deploy.run.pipeline` as ``python -m deploy.run.prepare RECIPE.json FOLDER``; every step is a stage that is
kept once it finished, and training goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.recipe import Recipe
from deploy.run.stages import Stage, StageStore, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deploy.run.pipeline import RunStages
    from deploy.run.progress import Progress
    from deploy.sources.datasets.data import DataSource
    from pruners.gates.gate import Gate
    from pruners.plan import PruningPlan
    from pruners.recover.batches import EndlessBatches
    from pruners.recover.evaluate import Evaluation
    from pruners.recover.fit import Objective
    from pruners.recover.settings import TrainSettings
    from pruners.removals import Stream

__all__ = ["Preparation", "main"]

_REFERENCE_EXAMPLES = 16
_SCORE_STREAM, _UPDATE_STREAM, _DROP_STREAM = 1, 2, 6
_KEEP_EVERY_S = 30.0


class Preparation:
    """Train, prune, fine-tune and export as one recipe says.

    Parameters
    ----------
    recipe : Recipe
        See there.
    stages : RunStages
        Where the steps keep their work.
    data : DataSource
        What the recipe's data section names.
    progress : Progress
        Draws bars and says lines.
    """

    def __init__(self, recipe: Recipe, stages: RunStages, data: DataSource, progress: Progress) -> None:
        self.recipe = recipe
        self.stages = stages
        self.data = data
        self.progress = progress

    def run(self) -> None:
        """Do what is not done yet."""
        for stage, work in (
            (self.stages.train, self._train),
            (self.stages.prune, self._prune),
            (self.stages.finetune, self._finetune),
            (self.stages.export, self._export),
        ):
            if not stage.done:
                work(stage.begin())
                stage.finish()
                shutil.rmtree(self._removals(stage.folder), ignore_errors=True)

    def _build(self, weights: Path | None = None) -> nn.Module:
        """Build the dense network, seeded, with its own weights or those of a finished stage."""
        import torch

        from deploy.sources.network import build

        spec = self.recipe.network
        if weights is not None:
            spec = spec.model_copy(update={"weights": str(weights), "new_classifier": False})
        torch.manual_seed(self.recipe.seed)
        return build(
            spec,
            n_classes=self.data.n_classes,
            input_shape=self.data.input_shape,
            target_shape=self.data.target_shape,
        )

    def _loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return what methods score and update by: the loss of the dense network's training, without smoothing."""
        from pruners.recover.losses import loss_function
        from pruners.recover.metric import loss_of

        train = self.recipe.train
        return loss_function(loss_of(self.data.metric, None if train is None else train.loss))

    def _evaluate(self, model: nn.Module) -> tuple[Evaluation, Evaluation]:
        """Evaluate on validation and on test images."""
        from pruners.recover.evaluate import evaluate

        asked = None if self.recipe.train is None else self.recipe.train.loss
        parts = (self.data.validation, self.data.test)
        validation, test = (evaluate(model, part, metric=self.data.metric, loss=asked) for part in parts)
        return validation, test

    def _dense(self) -> nn.Module:
        return self._build(self.stages.train.folder / "weights.safetensors").eval()

    def _compact(self, stage: Stage) -> nn.Module:
        from pruners.forms.compact import load

        return load(
            self._dense(), self._plan(), stage.folder / "weights.safetensors", form=self.recipe.prune.form
        ).eval()

    def _plan(self) -> PruningPlan:
        from pruners.plan import PruningPlan

        return PruningPlan.load(self.stages.prune.folder / "plan.json")

    def _zeros(self) -> int:
        """Return how many single weights pruning set to zero: these stay zero."""
        return int(json.loads((self.stages.prune.folder / "pruned.json").read_text(encoding="utf-8"))["zeros"])

    def _examples(self, n: int) -> Tensor:
        """Return the first `n` validation images, of shape (n, C, H, W)."""
        import torch

        validation: Any = self.data.validation
        return torch.stack([validation[index][0] for index in range(min(n, len(validation)))])

    def _train(self, folder: Path) -> None:
        from pruners.forms.compact import save_weights

        model = self._build()
        if self.recipe.train is not None:
            self._fit("train the dense network", model, self.recipe.train, folder)
        save_weights(model, folder / "weights.safetensors")

    def _prune(self, folder: Path) -> None:
        from pruners.forms.compact import save_weights
        from pruners.registry import create
        from pruners.removals import RemovalFolder, Stream
        from pruners.task import PruningTask

        section = self.recipe.prune
        method = create(section.method, **section.settings)
        updates = Stream(self._batches(_UPDATE_STREAM))

        def fit_in_stage(model: nn.Module, settings: TrainSettings, *, name: str, gate: Gate | None = None) -> None:
            self._fit(f"{section.method}: {name}", model, settings, folder / name, gate)

        with self.progress.bar(f"prune by {section.method}") as bar:
            task = PruningTask(
                model=self._dense(),
                example_inputs=(self._examples(2),),
                target=section.target.as_target(),
                constraints=section.constraints(),
                seed=self.recipe.seed,
                batches=lambda: self._batches(_SCORE_STREAM),
                loss=self._loss(),
                train=lambda model, n_updates: self._update(model, n_updates, updates),
                fit=fit_in_stage,
                keeper=RemovalFolder(self._removals(folder), {"updates": updates}, every_s=_KEEP_EVERY_S),
                progress=bar.set,
            )
            pruned = method.prune(task)
        pruned.plan.save(folder / "plan.json")
        save_weights(pruned.model, folder / "weights.safetensors")
        write_json(
            folder / "pruned.json",
            {
                "macs": [pruned.macs_before, pruned.macs_after],
                "parameters": [pruned.params_before, pruned.params_after],
                "landing": pruned.landing,
                "zeros": pruned.zeros,
                "form": pruned.form,
                "form_reason": pruned.form_reason,
                "verification": dict(pruned.verification),
                "history": [dict(row) for row in pruned.history],
            },
        )

    def _batches(self, stream: int) -> EndlessBatches:
        """Return training batches without end; each stream has an order and augmentations of its own."""
        from pruners.recover.batches import EndlessBatches, epoch_seed

        seed = epoch_seed(self.recipe.seed, stream)
        return EndlessBatches(self.data.train, batch_size=self.recipe.prune.batch_size, seed=seed)

    def _update(self, model: nn.Module, n_updates: int, batches: Stream) -> None:
        from pruners.recover.batches import epoch_seed, seeded
        from pruners.recover.steps import train_steps

        with seeded(epoch_seed(epoch_seed(self.recipe.seed, _DROP_STREAM), batches.drawn)):
            train_steps(model, batches, self._loss(), n_updates=n_updates, lr=self.recipe.prune.lr)

    def _finetune(self, folder: Path) -> None:
        from pruners.forms.compact import save_weights

        model = self._compact(self.stages.prune)
        if self.recipe.finetune is not None:
            self._fit_pruned("fine-tune the pruned network", model, self.recipe.finetune, folder)
        save_weights(model, folder / "weights.safetensors")

    def _fit_pruned(
        self,
        title: str,
        model: nn.Module,
        settings: TrainSettings,
        folder: Path,
        objective: Objective | None = None,
    ) -> None:
        """Train a pruned network; weights that pruning set to zero stay zero."""
        from pruners.gates.masks import WeightMasks

        masks = WeightMasks.of_zeros(model) if self._zeros() else None
        self._fit(title, model, settings, folder, masks, objective)
        if masks is not None:
            masks.fold()

    def _fit(
        self,
        title: str,
        model: nn.Module,
        settings: TrainSettings,
        folder: Path,
        gate: Gate | None = None,
        objective: Objective | None = None,
    ) -> None:
        from pruners.recover.fit import fit

        with self.progress.training(title, settings.epochs) as bar:
            history = fit(
                model,
                self.data.train,
                self.data.validation,
                settings,
                metric=self.data.metric,
                gate=gate,
                objective=objective,
                checkpoints=self._checkpoints(folder),
                progress=bar,
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "history.json", history.to_json())

    def _removals(self, folder: Path) -> Path:
        """Return where a pruning in steps that works in `folder` keeps what it has done."""
        return self._checkpoints(folder) / "removals"

    def _checkpoints(self, folder: Path) -> Path:
        """Return where a training that works in `folder` keeps its last epoch."""
        return folder / "checkpoints"

    def _export(self, folder: Path) -> None:
        for label, model, plan in (
            ("dense", self._dense(), None),
            ("pruned", self._compact(self.stages.finetune), self._plan()),
        ):
            with self.progress.bar(f"export the {label} network"):
                self._write_bundle(folder / label, label, model, plan)

    def _write_bundle(self, folder: Path, label: str, model: nn.Module, plan: PruningPlan | None) -> None:
        from deploy.bundle.bundle import write_bundle
        from deploy.bundle.manifest import NetworkOrigin, NetworkScores, NominalCost, Provenance
        from deploy.sources.boundary import versions
        from deploy.sources.network import provenance
        from pruners.graph import trace

        zeros = 0 if plan is None else self._zeros()
        graph = trace(model, (self._examples(2),))
        validation, test = self._evaluate(model)
        write_bundle(
            folder,
            model,
            (self._examples(_REFERENCE_EXAMPLES),),
            name=label,
            plan=plan,
            scores=NetworkScores(
                metric=self.data.metric,
                validation=validation.score,
                test=test.score,
                n_validation=validation.n,
                n_test=test.n,
            ),
            cost=NominalCost(macs=graph.macs(), parameters=graph.parameters(), zeros=zeros),
            provenance=Provenance(
                network=NetworkOrigin(
                    spec=provenance(self.recipe.network),
                    n_classes=self.data.n_classes,
                    input_shape=self.data.input_shape,
                    target_shape=self.data.target_shape,
                ),
                data=dict(self.data.provenance),
                method=None if plan is None else self.recipe.prune.method,
                settings={} if plan is None else dict(plan.settings),
                seeds={"recipe": self.recipe.seed},
                versions=versions("prune-deploy", "torch", "torchvision"),
            ),
            opset=self.recipe.export.opset,
            dynamic_batch=self.recipe.export.dynamic_batch,
            batch=None if self.recipe.export.dynamic_batch else self.recipe.bench.batch,
        )


def _refuse_early(recipe: Recipe) -> None:
    """Find the mistakes that can be found now, not after hours of training."""
    from deploy.export.export import require_opset
    from deploy.run.loss_check import require_losses
    from pruners.registry import create

    method = create(recipe.prune.method, **recipe.prune.settings)
    require_losses(recipe.data, recipe.train, recipe.finetune, method.settings)
    recipe.prune.target.as_target()
    require_opset(recipe.export.opset)


def _end_with_parent() -> None:
    """Watch the pipe that the parent holds open: when it closes, the parent is gone and nobody wants the work."""

    def watch() -> None:
        # Not through sys.stdin: its lock would be held while the interpreter shuts down.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Prepare the run that the command line names."""
    from deploy.run.pipeline import stages_of
    from deploy.run.progress import Progress
    from deploy.sources.datasets.data import load
    from deploy.user_errors import guarded

    recipe_file, folder = map(Path, sys.argv[1:])

    def prepare() -> None:
        recipe = Recipe.model_validate_json(recipe_file.read_text(encoding="utf-8"))
        _refuse_early(recipe)
        Preparation(recipe, stages_of(recipe, StageStore(folder)), load(recipe.data), Progress()).run()

    _end_with_parent()
    guarded(prepare)


if __name__ == "__main__":
    main()
