"""When enough pairs have been measured, and how often the answer is wrong."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.errors import SettingError
from benchmarks.stats.group_sequential import InterimAnalyses, plan_analyses
from benchmarks.stats.sequential_test import decide, early_end

LOOKS = InterimAnalyses()
DELTA = math.log(1.03)
RUNS = 2000
ERRORS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(2, shape),
    "skewed": lambda rng, shape: rng.exponential(1, shape) - math.log(2),
    "two modes": lambda rng, shape: np.where(rng.random(shape) < 0.5, -1, 1) + 0.1 * rng.standard_normal(shape),
}


def draws(kind, *, spread, shift=0.0, runs=RUNS, n=20, seed=0):
    return (shift + spread * ERRORS[kind](np.random.default_rng(seed), (runs, n))).tolist()


def test_the_default_spends_less_than_five_percent():
    assert LOOKS.schedule == ((8, 1), (11, 2), (14, 3), (20, 5))
    assert LOOKS.error == pytest.approx(0.028, abs=5e-4)
    assert InterimAnalyses(schedule=((8, 1),)).error == LOOKS.spent[0] == 2 / 2**8


def test_the_error_is_counted_as_by_writing_down_every_sequence_of_signs():
    looks = InterimAnalyses(schedule=((4, 1), (7, 2), (10, 3)))
    missed = 0
    for signs in itertools.product((0, 1), repeat=10):
        missed += any(not order <= sum(signs[:n]) <= n - order for n, order in looks.schedule)
    assert looks.error == missed / 2**10


@pytest.mark.parametrize("kind", ERRORS)
def test_no_interval_of_a_run_misses_more_often_than_stated(kind):
    missed = 0
    for pairs in draws(kind, spread=1.0):
        ordered = [(sorted(pairs[:n]), n, order) for n, order in LOOKS.schedule]
        missed += any(not values[order - 1] <= 0 <= values[n - order] for values, n, order in ordered)
    # Four standard errors: the rate itself is exact.
    assert missed / RUNS == pytest.approx(LOOKS.error, abs=4 * math.sqrt(LOOKS.error / RUNS))


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("spread", [0.01, 0.05])
def test_the_interval_at_which_one_stops_covers_as_often_as_it_says(kind, spread):
    decisions = [decide(pairs, 0.03, LOOKS) for pairs in draws(kind, spread=spread, shift=0.02)]
    covered = sum(one.speedup.low <= math.exp(0.02) <= one.speedup.high for one in decisions)
    assert {one.speedup.confidence for one in decisions} == {1 - LOOKS.error}
    # The stated rate is a bound: a run that stops early has spent less of its error.
    assert covered / RUNS >= 1 - LOOKS.error - 0.01


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("spread", [0.01, 0.03, 0.1])
def test_equal_models_are_told_apart_no_more_often_than_stated(kind, spread):
    wrong = sum(decide(pairs, 0.03, LOOKS).verdict in {"faster", "slower"} for pairs in draws(kind, spread=spread))
    assert wrong / RUNS <= LOOKS.error + 0.01
    if spread == 0.01 and kind == "normal":
        assert wrong == 0


@pytest.mark.parametrize("shift", [1.001 * DELTA, -1.001 * DELTA])
@pytest.mark.parametrize("strict", [False, True])
def test_a_change_that_counts_is_called_equivalent_no_more_often_than_stated(shift, strict):
    wrong = {"equivalent", "faster" if shift < 0 else "slower"}
    pairs = draws("normal", spread=0.015, shift=shift)
    assert sum(decide(one, 0.03, LOOKS, strict=strict).verdict in wrong for one in pairs) / RUNS <= LOOKS.error


@pytest.mark.parametrize(("sign", "verdict"), [(1, "faster"), (-1, "slower")])
def test_strict_claims_more_than_the_margin_no_more_often_than_stated(sign, verdict):
    pairs = draws("normal", spread=0.01, shift=sign * 0.999 * DELTA)
    loose, strict = (
        sum(decide(one, 0.03, LOOKS, strict=strict).verdict == verdict for one in pairs) / RUNS
        for strict in (False, True)
    )
    assert strict <= LOOKS.error
    assert loose > 0.4, "a change as large as the margin is what the loose rule is for"
    larger = draws("normal", spread=0.01, shift=sign * math.log(1.08))
    assert sum(decide(one, 0.03, LOOKS, strict=True).verdict == verdict for one in larger) / RUNS >= 0.95


@pytest.mark.parametrize(("spread", "found"), [(0.005, 0.995), (0.012, 0.95)])
@pytest.mark.parametrize(("sign", "verdict"), [(1, "faster"), (-1, "slower")])
def test_five_percent_are_found(spread, found, sign, verdict):
    pairs = draws("normal", spread=spread, shift=sign * math.log(1.05))
    assert sum(decide(one, 0.03, LOOKS).verdict == verdict for one in pairs) / RUNS >= found


def test_positive_ratios_mean_that_the_candidate_is_faster():
    decision = decide([math.log(1.2)] * 8, 0.03, LOOKS)
    assert (decision.verdict, decision.look, decision.spent) == ("faster", 0, 2 / 2**8)
    assert decision.speedup.value == pytest.approx(1.2)
    assert decision.speedup.n == 8


def test_a_decision_stands_whatever_comes_later():
    settled = [0.001, -0.002, 0.003, 0.0, 0.002, -0.001, 0.001, 0.002]
    assert decide(settled, 0.03, LOOKS).verdict == "equivalent"
    assert decide([*settled, *[1.0] * 12], 0.03, LOOKS) == decide(settled, 0.03, LOOKS)


def test_between_looks_nothing_is_decided():
    open_ = [0.2, -0.2] * 4
    assert decide([], 0.03, LOOKS).verdict == "continue"
    before = decide([0.1] * 7, 0.03, LOOKS)
    assert (before.verdict, before.speedup, before.look, before.spent) == ("continue", None, None, 0)
    assert "7 of the 8" in before.reason
    between = decide([*open_, 0.2, -0.2], 0.03, LOOKS)
    assert between == decide(open_, 0.03, LOOKS)
    assert (between.verdict, between.look) == ("continue", 0)
    assert "next look is at 11" in between.reason
    last = decide([0.2, -0.2] * 10, 0.03, LOOKS)
    assert (last.verdict, last.look, last.speedup.n) == ("inconclusive", 3, 20)


def test_a_shift_inside_the_margin_is_equivalent_and_said_to_be_there():
    decision = decide([0.01] * 8, 0.03, LOOKS)
    assert decision.verdict == "equivalent"
    assert "too small to count" in decision.reason


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_ratio_that_is_no_number_is_refused(bad):
    with pytest.raises(SettingError, match="pair 3"):
        decide([0.0, 0.1, bad], 0.03, LOOKS)


@pytest.mark.parametrize("margin", [0, 1, -0.1, math.nan])
def test_a_margin_that_makes_no_sense_is_refused(margin):
    with pytest.raises(SettingError, match="margin"):
        decide([0.0] * 8, margin, LOOKS)


@pytest.mark.parametrize("schedule", [(), ((8, 1), (8, 2)), ((11, 2), (8, 1)), ((8, 5),), ((8, 0),)])
def test_a_schedule_that_makes_no_sense_is_refused(schedule):
    with pytest.raises(ValidationError):
        InterimAnalyses(schedule=schedule)


@pytest.mark.parametrize("error", [0.2, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("pairs", [12, 20, 40])
@pytest.mark.parametrize("n_looks", [1, 2, 4, 7])
def test_a_planned_schedule_keeps_its_error_and_ends_where_asked(error, pairs, n_looks):
    looks = plan_analyses(error, pairs, n_looks)
    assert looks.error <= error
    assert looks.max_pairs == pairs
    assert 1 <= len(looks.schedule) <= n_looks
    *before, (n, order) = looks.schedule
    if 2 * (order + 1) <= n:
        assert InterimAnalyses(schedule=(*before, (n, order + 1))).error > error, "a narrower interval would have done"


def test_too_few_pairs_for_an_error_are_refused_with_the_number_that_is_enough():
    with pytest.raises(SettingError, match="at least 8 pairs, got 7"):
        plan_analyses(0.01, 7)
    assert plan_analyses(0.01, 8).schedule == ((8, 1),)


def budget(ratios, left=0.0, looks=LOOKS):
    return early_end(ratios, 0.03, looks, budget_s=30, seconds_left=left, seconds_per_pair=2.5)


def test_the_end_of_the_budget_is_said():
    decision = budget([0.2, -0.2] * 4 + [0.1])
    assert decision.verdict == "inconclusive"
    assert decision.reason == "the budget of 30 s ended after 9 pairs"
    assert decision.speedup.n == 9


def test_while_another_pair_fits_the_budget_changes_nothing():
    pairs = [0.2, -0.2] * 4 + [0.1]
    assert budget(pairs, left=2.5) == decide(pairs, 0.03, LOOKS)
    settled = [0.0] * 8
    assert budget(settled) == decide(settled, 0.03, LOOKS)


def test_with_hardly_any_pair_nothing_is_claimed():
    decision = budget([1.0] * 5)
    assert (decision.verdict, decision.speedup) == ("inconclusive", None)
    assert budget([1.0]).reason.endswith("after 1 pair")


def test_a_last_look_uses_the_pairs_that_came_after_the_look_before():
    pairs = [0.2, -0.001, *[0.1] * 8]
    assert decide(pairs, 0.03, LOOKS).verdict == "continue"
    decision = budget(pairs)
    assert (decision.verdict, decision.speedup.n) == ("faster", 10)
    assert decision.reason.startswith("the budget of 30 s ended after 10 pairs; ")


@pytest.mark.parametrize("n", range(6, 21))
def test_a_last_look_spends_no_more_than_was_planned(n):
    missed = 0
    for pairs in draws("skewed", spread=1.0, runs=1000, n=n, seed=n):
        speedup = budget(pairs).speedup
        missed += speedup is not None and not speedup.low <= 1 <= speedup.high
    assert missed / 1000 <= LOOKS.error + 0.015
    shortened = LOOKS.shortened(n)
    assert shortened is None or shortened.error <= LOOKS.error
