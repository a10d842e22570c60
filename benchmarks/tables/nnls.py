"""Non-negative least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["non_negative_least_squares"]

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


def non_negative_least_squares(matrix: Floats, target: Floats, start: Floats | None = None) -> Floats:
    """Minimise ``||matrix @ x - target||`` over ``x >= 0``.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns), dtype float64
        Few columns.
    target : ndarray of shape (rows,), dtype float64
        Values to fit.
    start : ndarray of shape (columns,), dtype float64, optional
        Not negative: the solution of a similar problem, from which this one is found faster.

    Returns
    -------
    ndarray of shape (columns,), dtype float64

    References
    ----------
    Lawson and Hanson, Solving Least Squares Problems, chapter 23: the active set method.
    """
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    scaled = matrix / scale
    n = matrix.shape[1]
    x = np.zeros(n) if start is None else start * scale
    free = x > 0
    tolerance = 1e-10 * max(1.0, float(np.abs(scaled.T @ target).max(initial=0)))
    if free.any():
        x = _over_free(scaled, target, x, free)
    for _ in range(10 * n):
        gradient = scaled.T @ (target - scaled @ x)
        if not (candidates := np.flatnonzero(~free & (gradient > tolerance))).size:
            break
        free[candidates[np.argmax(gradient[candidates])]] = True
        x = _over_free(scaled, target, x, free)
    result: Floats = x / scale
    return result


def _over_free(scaled: Floats, target: Floats, x: Floats, free: Booleans) -> Floats:
    """Minimise over the columns that are `free`, from `x`; columns that would fall below 0 are no longer free."""
    while free.any():
        trial = np.zeros(len(x))
        trial[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
        if trial[free].min() > 0:
            return trial
        falling = free & (trial <= 0)
        step = float(np.min(x[falling] / (x[falling] - trial[falling])))
        x = x + step * (trial - x)
        free &= x > 1e-14
        x[~free] = 0
    return x
