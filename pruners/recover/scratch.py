"""Training the compact network from scratch: for how many epochs, and from which weights. Imports no torch.

Scratch-E and Scratch-B of Liu et al. 2019 ask what the weights kept by pruning are worth: the same compact network is
reinitialised and trained for as many *epochs* as the dense one, or for as much *computation*. Both use the learning
rate of the dense network's training. Fine-tuning, which they are compared with, uses a smaller one, and how small
decides which wins (Wang et al. 2023): read results together with `TrainSettings.lr`.

The rules are those of the authors' code. Their recipes: CIFAR, SGD with lr 0.1 divided by 10 at 50 % and 75 % of 160
epochs, batches of 64; ImageNet, 90 epochs, lr 0.1 divided by 10 at each third, batches of 256; momentum 0.9 and weight
decay 1e-4 in both. Fine-tuning takes 40 and 20 epochs at lr 0.001.

References
----------
Liu, Sun, Zhou, Huang, Darrell, "Rethinking the Value of Network Pruning", ICLR 2019, arXiv:1810.05270.
Wang et al., "Why is the State of Neural Network Pruning so Confusing?", 2023, arXiv:2301.05219.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pruners.errors import TrainingError
from pruners.recover.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

__all__ = ["budget_matched", "reinitialised", "scratch_b", "scratch_e"]


def scratch_e(settings: TrainSettings) -> TrainSettings:
    """Return the settings of Scratch-E: those with which the dense network was trained, its epochs included."""
    return settings


def scratch_b(
    settings: TrainSettings, *, dense: float, compact: float, rule: Literal["cifar", "imagenet"] = "cifar"
) -> TrainSettings:
    """Return the settings of Scratch-B: as much computation as the dense network's training.

    ======== ======================================================= ==================================================
    rule     epochs, with ``r = dense / compact``                    milestones of a step schedule
    ======== ======================================================= ==================================================
    cifar    ``int(epochs * r)``, without an upper limit             at the same shares of the training, rounded down
    imagenet ``int(epochs * r)``, and ``2 * epochs`` where r >= 2    each ``int(new epochs / 3)`` epochs
    ======== ======================================================= ==================================================

    Neither counts the fine-tuning that the pruned network gets in addition; `budget_matched` does. Where the number of
    epochs is not a multiple of 3, the imagenet rule divides the rate a third time for the last one or two epochs, as
    the authors' code does.

    Parameters
    ----------
    settings : TrainSettings
        Of the dense network's training.
    dense, compact : float
        FLOPs (or MACs) of both networks, counted alike.
    rule : {"cifar", "imagenet"}
        See above.

    Raises
    ------
    TrainingError
        The compact network costs nothing, or more than the dense one.
    """
    ratio = _ratio(dense, compact)
    if rule == "cifar":
        return _stretched(settings, int(settings.epochs * ratio))
    epochs = 2 * settings.epochs if ratio >= 2 else int(settings.epochs * ratio)
    changes: dict[str, object] = {"epochs": epochs}
    if settings.schedule == "step":
        third = max(1, epochs // 3)
        changes["milestones"] = tuple(range(third, epochs, third)) or (third,)
    return _changed(settings, changes)


def budget_matched(settings: TrainSettings, *, dense: float, compact: float, finetune_epochs: int) -> TrainSettings:
    """Return the settings of a training from scratch that costs what training, pruning and fine-tuning cost.

    ``int(K1 * F1 / F2 + K2)`` epochs: K1 epochs of the dense network at F1 FLOPs and K2 of fine-tuning at F2. What the
    pruning itself cost is left out.

    Parameters
    ----------
    settings : TrainSettings
        Of the dense network's training; milestones move to the same shares of the longer training.
    dense, compact : float
        F1 and F2, FLOPs (or MACs) of both networks, counted alike.
    finetune_epochs : int
        K2.

    Raises
    ------
    TrainingError
        As `scratch_b`, or a negative number of epochs.
    """
    if finetune_epochs < 0:
        raise TrainingError(f"fine-tuning takes 0 epochs or more, got {finetune_epochs}")
    return _stretched(settings, int(settings.epochs * _ratio(dense, compact) + finetune_epochs))


def reinitialised(model: nn.Module, seed: int, initialise: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """Return a copy of `model` with reinitialised parameters; see `pruners.recover.reinitialise`.

    Parameters
    ----------
    model : Module
        The compact network; not modified. One in graph form has no layers to reinitialise: apply the plan to a dense
        network initialised with another seed instead (`pruners.surgery.apply`).
    seed : int
        Seed of the random draws.
    initialise : callable, optional
        ``initialise(network)`` as the network's own code draws its weights; without it the layers' classes decide. The
        authors use He initialisation.

    Raises
    ------
    TrainingError
        Nothing draws some parameter; the message names it.
    """
    from pruners.modules.copies import copy_of
    from pruners.recover.reinitialise import reinitialise_

    fresh = copy_of(model)
    reinitialise_(fresh, seed, initialise)
    return fresh


def _ratio(dense: float, compact: float) -> float:
    if not 0 < compact <= dense:
        raise TrainingError(
            f"the compact network costs more than 0 and at most as much as the dense one, got {compact} of {dense}"
        )
    return dense / compact


def _stretched(settings: TrainSettings, epochs: int) -> TrainSettings:
    """Change the number of epochs; milestones stay at the same shares of the training, rounded down."""
    moved = {max(1, milestone * epochs // settings.epochs) for milestone in settings.milestones}
    return _changed(settings, {"epochs": epochs, "milestones": tuple(sorted(moved))})


def _changed(settings: TrainSettings, changes: dict[str, object]) -> TrainSettings:
    return TrainSettings.model_validate(settings.model_dump() | changes)
