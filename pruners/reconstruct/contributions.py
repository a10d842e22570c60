"""What each unit of a group contributes to the layers that read it."""

from __future__ import annotations

import torch
from torch import Tensor

from pruners.reconstruct.readers import Reader

__all__ = ["contribution_moments", "owners", "scalar_contributions"]

_BLOCK = 1024
"""Number of columns whose products with all columns are held at once."""


def owners(reader: Reader, weight: Tensor) -> Tensor:
    """Return the unit of each column of the flattened weight, -1 for columns of other groups: shape (in * kernel,)."""
    kernel = weight[0, 0].numel()
    of_input = torch.full((weight.shape[1],), -1)
    for unit, positions in enumerate(reader.units):
        of_input[list(positions)] = unit
    return of_input.repeat_interleave(kernel)


def scalar_contributions(inputs: Tensor, filters: Tensor, owner: Tensor, n_units: int) -> Tensor:
    """Return the contribution of each unit to one output for each row.

    Parameters
    ----------
    inputs : Tensor
        Patches, shape (rows, in * kernel).
    filters : Tensor
        For each row, the flattened filter of its output: same shape.
    owner : Tensor
        See `owners`.
    n_units : int
        Units of the group.

    Returns
    -------
    Tensor
        Shape (rows, n_units), float64; each row sums to its output, minus the bias and the contributions of other
        groups.
    """
    own = owner >= 0
    products = inputs[:, own].double() * filters[:, own].double()
    return products.new_zeros(len(inputs), n_units).index_add_(1, owner[own], products)


def contribution_moments(
    inputs: Tensor, weight: Tensor, owner: Tensor, n_units: int, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the inner products of the units' contributions ``Z_i = X_i W_i^T`` with each other and with a target.

    Covers all outputs without ever materialising a ``Z_i``: ``<Z_i, Z_j> = <X_i^T X_j, W_i^T W_j>`` and
    ``<Z_i, Y> = <X_i^T Y, W_i^T>`` (Frobenius).

    Parameters
    ----------
    inputs : Tensor
        X, shape (rows, in * kernel).
    weight : Tensor
        W, shape (out, in * kernel).
    owner : Tensor
        See `owners`.
    n_units : int
        Units of the group.
    target : Tensor
        Y, shape (rows, out).

    Returns
    -------
    gram : Tensor
        Shape (n_units, n_units), float64.
    cross : Tensor
        Shape (n_units,), float64.
    """
    own = owner >= 0
    x, w, unit = inputs[:, own].double(), weight[:, own].double(), owner[own]
    gram = torch.zeros(n_units, n_units, dtype=torch.float64)
    for start in range(0, len(unit), _BLOCK):
        block = slice(start, start + _BLOCK)
        products = (x[:, block].T @ x) * (w[:, block].T @ w)
        by_unit = torch.zeros(len(products), n_units, dtype=torch.float64).index_add_(1, unit, products)
        gram.index_add_(0, unit[block], by_unit)
    cross = torch.zeros(n_units, dtype=torch.float64)
    cross.index_add_(0, unit, ((x.T @ target.double()) * w.T).sum(1))
    return gram, cross
