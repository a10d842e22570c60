"""The early-stopping rule is LoadGen's: its printed minima, and its definition counted without rounding."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.stats.percentile_bounds import allowed_over_latency, holds_bound, queries_needed

OVER = (0, 1, 2, 5, 10, 20, 100)
TABLE = {
    0.5: (7, 11, 14, 22, 35, 59, 237),
    0.9: (44, 64, 81, 127, 197, 325, 1246),
    0.95: (90, 130, 165, 259, 398, 656, 2504),
    0.97: (152, 219, 277, 433, 667, 1097, 4182),
    0.99: (459, 662, 838, 1307, 2010, 3304, 12571),
    0.999: (4603, 6636, 8403, 13105, 20140, 33097, 125826),
}


def at_most(t, n, share, tolerance="0"):
    """P[Binomial(n, 1 - share + tolerance) <= t], to sixty digits."""
    with localcontext() as context:
        context.prec = 60
        over = 1 - Decimal(str(share)) + Decimal(tolerance)
        term = (1 - over) ** n
        total = term
        for k in range(t):
            term *= Decimal(n - k) / (k + 1) * over / (1 - over)
            total += term
        return total


@pytest.mark.parametrize(("share", "needed"), TABLE.items())
def test_the_minima_are_those_that_loadgen_prints(share, needed):
    assert tuple(queries_needed(share, t) for t in OVER) == needed


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97, 0.99, 0.999])
@pytest.mark.parametrize("t", [*range(12), 47, 333, 1024, 1025, 5000])
def test_one_query_less_would_not_do(share, t):
    n = queries_needed(share, t)
    assert at_most(t, n, share) <= Decimal("0.01") < at_most(t, n - 1, share)


@pytest.mark.parametrize(("confidence", "tolerance"), [(0.95, "0"), (0.99, "0.005"), (0.999, "0.02")])
def test_confidence_and_tolerance_are_those_of_the_rule(confidence, tolerance):
    n = queries_needed(0.95, 7, confidence, float(tolerance))
    error = 1 - Decimal(str(confidence))
    assert at_most(7, n, 0.95, tolerance) <= error < at_most(7, n - 1, 0.95, tolerance)


@given(st.integers(1, 3_000), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_allowed_queries_are_the_most_that_the_rule_grants(n, share):
    allowed = allowed_over_latency(n, share)
    if allowed is None:
        assert n < queries_needed(share, 0)
    else:
        assert queries_needed(share, allowed) <= n < queries_needed(share, allowed + 1)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_a_million_queries_are_counted_too(share):
    allowed = allowed_over_latency(1_000_000, share)
    assert queries_needed(share, allowed) <= 1_000_000 < queries_needed(share, allowed + 1)


def test_a_tail_that_is_exactly_as_rare_as_asked_is_rare_enough():
    assert queries_needed(0.1, 0) == 2, "0.1 ** 2 = 1 - 0.99"


def test_a_bound_holds_or_says_how_many_queries_are_missing():
    assert holds_bound(459, 0, 0.99) == (True, 0)
    assert holds_bound(458, 0, 0.99) == (False, 1)
    assert holds_bound(2009, 10, 0.99) == (False, 1)
    holds, n_more = holds_bound(1000, 50, 0.99)
    assert not holds
    assert holds_bound(1000 + n_more, 50, 0.99) == (True, 0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: queries_needed(1.0, 1), "between 0 and 1, got 1.0"),
        (lambda: queries_needed(0.9, -1), "0 or more, got -1"),
        (lambda: queries_needed(0.9, 1, confidence=1.0), "confidence lies"),
        (lambda: queries_needed(0.9, 1, tolerance=0.9), "tolerance lies"),
        (lambda: holds_bound(5, 6, 0.9), "of 5 queries 6 cannot"),
    ],
)
def test_nonsense_is_refused(call, sentence):
    with pytest.raises(SettingError, match=sentence):
        call()
