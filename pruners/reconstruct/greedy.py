"""ThiNet's two greedy channel selections, and the scales of the kept channels, from one Gram matrix.

Rows of X are outputs of the next layer, columns the contributions of each unit to them; the output is their sum,
``y = X 1``. Everything here follows from ``G = X^T X``, whatever the number of rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["keep_greedily", "relative_error", "remove_greedily", "scales"]

_DEPENDENT = 1e-12
"""A unit of which less than this share is new counts as a combination of those already chosen."""


def remove_greedily(gram: Tensor, n_removed: int) -> tuple[int, ...]:
    """Grow the removed set T by the unit that keeps ``||sum_{j in T} x_j||^2`` smallest, O(C) per step.

    Parameters
    ----------
    gram : Tensor
        G, shape (C, C), float64.
    n_removed : int
        Size of T.

    Returns
    -------
    tuple of int
        T in the order of selection; ties go to the first unit.
    """
    # With s = sum_{i in T} G_i: ||X_T 1 + x_j||^2 = ||X_T 1||^2 + 2 s_j + G_jj, and the first term is the same for all.
    added = gram.diagonal().clone()
    removed: list[int] = []
    for _ in range(n_removed):
        unit = int(added.argmin())
        removed.append(unit)
        added += 2 * gram[unit]
        added[unit] = torch.inf
    return tuple(removed)


def keep_greedily(gram: Tensor, n_kept: int) -> tuple[int, ...]:
    """Grow the kept set S by the unit that fits the current residual best, and refit all of S: O(C^2) per step.

    The residual is ``r = y - X_S w`` with w the least-squares fit; the next unit minimises ``||r - a x_j||`` over j and
    a: orthogonal matching pursuit.

    Parameters
    ----------
    gram : Tensor
        G, shape (C, C), float64.
    n_kept : int
        Size of S.

    Returns
    -------
    tuple of int
        S in the order of selection; ties go to the first unit. Units that add nothing come last.
    """
    size = gram.diagonal().clone()
    seen = size > _DEPENDENT * size.max()
    left, fit = gram.clone(), gram.sum(1)  # what S does not span of X^T X, and of X^T y
    gains = torch.full_like(size, -torch.inf)
    free = torch.ones_like(seen)
    kept: list[int] = []
    for _ in range(n_kept):
        gains[free] = torch.where(seen, fit.square() / size, 0.0)[free]
        unit = int(gains.argmax())
        kept.append(unit)
        free[unit], gains[unit] = False, -torch.inf
        new = left[unit, unit].item()
        if new > _DEPENDENT * size[unit].item():
            along = left[unit] / new
            fit -= fit[unit] * along
            left -= torch.outer(left[unit].clone(), along)
    return tuple(kept)


def scales(gram: Tensor, kept: tuple[int, ...]) -> Tensor:
    """Return ``w = (X_S^T X_S)^-1 X_S^T y``, one number for each kept unit, in their order.

    If the kept units are linearly dependent, the solution nearest to 1: a unit not determined by the samples is
    unchanged.
    """
    inner = gram[list(kept)][:, list(kept)]
    missing = gram[list(kept)].sum(1) - inner.sum(1)
    change: Tensor = torch.linalg.lstsq(inner, missing[:, None], rcond=_DEPENDENT, driver="gelsd").solution[:, 0]
    return 1 + change


def relative_error(gram: Tensor, kept: tuple[int, ...], scale: Tensor | None = None) -> float:
    """Return ``||y - X_S w|| / ||y||``, with w = 1 by default; 0 where y is 0."""
    weights = torch.zeros(len(gram), dtype=gram.dtype)
    weights[list(kept)] = torch.ones(len(kept), dtype=gram.dtype) if scale is None else scale
    off = 1 - weights
    whole = gram.sum().item()
    return (max(0.0, (off @ gram @ off).item()) / whole) ** 0.5 if whole > 0 else 0.0
