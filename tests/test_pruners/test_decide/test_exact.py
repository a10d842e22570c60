"""The exact decision keeps as much importance as trying every plan would, within the predicted time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.exact import exact_counts, kept_importance
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import MethodError, TargetError
from pruners.target import Target

NAMES = ("a", "b", "c")


def model_of(rng, sizes, block=2):
    def factor(name):
        return BlockCount(name, int(rng.integers(1, 3)))

    terms = [LatencyTerm(float(rng.random()), (factor(name),)) for name in sizes]
    terms += [
        LatencyTerm(float(rng.random()), (factor(first), factor(second)))
        for first, second in (("a", "b"), ("b", "c"), ("a", "a"))
    ]
    return LatencyModel(backend="x", graph="g", block=block, base_ns=0.5, terms=tuple(terms), sizes=sizes)


def budget_of(model, share):
    return Budget(cost=model.time_ns, limit=share * model.time_ns(), of="latency", latency=model)


@given(st.integers(0, 10**6), st.floats(0.35, 0.95))
@settings(max_examples=25, deadline=None)
def test_as_good_as_every_plan_tried(seed, share):
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.integers(3, 8)) for name in NAMES}
    model = model_of(rng, sizes)
    choices = Choices({name: tuple(range(1, size + 1)) for name, size in sizes.items()})
    scores = {name: tuple(rng.random(size)) for name, size in sizes.items()}
    budget = budget_of(model, share)
    plans = [dict(zip(NAMES, counts, strict=True)) for counts in product(*choices.legal.values())]
    within = [kept_importance(choices, scores, plan) for plan in plans if budget.met(plan)]
    if not within:
        with pytest.raises(TargetError, match="smallest legal count"):
            exact_counts(choices, scores, budget)
        return
    counts = exact_counts(choices, scores, budget)
    assert budget.cost(counts) <= budget.limit * (1 + 1e-6)
    assert kept_importance(choices, scores, counts) >= max(within) - 2e-3


def test_removed_units_are_limited():
    rng = np.random.default_rng(0)
    sizes = dict.fromkeys(NAMES, 8)
    model, choices = model_of(rng, sizes), Choices({name: tuple(range(1, 9)) for name in NAMES})
    scores = {name: tuple(rng.random(8)) for name in NAMES}
    counts = exact_counts(choices, scores, budget_of(model, 0.9), max_removed=6)
    assert sum(8 - count for count in counts.values()) <= 6
    with pytest.raises(TargetError, match="at most 1 removed units"):
        exact_counts(choices, scores, budget_of(model, 0.3), max_removed=1)


def test_it_needs_a_budget_of_time():
    choices = Choices({"a": (1, 2)})
    with pytest.raises(MethodError, match="solves targets of latency"):
        decide("exact", choices, {"a": (1.0, 2.0)}, Budget(cost=lambda _: 1.0, limit=1.0, of="macs"))


def test_a_target_of_speed_names_its_table():
    model = model_of(np.random.default_rng(0), dict.fromkeys(NAMES, 4))
    assert Target(speed_up=2.0, table=model).kept_fraction == 0.5
    for wrong, message in (
        ({"speed_up": 2.0}, "needs a latency table"),
        ({"speed_up": 0.9, "table": model}, "more than 1"),
        ({"of": "macs", "kept_fraction": 0.5, "table": model}, "belongs to a target of latency"),
    ):
        with pytest.raises(TargetError, match=message):
            Target(**wrong)
