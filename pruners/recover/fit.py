"""An ordinary training loop, with a checkpoint after each epoch and exact resume.

It runs on Lightning Fabric, which moves the module to the device, casts, scales and averages gradients, and does
nothing else, so that the same loop runs on many GPUs and machines (torchrun, or any launcher that sets its variables).
Accelerate would serve as well, but its checkpoints pickle random states and schedulers, and it brings along a hub
client, which a tool that never downloads does not need.

Resume is exact without storing random states: each epoch seeds torch, and the order of the examples, from
(seed, epoch).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset

from pruners.distributed import broadcast_buffers
from pruners.errors import TrainingError
from pruners.gates.gate import Gate
from pruners.recover import checkpoint
from pruners.recover.batches import epoch_batches, epoch_seed, n_batches, ordered_batches
from pruners.recover.evaluate import sum_scores
from pruners.recover.history import Epoch, History, Objective, TrainProgress
from pruners.recover.losses import loss_function, score_each
from pruners.recover.metric import Metric, loss_of
from pruners.recover.schedule import learning_rate
from pruners.recover.settings import TrainSettings

__all__ = ["Epoch", "History", "Objective", "TrainProgress", "fit"]

_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LOOK_EVERY = 20
"""Updates between two reads of the loss, each of which waits for the device."""


def fit(
    model: nn.Module,
    train: Dataset[Any],
    validation: Dataset[Any] | None,
    settings: TrainSettings,
    *,
    metric: Metric = "accuracy",
    gate: Gate | None = None,
    objective: Objective | None = None,
    checkpoints: Path | None = None,
    progress: TrainProgress | None = None,
) -> History:
    """Train a network in place, by the loss of the settings or by an objective.

    Parameters
    ----------
    model : Module
        Maps images of shape (B, C, H, W) to scores of shape (B, n_classes), or to images. Its mode and its device are
        restored at the end.
    train, validation : Dataset
        Of (float32 Tensor of shape (C, H, W), int), or with an image in [0, 1] instead of the label. Validation data is
        never trained on; it is reported, and decides which epoch's weights are kept when ``settings.keep`` is "best".
    settings : TrainSettings
        Epochs, rates, loss and precision; see `pruners.recover.settings.TrainSettings`.
    metric : {"accuracy", "psnr"}
        Metric that fits the targets.
    gate : Gate, optional
        Attached to the model: it adds its penalty, makes its own updates, and can end the training. The epoch in which
        it does so ends there and is the last.
    objective : Objective, optional
        Minimised instead of the settings' loss; see `pruners.recover.distill`. Label smoothing is then up to the
        objective.
    checkpoints : Path, optional
        Folder of the checkpoint; a second call with the same folder resumes after the last finished epoch and ends with
        the same weights, bit for bit, as an uninterrupted call.
    progress : TrainProgress, optional
        Notified of updates and epochs; see `TrainProgress`.

    Raises
    ------
    TrainingError
        The loss is not finite or does not fit the targets, a checkpoint is broken or belongs to something else, the
        device does not support the precision, "best" is requested without validation data, or the batch cannot be
        divided evenly among the processes of a launcher.
    """
    if objective is not None and settings.label_smoothing:
        raise TrainingError("label_smoothing is of cross-entropy; an objective smooths labels by itself")
    if settings.keep == "best" and validation is None:
        raise TrainingError("keep 'best' needs validation data: the best epoch is never chosen on other data")
    return _Fit(model, train, validation, settings, metric, gate, objective, checkpoints, progress).run()


def _fabric(settings: TrainSettings, *, gated: bool) -> Fabric:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    if settings.batch_size % world:
        raise TrainingError(
            f"{world} processes cannot share batches of {settings.batch_size} evenly; take a multiple of {world}"
        )
    # A gate may be idle for a while: its parameters then get no gradient, and DDP has to look for such ones.
    shared = "ddp_find_unused_parameters_true" if gated else "ddp"
    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=world // local,
        strategy=shared if world > 1 else "auto",
        precision=_PRECISION[settings.precision],
    )
    if settings.precision == "fp16" and fabric.device.type == "cpu":
        raise TrainingError("precision fp16 needs a GPU; on this machine take fp32 or bf16")
    fabric.launch()
    return fabric


class _Fit:
    def __init__(
        self,
        model: nn.Module,
        train: Dataset[Any],
        validation: Dataset[Any] | None,
        settings: TrainSettings,
        metric: Metric,
        gate: Gate | None,
        objective: Objective | None,
        checkpoints: Path | None,
        progress: TrainProgress | None,
    ) -> None:
        self.raw = model
        self.gate = gate
        self.objective = objective
        self.train = train
        self.validation = validation
        self.settings = settings
        self.metric = metric
        self.loss = loss_of(metric, settings.loss, settings.label_smoothing)
        self.mean_loss = loss_function(self.loss, settings.label_smoothing)
        self.progress = progress
        self.steps = n_batches(train, settings.batch_size)
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.file = None if checkpoints is None else checkpoints / "last.pt"
        self.rows: list[Epoch] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self) -> History:
        home = next(self.raw.parameters()).device
        training = self.raw.training
        with _callers_random_state():
            self.fabric = _fabric(self.settings, gated=self.gate is not None)
            self.raw.to(memory_format=self.layout)
            self.optimizer: Any
            self.model, self.optimizer = self.fabric.setup(self.raw, self._new_optimizer())
            self._resume()
            self._meet()
            if self.gate is not None:
                self.gate.expect(self.settings.epochs * self.steps)
            for epoch in range(len(self.rows) + 1, self.settings.epochs + 1):
                if self._finished:
                    break
                self._epoch(epoch)
                self._save()
        kept = len(self.rows)
        if self.best is not None:
            _, kept, weights = self.best
            self.raw.load_state_dict(weights)
        self.raw.to(home).to(memory_format=torch.contiguous_format)
        self.raw.train(training)
        return History(epochs=tuple(self.rows), kept_epoch=kept, lr=self.settings.lr)

    @property
    def _finished(self) -> bool:
        return self.gate is not None and self.gate.finished

    def _new_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        parameters: Any = [parameter for parameter in self.raw.parameters() if parameter.requires_grad]
        if self.gate is not None:
            parameters = self.gate.parameter_groups(self.raw, settings.weight_decay)
        if settings.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )

    def _epoch(self, epoch: int) -> None:
        fabric, settings = self.fabric, self.settings
        torch.manual_seed(epoch_seed(settings.seed, epoch) + fabric.global_rank)
        started = time.perf_counter()
        sums = torch.zeros(3, dtype=torch.float64, device=fabric.device)
        self.model.train()
        batches = epoch_batches(
            self.train,
            batch_size=settings.batch_size,
            seed=settings.seed,
            epoch=epoch,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            num_workers=settings.num_workers,
        )
        rate, step = 0.0, 0
        for step, (images, targets) in enumerate(batches, start=1):
            rate = learning_rate(settings, (epoch - 1) * self.steps + step - 1, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._update(images.to(fabric.device, memory_format=self.layout), targets.to(fabric.device), sums, rate)
            if step % _LOOK_EVERY == 0:
                self._look(epoch, step, sums)
            if self._finished:
                break
        self._look(epoch, step, sums)
        seconds = time.perf_counter() - started
        score, loss, n = self._over_ranks(sums).tolist()
        if fabric.world_size > 1:
            broadcast_buffers(self.raw)
        checked = self._validate()
        row = Epoch(
            epoch=epoch,
            lr=rate,
            metric=self.metric,
            train_loss=loss / n,
            train_score=score / n,
            validation_loss=None if checked is None else checked[1] / checked[2],
            validation_score=None if checked is None else checked[0] / checked[2],
            seconds=seconds,
        )
        self.rows.append(row)
        if settings.keep == "best" and row.validation_score is not None:
            self._remember(row.validation_score, epoch)
        if self.progress is not None:
            self.progress.epoch(row)

    def _update(self, images: Tensor, targets: Tensor, sums: Tensor, rate: float) -> None:
        gate = self.gate
        outputs = self.model(images)
        loss = self._loss(outputs, images, targets)
        self.raw.zero_grad(set_to_none=True)
        self.fabric.backward(loss if gate is None else gate.with_penalty(loss))
        if gate is not None:
            gate.before_step(rate)
        if self.settings.clip_norm is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.settings.clip_norm)
        self.optimizer.step()
        if gate is not None:
            gate.after_step(rate)
        with torch.no_grad():
            sums[0] += score_each(self.metric, outputs, targets).sum()
            sums[1] += loss.detach() * len(targets)
            sums[2] += len(targets)

    def _loss(self, outputs: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        if self.objective is None:
            return self.mean_loss(outputs, targets)
        with self.fabric.autocast():
            return self.objective(outputs, images, targets)

    def _look(self, epoch: int, step: int, sums: Tensor) -> None:
        loss = (sums[1] / sums[2]).item()
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingError(
                f"the loss is {loss} in epoch {epoch} by update {step} of {self.steps}; lower lr ({self.settings.lr:g})"
            )
        if self.progress is not None:
            self.progress.step(epoch, step, self.steps, loss)

    def _validate(self) -> list[float] | None:
        if self.validation is None:
            return None
        batches = ordered_batches(
            self.validation,
            batch_size=256,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            num_workers=self.settings.num_workers,
        )
        sums = sum_scores(
            self.raw, batches, metric=self.metric, loss=self.loss, channels_last=self.settings.channels_last
        )
        values: list[float] = self._over_ranks(sums.to(self.fabric.device)).tolist()
        return values

    def _over_ranks(self, sums: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return sums
        reduced = self.fabric.all_reduce(sums, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    def _remember(self, score: float, epoch: int) -> None:
        if self.best is None or score > self.best[0]:
            weights = {name: value.detach().cpu().clone() for name, value in self.raw.state_dict().items()}
            self.best = (score, epoch, weights)

    def _fingerprint(self) -> dict[str, str]:
        settings = self.settings.model_dump(mode="json")
        if self.objective is not None:
            settings["objective"] = self.objective.to_json()
        n_examples = len(self.train)  # type: ignore[arg-type]
        return checkpoint.fingerprint(self.raw, settings, n_examples, self.fabric.world_size)

    def _save(self) -> None:
        if self.file is None or self.fabric.global_rank != 0:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(
            self.file,
            {
                "fingerprint": self._fingerprint(),
                "rows": [asdict(row) for row in self.rows],
                "model": self.raw.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best,
            },
        )

    def _meet(self) -> None:
        """Wait until every process has read the checkpoint, and make sure that it was the same one.

        Raises
        ------
        TrainingError
            The processes do not see the same folder.
        """
        if self.fabric.world_size == 1:
            return
        epochs_done = self._over_ranks(torch.tensor(float(len(self.rows)), device=self.fabric.device))
        if epochs_done.item() != len(self.rows) * self.fabric.world_size:
            raise TrainingError(
                f"the processes of one training found other checkpoints in {self.file and self.file.parent}: it has to "
                "lie on a disk that all of them share"
            )

    def _resume(self) -> None:
        state = None if self.file is None else checkpoint.read(self.file, self._fingerprint())
        if state is None:
            return
        self.raw.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = [Epoch(**row) for row in state["rows"]]
        self.best = state["best"]
        if self.progress is not None:
            for row in self.rows:
                self.progress.epoch(row)


@contextmanager
def _callers_random_state() -> Iterator[None]:
    """Leave the caller's random state as it was: each epoch seeds torch anew."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield
