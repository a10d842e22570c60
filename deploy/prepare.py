"""The torch half of a run, in a process of its own: train, prune, fine-tune, export two bundles.

Started by `deploy.pipeline` as ``python -m deploy.prepare RECIPE.json FOLDER``; every step is a stage that is kept
once it finished, and training goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.recipe import Recipe
from deploy.stages import Stage, StageStore, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deploy.progress import Progress
    from deploy.sources.data import DataSource
    from pruners.plan import PruningPlan

__all__ = ["Preparation", "main"]

_REFERENCE_EXAMPLES = 16


class Preparation:
    """Train, prune, fine-tune and export as one recipe says.

    Parameters
    ----------
    recipe : Recipe
        See there.
    store : StageStore
        The run's folder.
    progress : Progress
        Draws bars and says lines.
    """

    def __init__(self, recipe: Recipe, store: StageStore, progress: Progress) -> None:
        from deploy.pipeline import stages_of

        self.recipe = recipe
        self.stages = stages_of(recipe, store)
        self.progress = progress
        self.data: DataSource = _data(recipe)

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

    def _build(self) -> nn.Module:
        """Build the dense network, seeded, without the weights of any stage."""
        import torch

        from deploy.sources.network import build

        torch.manual_seed(self.recipe.seed)
        return build(self.recipe.network, n_classes=self.data.n_classes, input_shape=self.data.input_shape)

    def _dense(self) -> nn.Module:
        from pruners.compact import load_weights

        model = self._build()
        load_weights(model, self.stages.train.folder / "weights.safetensors")
        return model.eval()

    def _compact(self, stage: Stage) -> nn.Module:
        from pruners.compact import load

        return load(self._build(), self._plan(), stage.folder / "weights.safetensors").eval()

    def _plan(self) -> PruningPlan:
        from pruners.plan import PruningPlan

        return PruningPlan.load(self.stages.prune.folder / "plan.json")

    def _example(self) -> tuple[Tensor, ...]:
        import torch

        return (torch.stack([self.data.validation[index][0] for index in range(2)]),)

    def _train(self, folder: Path) -> None:
        from pruners.compact import save_weights

        model = self._build()
        if self.recipe.train is not None:
            self._fit("train the dense network", model, self.recipe.train, folder)
        save_weights(model, folder / "weights.safetensors")

    def _prune(self, folder: Path) -> None:
        from pruners.compact import save_weights
        from pruners.registry import create
        from pruners.task import PruningTask

        section = self.recipe.prune
        method = create(section.method, **section.settings)
        with self.progress.bar(f"prune by {section.method}") as bar:
            task = PruningTask(
                model=self._dense(),
                example_inputs=self._example(),
                target=section.target.as_target(),
                constraints=section.constraints(),
                seed=self.recipe.seed,
                batches=self._batches,
                loss=_cross_entropy,
                train=self._updates,
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
                "verification": dict(pruned.verification),
                "history": [dict(row) for row in pruned.history],
            },
        )

    def _finetune(self, folder: Path) -> None:
        from pruners.compact import save_weights

        model = self._compact(self.stages.prune)
        if self.recipe.finetune is not None:
            self._fit("fine-tune the pruned network", model, self.recipe.finetune, folder)
        save_weights(model, folder / "weights.safetensors")

    def _fit(self, title: str, model: nn.Module, settings: Any, folder: Path) -> None:
        from pruners.recover.fit import fit

        with self.progress.training(title, settings.epochs) as bar:
            history = fit(
                model,
                self.data.train,
                self.data.validation,
                settings,
                checkpoints=folder / "checkpoints",
                progress=bar,
            )
        write_json(folder / "history.json", history.to_json())

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield training batches without end, in an order that the seed decides."""
        from pruners.recover.batches import epoch_batches

        for epoch in count():
            yield from epoch_batches(
                self.data.train, batch_size=self.recipe.prune.batch_size, seed=self.recipe.seed, epoch=epoch
            )

    def _updates(self, model: nn.Module, n_updates: int) -> None:
        from pruners.recover.steps import train_steps

        train_steps(model, self._training_batches, _cross_entropy, n_updates=n_updates, lr=self.recipe.prune.lr)

    def _export(self, folder: Path) -> None:
        from deploy.prepared_bundle import write_network

        for label, model, plan in (
            ("dense", self._dense(), None),
            ("pruned", self._compact(self.stages.finetune), self._plan()),
        ):
            with self.progress.bar(f"export the {label} network"):
                write_network(folder / label, label, model, plan, self.recipe, self.data)


def _data(recipe: Recipe) -> DataSource:
    from deploy.sources.data import load

    return load(recipe.data)


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs, labels)
