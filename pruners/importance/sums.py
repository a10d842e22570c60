"""`Sums`: float64 sums over the examples of all processes, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pruners.distributed import reduce_means
from pruners.errors import MethodError

__all__ = ["Sums"]


class Sums:
    """Running sums over the examples of batches.

    Parameters
    ----------
    who : str
        Names the criterion in messages.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._sums: list[Tensor] = []
        self.n = 0

    def add(self, sums: Sequence[Tensor], n: int) -> None:
        """Add a batch of `n` examples: tensors of the same shapes each time, already summed over its examples."""
        wide = [item.detach().to(torch.float64) for item in sums]
        self._sums = [old + new for old, new in zip(self._sums, wide, strict=True)] if self._sums else wide
        self.n += n

    def means(self) -> list[Tensor]:
        """Divide by the number of examples; under ``torch.distributed`` over those of all processes.

        Raises
        ------
        MethodError
            Nothing was added.
        """
        if not self.n:
            raise MethodError(f"{self._who}: there are no batches to score on")
        means, self.n = reduce_means([item / self.n for item in self._sums], self.n)
        self._sums = [item * self.n for item in means]
        return [item.cpu() for item in means]
