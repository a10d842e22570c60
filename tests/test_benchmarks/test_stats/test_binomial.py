"""Binomial tails are what integers say."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from benchmarks.stats.binomial import lower_tail, most_within


@pytest.mark.parametrize("n", [1, 2, 7, 40, 300])
@pytest.mark.parametrize("share", [Fraction(1, 100), Fraction(1, 2), Fraction(9, 10)])
def test_the_tail_is_the_sum_of_its_terms(n, share):
    total = Fraction(0)
    for k in range(n):
        total += math.comb(n, k) * share**k * (1 - share) ** (n - k)
        assert lower_tail(k, n, float(share)) == pytest.approx(float(total), rel=1e-11)


def test_both_sides_of_a_large_symmetric_binomial_are_alike():
    n = 2_000_001
    assert lower_tail(n // 2, n, 0.5) == pytest.approx(0.5, abs=1e-9)
    assert lower_tail(n // 2 - 3000, n, 0.5) == pytest.approx(1 - lower_tail(n // 2 + 3000, n, 0.5), rel=1e-9)


def test_the_most_within_an_error_is_the_last_that_fits():
    # Of six fair coins none shows heads with 1 / 64, at most one with 7 / 64.
    assert most_within(6, 0.5, 0.025) == 0
    assert most_within(6, 0.5, 0.11) == 1
    assert most_within(5, 0.5, 0.025) is None
