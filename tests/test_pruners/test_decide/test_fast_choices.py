"""Counts that take longer than larger ones are not decided for."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.decide.budget import TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.exact.plan import kept_importance
from pruners.decide.goal import fast_choices
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.decide.planning import plan_from_scores
from pruners.errors import TargetError
from pruners.graph import trace
from pruners.target import Constraints, Target
from pruners.testing import make_network


def model_of(sizes, terms, block, graph="g"):
    terms = tuple(LatencyTerm(ns, factors) for ns, factors in terms)
    return LatencyModel(backend="x", graph=graph, block=block, base_ns=1.0, terms=terms, sizes=sizes)


@given(st.integers(0, 10**6), st.floats(0.2, 0.95))
@settings(max_examples=50, deadline=None)
def test_they_lose_no_plan_that_is_worth_having(seed, share):
    """For each plan there is one of fast choices that keeps as much in as little time."""
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.integers(6, 11)) for name in "abc"}
    many = {name: BlockCount(name, int(rng.integers(1, 3))) for name in sizes}
    odd = {name: BlockCount(name, many[name].width, int(rng.choice([2, 4]))) for name in sizes}
    factors = [(each,) for each in (*many.values(), *odd.values())]
    factors += [(many["a"], many["b"]), (odd["b"], many["c"]), (many["a"], odd["c"])]
    model = model_of(sizes, [(float(rng.random()), each) for each in factors], block=4)
    budget = time_budget([TimeLimit(model, share * model.time_ns())])
    choices = Choices({name: tuple(range(int(rng.integers(1, 4)), size + 1)) for name, size in sizes.items()})
    scores = {name: tuple(rng.random(size)) for name, size in sizes.items()}
    fast = fast_choices(choices, budget)
    assert fast.whole == choices.whole

    def best(among):
        plans = (dict(zip(among.legal, counts, strict=True)) for counts in product(*among.legal.values()))
        return max((kept_importance(among, scores, plan) for plan in plans if budget.met(plan)), default=None)

    assert best(fast) == best(choices)
    assert all(set(counts) <= set(choices.legal[name]) for name, counts in fast.legal.items())


def test_without_a_slower_kernel_all_counts_stay():
    model = model_of({"a": 64}, [(1.0, (BlockCount("a", 1),))], block=16)
    choices = Choices({"a": tuple(range(1, 65))})
    assert fast_choices(choices, time_budget([TimeLimit(model, 10.0)])) == choices


@pytest.mark.parametrize("decision", ["uniform", "local", "global", "greedy", "exact"])
def test_a_speed_beyond_the_smallest_counts_is_reached(decision):
    """Three channels of eight run in the slow kernel and take longer than four."""
    network = make_network("plain")
    graph = trace(network, (torch.zeros(2, 3, 8, 8),))
    sizes = {group.name: group.n_units for group in graph.groups}
    free = [group.name for group in graph.groups if group.prunable]
    terms = [(1.0, (BlockCount(name, 1),)) for name in free] + [(9.0, (BlockCount(name, 1, 4),)) for name in free]
    target = Target(speed_up=1.5, table=model_of(sizes, terms, block=4, graph=graph.fingerprint))
    scores = {name: range(sizes[name]) for name in free}
    for least in (3, 4):
        plan = plan_from_scores(graph, scores, target, Constraints(min_units=least), decision=decision)
        counts = {name: len(kept) for name, kept in plan.kept.items()}
        assert target.table.time_ns(counts) <= target.table.time_ns() / 1.5
        assert all(count % 4 == 0 for count in counts.values())
    with pytest.raises(TargetError, match="between 1x and"):
        plan_from_scores(graph, scores, replace(target, speed_up=9.0), Constraints(min_units=3), decision=decision)
