"""Least squares for many small problems at once: with coefficients that are not negative, and robust to outliers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["non_negative_least_squares", "robust_least_squares"]

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

_RIDGE = 1e-12
"""Added to the diagonal of the Gram matrix of unit columns, which may depend on each other."""
_SLOPE = 1e-9
"""Smallest slope, as a share of the steepest one at 0, that is not taken for a rounding error."""
_FAR_OFF = 2.0
"""Multiple of the median residual beyond which a row is down-weighted."""


def robust_least_squares(
    matrix: Floats, target: Floats, weights: Floats, solve: Callable[[Floats, Floats, Floats | None], Floats]
) -> Floats:
    """Solve twice; outliers of the first solution, as on a busy machine, count less in the second.

    Parameters
    ----------
    matrix : ndarray of shape (..., rows, columns), dtype float64
        One or many problems.
    target : ndarray of shape (..., rows), dtype float64
        Values to fit.
    weights : ndarray of shape (..., rows), dtype float64
        Weight of each row; 0 leaves it out.
    solve : callable
        ``solve(matrix, target, start)`` returns the coefficients; `start`, if given, are those
        of the same problem with other weights.

    Returns
    -------
    ndarray of shape (..., columns), dtype float64
    """
    first = solve(matrix * weights[..., None], target * weights, None)
    off = np.abs((matrix @ first[..., None])[..., 0] - target)
    limit = np.maximum(_FAR_OFF * _median(off, weights > 0), 1e-9)
    weights = weights / np.maximum(1.0, off / limit[..., None])
    return solve(matrix * weights[..., None], target * weights, first)


def _median(values: Floats, used: Booleans) -> Floats:
    """Return the median of the values used in each row; infinite if there are none."""
    ordered = np.sort(np.where(used, values, np.inf), axis=-1)
    n = used.sum(axis=-1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(place, 0) // 2, axis=-1) for place in (n - 1, n)]
    median: Floats = (middle[0] + middle[1])[..., 0] / 2
    return median


def non_negative_least_squares(matrices: Floats, targets: Floats, start: Floats | None = None) -> Floats:
    """Minimise ``||matrix @ x - target||`` over ``x >= 0``, for many problems at once.

    Parameters
    ----------
    matrices : ndarray of shape (problems, rows, columns), dtype float64
        Few columns; those of zeros get coefficient 0.
    targets : ndarray of shape (problems, rows), dtype float64
        Values to fit.
    start : ndarray of shape (problems, columns), dtype float64, optional
        Not negative: the solutions of similar problems, from which these are found faster.

    Returns
    -------
    ndarray of shape (problems, columns), dtype float64

    References
    ----------
    Lawson and Hanson, Solving Least Squares Problems, chapter 23: the active set method; on the normal equations, as in
    Bro and de Jong, A fast non-negativity-constrained least squares algorithm, 1997.
    """
    columns = matrices.shape[-1]
    scale = np.linalg.norm(matrices, axis=-2)
    scale[scale == 0] = 1
    scaled = matrices / scale[:, None, :]
    gram = scaled.swapaxes(-1, -2) @ scaled + _RIDGE * np.eye(columns)
    moments = (scaled.swapaxes(-1, -2) @ targets[..., None])[..., 0]
    least_slope = _SLOPE * np.abs(moments).max(axis=-1, initial=0)

    x = np.zeros_like(moments) if start is None else start * scale
    free = x > 0
    settled = ~free.any(axis=-1)  # x is the minimum over its free columns
    barred = np.zeros_like(free)  # freed in vain since x last moved
    for _ in range(10 * columns):
        slope = moments - (gram @ x[..., None])[..., 0]
        slope[free | barred] = -np.inf
        steepest = slope.argmax(axis=-1)
        add = settled & (slope.max(axis=-1) > least_slope)
        busy = np.flatnonzero(add | ~settled)
        if not busy.size:
            break
        free[add, steepest[add]] = True
        x[busy], free[busy], settled[busy] = _step(gram[busy], moments[busy], x[busy], free[busy])
        kept = free[np.arange(len(free)), steepest]
        barred[add & kept] = False
        rejected = np.flatnonzero(add & ~kept)
        barred[rejected, steepest[rejected]] = True
    result: Floats = x / scale
    return result


def _step(gram: Floats, moments: Floats, x: Floats, free: Booleans) -> tuple[Floats, Booleans, Booleans]:
    """Go towards the minimum over the free columns, up to where the first would fall below 0: it is no longer free.

    Returns the new x and free columns of each problem, and whether the minimum was reached.
    """
    pairs = free[:, :, None] & free[:, None, :]
    system = np.where(pairs, gram, np.eye(gram.shape[-1]))
    goal = np.linalg.solve(system, np.where(free, moments, 0.0)[..., None])[..., 0]
    falling = free & (goal <= 0)
    reached: Booleans = ~np.any(falling, axis=-1)
    way = np.where(falling, x - goal, 1.0)
    limits = np.where(falling, x / np.where(way > 0, way, 1.0), np.inf)
    step = limits.min(axis=-1, keepdims=True, initial=1.0)
    moved = x + step * (goal - x)
    free = free & (reached[:, None] | ((limits > step) & (moved > 0)))
    new: Floats = np.where(free, np.where(reached[:, None], goal, moved), 0.0)
    return new, free, reached
