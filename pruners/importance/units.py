"""From values per position along an axis to values per unit of a group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["unit_sums"]


def unit_sums(values: Tensor, indices: Sequence[Sequence[int]]) -> Tensor:
    """Sum `values` over the positions of each unit.

    Parameters
    ----------
    values : Tensor of shape (..., n_positions)
        One number for each position along the axis that the units share.
    indices : sequence of sequence of int
        ``indices[unit]`` are the positions of that unit; units may have unequal numbers of them.

    Returns
    -------
    Tensor of shape (..., n_units)
    """
    positions = torch.tensor([p for unit in indices for p in unit], dtype=torch.long, device=values.device)
    owners = torch.tensor([u for u, unit in enumerate(indices) for _ in unit], dtype=torch.long, device=values.device)
    sums = values.new_zeros((*values.shape[:-1], len(indices)))
    return sums.index_add_(-1, owners, values.index_select(-1, positions))
