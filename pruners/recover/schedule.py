"""The learning rate as a function of the step: no state, so resuming needs none."""

from __future__ import annotations

import math

from pruners.recover.settings import TrainSettings

__all__ = ["learning_rate"]


def learning_rate(settings: TrainSettings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of update number `step`.

    Parameters
    ----------
    settings : TrainSettings
        Names the schedule; see `pruners.recover.settings.TrainSettings`.
    step : int
        Counts from 0 over the whole training.
    steps_per_epoch : int
        Updates in one epoch.

    Notes
    -----
    Warm-up is linear and reaches ``lr`` with its last update (Goyal et al. 2017, section 2.2). Cosine:
    ``lr * (1 + cos(pi * t)) / 2`` with t the share done of the steps after warm-up.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in settings.milestones)
        return settings.lr * settings.gamma**passed
    done = (step - warmup) / (settings.epochs * steps_per_epoch - warmup)
    return settings.lr * (1 + math.cos(math.pi * done)) / 2
