"""When enough was measured, and from log ratios to a verdict."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.settings import NOT_A_VERDICT, Settings
from benchmarks.stopping import judge_pairs


def decide(ratios, margin):
    """Judge pairs whose number was fixed before."""
    decision = judge_pairs(ratios, Settings(trials=len(ratios), margin=margin), spent=True)
    return decision.speedup, decision.verdict


MIRROR = {"faster": "slower", "slower": "faster", "equivalent": "equivalent", "inconclusive": "inconclusive"}


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.10, 0.11, 0.09, 0.10, 0.12, 0.08], "faster"),
        ([-0.10, -0.11, -0.09, -0.10, -0.12, -0.08], "slower"),
        ([0.010, -0.010, 0.005, 0.0, 0.02, -0.02], "equivalent"),
        ([0.010, 0.010, 0.005, 0.01, 0.02, 0.02], "equivalent"),  # real, but it does not matter
        ([0.10, 0.11, 0.09, 0.10, 0.12, -0.01], "inconclusive"),
        ([0.5, 0.5, 0.5, 0.5, 0.5], "inconclusive"),  # five pairs give 93.8 %
    ],
)
def test_verdicts(ratios, verdict):
    assert decide(ratios, 0.03)[1] == verdict


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.floats(0.001, 0.5))
def test_swapping_the_sides_inverts_the_answer(ratios, margin):
    speedup, verdict = decide(ratios, margin)
    swapped, mirrored = decide([-ratio for ratio in ratios], margin)
    assert mirrored == MIRROR[verdict]
    assert swapped.value == pytest.approx(1 / speedup.value)
    assert (swapped.low, swapped.high) == pytest.approx((1 / speedup.high, 1 / speedup.low))


@given(st.lists(st.integers(-1000, 1000), min_size=6, max_size=12))
def test_a_verdict_never_says_more_than_its_interval(ratios):
    speedup, verdict = decide([ratio / 1000 for ratio in ratios], 0.03)
    if verdict == "faster":
        assert speedup.low > 1
        assert math.log(speedup.value) >= math.log1p(0.03) - 1e-12
    if verdict == "equivalent":
        assert 1 / 1.03 < speedup.low <= speedup.high < 1.03


def test_a_single_pair_is_refused():
    with pytest.raises(SettingError, match="at least 2"):
        decide([0.1], 0.03)


@pytest.mark.parametrize("spent", [True, False])
def test_pairs_that_are_too_few_have_an_interval_but_no_verdict(spent):
    decision = judge_pairs([0.5] * 5, Settings(), spent=spent)
    assert decision.verdict == ("inconclusive" if spent else "continue")
    if spent:
        assert (decision.speedup.n, decision.speedup.confidence) == (5, 0.9375)
        assert decision.reason == "the budget of 60 s ended after 5 pairs"


def test_pairs_between_two_looks_are_looked_at_when_the_budget_ends():
    ratios = [0.02, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, -0.3, 0.2, 0.2]
    assert judge_pairs(ratios, Settings(), spent=False).verdict == "continue"
    decision = judge_pairs(ratios, Settings(), spent=True)
    assert decision.speedup.n == 10
    assert decision.reason.startswith("the budget of 60 s ended after 10 pairs")


def test_a_quick_measurement_is_never_a_verdict():
    settings = Settings(trials=8, budget_s=600).quick()
    assert (settings.trials, settings.budget_s, Settings().quick().trials) == (8, 10, 2)
    decision = judge_pairs([0.5] * 8, settings, spent=True)
    assert (decision.verdict, decision.reason) == ("inconclusive", NOT_A_VERDICT)
    assert decision.speedup.low > 1
    few = judge_pairs([0.5] * 2, Settings().quick(), spent=True)
    assert (few.verdict, few.reason, few.speedup.n) == ("inconclusive", NOT_A_VERDICT, 2)


def test_a_share_of_a_budget_takes_no_look_beside_those_that_are_planned():
    ratios = [0.02, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, -0.3, 0.2, 0.2]
    share = Settings(provisional=True)
    assert judge_pairs(ratios, share, spent=True).verdict == "inconclusive"
    assert judge_pairs(ratios, share, spent=True).reason == "10 pairs decide nothing yet"
    assert judge_pairs([0.2] * 8, share, spent=True).verdict == "faster"
