"""Short training between two removals of an iterative method."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from pruners.errors import TrainingError

__all__ = ["train_steps"]


def train_steps(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    n_updates: int,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
) -> None:
    """Update `model` in place by SGD in training mode; its mode is restored.

    The optimizer starts afresh, as each removal leaves different parameters.

    Parameters
    ----------
    model : Module
        The network, trained in place.
    batches : iterator
        Endless; `n_updates` are taken from it.
    loss : callable
        ``loss(outputs, labels)`` -> scalar Tensor.
    n_updates : int
        Batches to take.
    lr, momentum, weight_decay : float
        Of SGD; the defaults are those of Molchanov et al. 2017, section 3.

    Raises
    ------
    TrainingError
        The loss is not finite.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    training = model.training
    model.train()
    for update in range(n_updates):
        images, labels = next(batches)
        value = loss(model(images.to(device)), labels.to(device))
        if not torch.isfinite(value):
            raise TrainingError(
                f"the loss is {value.item()} at update {update + 1} between removals; lower lr ({lr:g})"
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.train(training)
