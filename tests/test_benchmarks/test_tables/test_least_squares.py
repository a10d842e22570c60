"""Small least-squares problems, solved many at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tables.least_squares import non_negative_least_squares, robust_least_squares


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(6, 40), st.integers(1, 5), st.booleans())
@settings(max_examples=50)
def test_least_squares_without_negative_coefficients(seed, n, rows, problems, started):
    rng = np.random.default_rng(seed)
    matrices, targets = rng.random((problems, rows, n)), rng.standard_normal((problems, rows))
    start = np.maximum(rng.standard_normal((problems, n)), 0) if started else None
    x = non_negative_least_squares(matrices, targets, start)
    assert (x >= 0).all()
    # The conditions of Karush, Kuhn and Tucker: no slope where a coefficient is free, none downhill where it is 0.
    slope = (matrices.swapaxes(1, 2) @ (matrices @ x[..., None] - targets[..., None]))[..., 0]
    assert np.all(slope > -1e-6)
    assert np.all(np.abs(slope[x > 0]) < 1e-6)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=50)
def test_columns_that_depend_on_each_other_are_no_obstacle(seed, n):
    """As where a group has as many blocks as another in all plans, or a layer has fewer terms than others."""
    rng = np.random.default_rng(seed)
    matrices = rng.random((3, 20, n))
    matrices[0, :, 1] = matrices[0, :, 0]
    matrices[1, :, 1] = 0
    matrices[2, :, 1] = matrices[2, :, 0] * (1 + 1e-9 * rng.random(20))
    wanted = rng.random((3, n))
    targets = (matrices @ wanted[..., None])[..., 0]
    x = non_negative_least_squares(matrices, targets)
    assert (x >= 0).all()
    assert x[1, 1] == 0
    assert (matrices @ x[..., None])[..., 0] == pytest.approx(targets, rel=1e-6)


def test_with_nothing_to_fit_all_coefficients_are_0():
    matrices = np.random.default_rng(0).random((2, 10, 4))
    targets = np.zeros((2, 10))
    assert not non_negative_least_squares(matrices, targets, np.ones((2, 4))).any()
    assert not robust_least_squares(matrices, targets, np.zeros((2, 10)), non_negative_least_squares).any()


def test_a_row_of_weight_0_and_an_outlier_hardly_count():
    matrix = np.stack([np.ones(12), np.arange(12.0)], axis=1)
    target = matrix @ [3.0, 2.0]
    noisy = target + 0.01 * (-1.0) ** np.arange(12)
    noisy[4], noisy[7] = 1e6, 40.0
    weights = np.ones(12)
    weights[4] = 0
    for solve in (
        lambda a, b, start: np.linalg.lstsq(a, b, rcond=None)[0],
        lambda a, b, start: non_negative_least_squares(a[None], b[None], None if start is None else start[None])[0],
    ):
        plain = solve(matrix * weights[:, None], noisy * weights, None)
        robust = robust_least_squares(matrix, noisy, weights, solve)
        rest = np.delete(np.arange(12), 4)
        assert robust == pytest.approx(robust_least_squares(matrix[rest], noisy[rest], weights[rest], solve), rel=1e-9)
        assert np.abs(robust - [3, 2]).sum() < 0.5 * np.abs(plain - [3, 2]).sum()
