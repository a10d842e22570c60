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
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task


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


def slow_off_four(graph):
    """A model of a network whose counts off a multiple of 4 run in a slower kernel."""
    free = [group.name for group in graph.groups if group.prunable]
    terms = [(1.0, (BlockCount(name, 1),)) for name in free] + [(9.0, (BlockCount(name, 1, 4),)) for name in free]
    return model_of({group.name: group.n_units for group in graph.groups}, terms, block=4, graph=graph.fingerprint)


@pytest.mark.parametrize("method", ["l1", "uniform", "random", "thinet", "regression"])
def test_no_method_decides_for_slow_counts(method):
    task = make_task(make_network("plain"), constraints=Constraints())
    table = slow_off_four(trace(task.model, task.example_inputs))
    pruned = create(method).prune(replace(task, target=Target(speed_up=1.5, table=table)))
    assert all(len(kept) % 4 == 0 for kept in pruned.plan.kept.values())


def test_the_search_of_dhp_counts_what_can_be_kept():
    """Latents fall below the threshold one by one: what they cost is what the next legal counts do."""
    task = make_task(make_network("plain"), constraints=Constraints())
    table = slow_off_four(trace(task.model, task.example_inputs))
    pruned = create("dhp", training={"epochs": 1}, converge=None).prune(
        replace(task, target=Target(speed_up=1.5, table=table))
    )
    assert pruned.history[0]["cost_at_threshold"] <= 1


@pytest.mark.parametrize("decision", ["uniform", "local", "global", "greedy", "exact"])
def test_a_speed_beyond_the_smallest_counts_is_reached(decision):
    """Three channels of eight run in the slow kernel and take longer than four."""
    network = make_network("plain")
    graph = trace(network, (torch.zeros(2, 3, 8, 8),))
    target = Target(speed_up=1.5, table=slow_off_four(graph))
    scores = {group.name: range(group.n_units) for group in graph.groups if group.prunable}
    for least in (3, 4):
        plan = plan_from_scores(graph, scores, target, Constraints(min_units=least), decision=decision)
        counts = {name: len(kept) for name, kept in plan.kept.items()}
        assert target.table.time_ns(counts) <= target.table.time_ns() / 1.5
        assert all(count % 4 == 0 for count in counts.values())
    with pytest.raises(TargetError, match="between 1x and"):
        plan_from_scores(graph, scores, replace(target, speed_up=9.0), Constraints(min_units=3), decision=decision)
