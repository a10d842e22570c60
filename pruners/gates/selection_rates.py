"""Schedule of AutoPruner's selection layers: alpha, its corrections, and lambda."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

__all__ = ["Ramp", "corrected"]

_SIDES = 0.9
"""Share of v outside [0.2, 0.8] below which alpha is raised."""
_FIRST_THRESHOLD_STEP = 0.05
"""How much the share of closed channels that raises alpha drops each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """alpha without its corrections: from `start` to `stop` in equal steps, one every `every` updates.

    Parameters
    ----------
    start, stop : float
        The first and the last level.
    every : int
        Updates per level; fewer if that gives less than 20 levels.
    updates : int
        Number of updates in the whole training.
    settle_after : float
        Share of the levels after which v has to be near 0 or 1.
    """

    start: float
    stop: float
    every: int
    updates: int
    settle_after: float

    @property
    def step(self) -> int:
        """Updates per level."""
        return min(self.every, max(1, self.updates // 20))

    @property
    def levels(self) -> int:
        """Number of levels."""
        return max(1, self.updates // self.step)

    def level(self, update: int) -> int:
        """Return the level (from 0) of update number `update` (from 0)."""
        return min(update // self.step, self.levels - 1)

    def alpha(self, update: int) -> float:
        """Return alpha of update number `update` (from 0)."""
        if self.levels == 1:
            return self.stop
        return self.start + (self.stop - self.start) * self.level(update) / (self.levels - 1)

    def settled(self, update: int) -> bool:
        """Return whether v has to be near 0 or 1 at update number `update` (from 0)."""
        return self.level(update) + 1 >= ceil(self.settle_after * self.levels)


def corrected(
    offset: float, threshold: float, *, closed: float, values: Tensor, rate: float, step: float, settled: bool
) -> tuple[float, float, float]:
    """Raise alpha if too many channels are closed or v stays in the middle, and update lambda.

    Parameters
    ----------
    offset : float
        What earlier corrections have added to alpha.
    threshold : float
        Share of closed channels at which alpha is raised; 0.95 at first.
    closed : float
        Share of channels closed according to the record of v.
    values : Tensor of shape (n_units,)
        v of the last update.
    rate : float
        r: share of the channels that is to be kept.
    step : float
        What a correction adds to alpha.
    settled : bool
        Whether v has to be near 0 or 1 by now.

    Returns
    -------
    tuple of float
        The next offset and threshold, and ``lambda = 100 * |r_b - r|`` with ``r_b = 1 - closed``.
    """
    if closed >= threshold:
        offset += step
        threshold = max(threshold - _FIRST_THRESHOLD_STEP, 1.0 - rate)
    at_sides = float(((values > 0.8) | (values < 0.2)).to(torch.float64).mean())
    if settled and at_sides < _SIDES:
        offset += step
    return offset, threshold, 100.0 * abs((1.0 - closed) - rate)
