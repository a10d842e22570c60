"""The largest share whose cost is within the limit, found in few looks."""

from __future__ import annotations

import pytest

from pruners.decide.search import largest_within


@pytest.mark.parametrize("law", [lambda s: s, lambda s: s * s, lambda s: 0.3 + 0.7 * s, lambda s: s**0.25])
def test_the_share_is_found_closely_in_few_looks(law):
    looks = []

    def attempt(share):
        looks.append(share)
        return law(share), share

    share = largest_within(attempt, 0.5, 1.0)
    assert 0.49 < law(share) <= 0.5
    assert len(looks) <= 10


def test_of_stairs_the_highest_below_the_limit_is_taken():
    assert largest_within(lambda share: (int(4 * share) / 4, int(4 * share)), 0.6, 1.0) == 2


def test_a_larger_share_within_the_limit_is_better_even_if_it_costs_less():
    """As channels that fill a block take less time than fewer ones that do not."""
    costs = {0.5: 0.4, 0.75: 0.45, 0.875: 0.42}

    def attempt(share):
        nearest = min((*costs, 1.0), key=lambda each: abs(each - share))
        return costs.get(nearest, 1.0), nearest

    assert largest_within(attempt, 0.5, 1.0) == 0.875


def test_shares_that_are_too_small_are_passed_over():
    share = largest_within(lambda share: (share, share) if share > 0.4 else None, 0.5, 1.0)
    assert 0.4 < share <= 0.5
    assert largest_within(lambda share: None, 0.5, 1.0) is None
    assert largest_within(lambda share: (0.6, share), 0.5, 1.0) is None
