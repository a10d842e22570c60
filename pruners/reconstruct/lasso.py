"""Choose channels by LASSO: raise its penalty until no more coefficients than wanted are left."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Lasso", "lasso_units"]

_BISECTIONS = 50
_SMALLEST = 1e-8
"""Penalty to start from, relative to the smallest one that leaves no coefficient."""


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
        those of the largest coefficients at the next smaller penalty that was tried.
    """

    kept: tuple[int, ...]
    penalty: float
    filled: int


def lasso_units(gram: Tensor, cross: Tensor, n_rows: int, n_kept: int) -> Lasso:
    """Raise lambda by bisection until ``||beta||_0 <= n_kept``, and keep the units with a coefficient.

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
    solve = _solver(gram / n_rows, cross / n_rows)
    most = (cross.abs().max().item() / n_rows) or 1.0
    weak, strong = math.log(most * _SMALLEST), math.log(most)
    dense, sparse = solve(math.exp(weak)), torch.zeros_like(cross)
    if int((dense != 0).sum()) <= n_kept:
        strong, sparse = weak, dense
    for _ in range(_BISECTIONS):
        if strong == weak or int((sparse != 0).sum()) == n_kept:
            break
        middle = (weak + strong) / 2
        solution = solve(math.exp(middle))
        if int((solution != 0).sum()) > n_kept:
            weak, dense = middle, solution
        else:
            strong, sparse = middle, solution
    with_coefficient = sparse != 0
    # First those with a coefficient, then those that lose theirs last.
    rank = dense.abs() + torch.where(with_coefficient, torch.inf, 0.0)
    order = torch.sort(rank, descending=True, stable=True).indices[:n_kept]
    return Lasso(
        kept=tuple(sorted(order.tolist())),
        penalty=math.exp(strong),
        filled=n_kept - int(with_coefficient.sum()),
    )


def _solver(gram: Tensor, cross: Tensor) -> Any:
    """Return ``solve(penalty)`` -> coefficients; each solution is the start of the next one.

    The data are as many rows as units, with the same Gram matrix: LASSO sees nothing else of them.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso as Estimator

    values, vectors = torch.linalg.eigh(gram)
    root = values.clamp_min(0).sqrt()
    used = root > 1e-7 * root.max()
    n = len(cross)
    x = (n**0.5 * root[:, None] * vectors.T * used[:, None]).numpy()
    y = (n**0.5 * torch.where(used, vectors.T @ cross / root.clamp_min(1e-300), 0.0)).numpy()
    estimator = Estimator(fit_intercept=False, warm_start=True, tol=1e-6, max_iter=20_000)

    def solve(penalty: float) -> Tensor:
        estimator.set_params(alpha=penalty)
        with warnings.catch_warnings():
            # Only which coefficients are zero is used, and that settles long before their last digits.
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(x, y)
        return torch.from_numpy(estimator.coef_.copy())

    return solve
