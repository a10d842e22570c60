"""Non-negative least squares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["non_negative_least_squares"]

Floats = npt.NDArray[np.float64]


def non_negative_least_squares(matrix: Floats, target: Floats) -> Floats:
    """Minimise ``||matrix @ x - target||`` over ``x >= 0``.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns), dtype float64
        Few columns.
    target : ndarray of shape (rows,), dtype float64
        Values to fit.

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
    x = np.zeros(n)
    free = np.zeros(n, bool)
    tolerance = 1e-10 * max(1.0, float(np.abs(scaled.T @ target).max(initial=0)))
    for _ in range(10 * n):
        gradient = scaled.T @ (target - scaled @ x)
        if not (candidates := np.flatnonzero(~free & (gradient > tolerance))).size:
            break
        free[candidates[np.argmax(gradient[candidates])]] = True
        while True:
            trial = np.zeros(n)
            trial[free] = np.linalg.lstsq(scaled[:, free], target, rcond=None)[0]
            if trial[free].min(initial=1) > 0:
                x = trial
                break
            falling = free & (trial <= 0)
            step = float(np.min(x[falling] / (x[falling] - trial[falling])))
            x = x + step * (trial - x)
            free &= x > 1e-14
            x[~free] = 0
            if not free.any():
                break
    result: Floats = x / scale
    return result
