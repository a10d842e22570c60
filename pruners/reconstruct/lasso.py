"""Choose channels by LASSO: raise its penalty until at most the wanted number of coefficients is left."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Lasso", "lasso_units"]

_MOST_KNOTS = 8
"""Knots allowed per unit: most units enter once, some leave and enter again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasso:
    """Units that LASSO keeps.

    Parameters
    ----------
    kept : tuple of int
        Ascending.
    penalty : float
        lambda of ``1/(2N) ||Y - sum_i beta_i Z_i||^2 + lambda ||beta||_1``, with N rows; 0 if every unit is kept.
    filled : int
        Number of kept units that have no coefficient at this penalty, because no penalty leaves exactly the wanted
        number. They are those most correlated with the residual, which would enter next if it were lowered.
    """

    kept: tuple[int, ...]
    penalty: float
    filled: int


def lasso_units(gram: Tensor, cross: Tensor, n_rows: int, n_kept: int) -> Lasso:
    """Raise lambda until ``||beta||_0 <= n_kept``, and keep the units with a coefficient.

    Between the penalties at which a coefficient enters or leaves, the others change linearly, so the path of all
    solutions is computed exactly (Efron et al. 2004, "Least angle regression", section 3.1): coordinate descent that
    stops a little early selects other units.

    Parameters
    ----------
    gram : Tensor
        ``<Z_i, Z_j>``, shape (C, C), float64.
    cross : Tensor
        ``<Z_i, Y>``, shape (C,), float64.
    n_rows : int
        N.
    n_kept : int
        Number of units to keep.
    """
    if n_kept >= len(cross):
        return Lasso(kept=tuple(range(len(cross))), penalty=0.0, filled=0)
    penalties, knots = _path(gram, cross, n_rows)
    has_coefficient = (knots[:, :-1] != 0) | (knots[:, 1:] != 0)  # anywhere strictly between two knots
    weakest = int((has_coefficient.sum(0) <= n_kept).nonzero()[-1])
    kept = has_coefficient[:, weakest]
    # First those with a coefficient, then those closest to entering.
    correlation = (cross - gram @ knots[:, weakest + 1]).abs()
    order = torch.sort(torch.where(kept, torch.inf, correlation), descending=True, stable=True).indices[:n_kept]
    return Lasso(
        kept=tuple(sorted(order.tolist())),
        penalty=float(penalties[weakest : weakest + 2].mean()),
        filled=n_kept - int(kept.sum()),
    )


def _path(gram: Tensor, cross: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return the K penalties at which a coefficient enters or leaves, falling, and the coefficients there, (C, K)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    size = gram.diagonal().max().item() or 1.0  # the library treats small values as zero, in absolute terms
    with warnings.catch_warnings():
        # Linearly dependent units get no coefficient, and the path ends where only rounding is left to explain.
        warnings.simplefilter("ignore", ConvergenceWarning)
        penalties, _, knots = lars_path_gram(
            (cross / size).numpy(),
            (gram / size).numpy(),
            n_samples=n_rows,
            method="lasso",
            max_iter=_MOST_KNOTS * len(cross),
        )
    if len(penalties) == 1:  # nothing correlates
        return torch.zeros(2).double(), torch.zeros(len(cross), 2).double()
    return torch.from_numpy(penalties * size), torch.from_numpy(knots)
