"""Blocks are long enough to see a difference and short enough for the budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import SettingError
from benchmarks.settings import Settings, plan_blocks


@given(st.lists(st.floats(100, 5e9), min_size=1, max_size=2), st.integers(1, 12), st.floats(0.1, 100))
def test_the_plan_keeps_the_budget_or_is_the_smallest_there_is(latencies, trials, budget_s):
    settings = Settings(trials=trials, budget_s=budget_s)
    plan = plan_blocks(latencies, settings)
    one = sum((n + d) * ns for n, d, ns in zip(plan.calls, plan.dropped, latencies, strict=True))
    assert 3 <= plan.rounds <= settings.rounds
    assert min(plan.calls) >= 1
    assert min(plan.dropped) >= 1
    assert trials * plan.rounds * one <= 0.601e9 * budget_s or (plan.rounds == 3 and max(plan.calls) == 1)


def test_millisecond_models_get_blocks_of_20_ms():
    plan = plan_blocks([4e6, 2e6], Settings())
    assert (plan.rounds, plan.calls, plan.dropped) == (12, (5, 10), (1, 1))


def test_slow_models_get_four_calls_while_the_budget_lasts():
    assert plan_blocks([40e6], Settings()).calls == (4,)
    assert plan_blocks([2e9], Settings()).calls == (1,)


def test_very_fast_models_warm_the_caches_after_a_hand_over():
    plan = plan_blocks([10e3], Settings())
    assert (plan.calls, plan.dropped) == ((256,), (100,))


@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"rounds": 2},
        {"block_ns": 0},
        {"budget_s": 0},
        {"margin": 0.0},
        {"percentile": 1.0},
        {"half_width": 0.0},
        {"timeout_s": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Settings(**wrong)
