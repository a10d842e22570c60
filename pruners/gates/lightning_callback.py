"""Lightning callback that applies a gate during training. Needs ``pytorch-lightning``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from pruners.errors import MethodError
from pruners.gates.gate import Gate

__all__ = ["GateCallback"]


class GateCallback(Callback):
    """Adds a gate's penalty to the loss, and calls the gate before and after each optimizer step.

    The gate is attached to the LightningModule, or to a network in it, before the Trainer starts; its state is part of
    the module's, so Lightning's checkpoints include it. Give the optimizer ``gate.parameter_groups(...)`` in
    ``configure_optimizers``. With gradient accumulation the gate is called once per optimizer step.

    Parameters
    ----------
    gate : Gate
        The gate to apply; see `pruners.gates.gate.Gate`.

    Raises
    ------
    MethodError
        When training starts: it is in fp16, whose gradients are scaled, or has several optimizers.

    Examples
    --------
    ::

        gate = BatchNormScales(module.network, graph, strength=1e-4)
        Trainer(max_epochs=40, callbacks=[GateCallback(gate)]).fit(module, batches)
        scores = gate.scores()
        gate.fold()
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self._step: Callable[..., Any] | None = None
        self._lr = 0.0
        self._done = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the module's ``training_step`` to add the penalty to its loss: one backward pass, also in parallel."""
        if str(trainer.precision) == "16-mixed":
            raise MethodError("gates read gradients, which fp16 scales: train in bf16-mixed or 32-true")
        self._step = step = pl_module.training_step

        def with_penalty(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            if isinstance(result, Tensor):
                return self.gate.with_penalty(result)
            if isinstance(result, Mapping):
                return {**result, "loss": self.gate.with_penalty(result["loss"])}
            return result

        object.__setattr__(pl_module, "training_step", with_penalty)
        self._done = trainer.global_step

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Let the gate modify gradients."""
        if len(trainer.optimizers) > 1:
            raise MethodError(f"{type(pl_module).__name__} has several optimizers: call the gate by hand")
        self._lr = float(optimizer.param_groups[0]["lr"])
        self.gate.before_step(self._lr)

    def on_train_batch_end(self, trainer: Trainer, *_: Any, **__: Any) -> None:
        """Let the gate update itself after an optimizer step, and stop training when it is finished."""
        if trainer.global_step > self._done:
            self._done = trainer.global_step
            self.gate.after_step(self._lr)
        if self.gate.finished:
            trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Restore the module's own ``training_step``."""
        self._unwrap(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Restore it also when training ends in an error."""
        self._unwrap(pl_module)

    def _unwrap(self, pl_module: LightningModule) -> None:
        if self._step is not None:
            pl_module.__dict__.pop("training_step", None)
            self._step = None
