"""Choose channels by LASSO: raise its penalty until no more coefficients than wanted are left."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Lasso", "lasso_units"]

_MOST_KNOTS = 8
"""For each unit: most come once, some go and come again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasso:
    """Units that LASSO keeps.

    Parameters
    ----------
    kept : tuple of int
        Ascending.
    penalty : float
        lambda of ``1/(2N) ||Y - sum_i beta_i Z_i||^2 + lambda ||beta||_1``, N the rows; 0 where every unit is kept.
    filled : int
        How many of the kept units have no coefficient at this penalty, because none leaves as many as wanted. They are
        those that come next when it is lowered: of the largest correlation with what the others leave.
    """

    kept: tuple[int, ...]
    penalty: float
    filled: int


def lasso_units(gram: Tensor, cross: Tensor, n_rows: int, n_kept: int) -> Lasso:
    """Raise lambda until ``||beta||_0 <= n_kept``, and keep the units with a coefficient.

    Between the penalties at which a coefficient comes or goes the others change linearly, so the path of all solutions
    is computed exactly (Efron et al. 2004, "Least angle regression", section 3.1): coordinate descent that ends a
    little early gives other units.

    Parameters
    ----------
    gram : Tensor
        ``<Z_i, Z_j>``, shape (C, C), float64.
    cross : Tensor
        ``<Z_i, Y>``, shape (C,), float64.
    n_rows : int
        N.
    n_kept : int
        Units wanted.
    """
    if n_kept >= len(cross):
        return Lasso(kept=tuple(range(len(cross))), penalty=0.0, filled=0)
    penalties, knots = _path(gram, cross, n_rows)
    has_coefficient = (knots[:, :-1] != 0) | (knots[:, 1:] != 0)  # anywhere strictly between two knots
    weakest = int((has_coefficient.sum(0) <= n_kept).nonzero()[-1])
    kept = has_coefficient[:, weakest]
    # First those with a coefficient, then those that the penalty holds back least.
    correlation = (cross - gram @ knots[:, weakest + 1]).abs()
    order = torch.sort(torch.where(kept, torch.inf, correlation), descending=True, stable=True).indices[:n_kept]
    return Lasso(
        kept=tuple(sorted(order.tolist())),
        penalty=float(penalties[weakest : weakest + 2].mean()),
        filled=n_kept - int(kept.sum()),
    )


def _path(gram: Tensor, cross: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Return the K penalties at which a coefficient comes or goes, falling, and the coefficients there, (C, K)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    size = gram.diagonal().max().item() or 1.0  # the library takes what is small for zero, whatever it is beside
    with warnings.catch_warnings():
        # Units that depend on others get no coefficient, and the path ends where only rounding is left to explain.
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
