"""Greedy under a predicted time takes what scores low for the time it saves, in the network as it has become."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.decide.budget import TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.decisions import decide
from pruners.decide.exact.plan import exact_counts, kept_importance
from pruners.decide.greedy import greedy_counts
from pruners.decide.landing import landing_of
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import NothingToPruneError, TargetError
from pruners.graph import trace
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task


def model_of(sizes, terms, block=1):
    terms = [LatencyTerm(ns, tuple(BlockCount(name, 1) for name in names)) for ns, names in terms]
    return LatencyModel(backend="x", graph="g", block=block, base_ns=1.0, terms=tuple(terms), sizes=sizes)


def budget_of(model, share):
    return time_budget([TimeLimit(model, share * model.time_ns())])


def test_the_dear_units_go_where_scores_are_alike():
    sizes = {"cheap": 8, "dear": 8}
    model = model_of(sizes, [(1.0, ("cheap",)), (10.0, ("dear",))])
    choices = Choices({name: tuple(range(1, 9)) for name in sizes})
    counts = greedy_counts(choices, dict.fromkeys(sizes, [1.0] * 8), budget_of(model, 0.5))
    assert counts["cheap"] == 8
    assert counts["dear"] < 5


def test_units_without_a_score_go_in_equal_shares_from_all_groups():
    """Whatever order Python gives the names of the groups."""
    sizes = dict.fromkeys("abcd", 8)
    model = model_of(sizes, [(1.0, (name,)) for name in sizes])
    choices = Choices({name: tuple(range(1, 9)) for name in sizes})
    counts = greedy_counts(choices, dict.fromkeys(sizes, [0.0] * 3 + [1.0] * 5), time_budget([TimeLimit(model, 28.0)]))
    assert counts == {"a": 6, "b": 7, "c": 7, "d": 7}


def test_a_step_that_saves_nothing_is_counted_with_the_one_that_does():
    """Kernels of four channels: three of the cheap group's units buy no time until the fourth goes."""
    sizes = {"a": 8, "b": 8}
    model = model_of(sizes, [(1.0, ("a",)), (1.0, ("b",))], block=4)
    choices = Choices({name: tuple(range(1, 9)) for name in sizes})
    scores = {"a": [9.0, 0.1, 0.1, 0.1, 9.0, 9.0, 9.0, 9.0], "b": [1.0] * 8}
    budget = time_budget([TimeLimit(model, 4.0)])
    assert greedy_counts(choices, scores, budget) == {"a": 8, "b": 4}


def test_a_landing_is_told_as_a_predicted_share_of_the_dense_time():
    """Of the measured one, where it is known: here it is 25 ns, and the table predicts 20."""
    model = model_of({"a": 19}, [(1.0, ("a",))])
    choices = Choices({"a": (4, 9, 19)})
    for dense_ns, told in (
        (None, "latency: 50.00% of the dense network's is predicted, at most 60.00% was allowed"),
        (25.0, "latency: 40.00% of the dense network's is predicted, at most 48.00% was allowed"),
    ):
        budget = time_budget([TimeLimit(model, 12.0, dense_ns)])
        assert str(landing_of(choices, {"a": 9}, budget)).startswith(f"{told}; the smallest legal step up, of 'a'")


def test_a_removal_takes_no_more_units_than_it_may():
    sizes = {"a": 8, "b": 8}
    model = model_of(sizes, [(1.0, ("a", "b"))])
    choices = Choices({name: tuple(range(1, 9)) for name in sizes})
    counts = decide("greedy", choices, dict.fromkeys(sizes, [1.0] * 8), budget_of(model, 0.3), max_removed=3)
    assert sum(8 - count for count in counts.values()) == 3


@given(st.integers(0, 10**6), st.floats(0.4, 0.9))
@settings(max_examples=25, deadline=None)
def test_it_meets_the_time_and_comes_near_the_exact_plan(seed, share):
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.integers(8, 24)) for name in "abc"}
    model = model_of(sizes, [(float(rng.uniform(0.1, 1)), names) for names in ("a", "b", "ab", "bc", "c")])
    choices = Choices({name: tuple(range(1, size + 1)) for name, size in sizes.items()})
    scores = {name: tuple(rng.uniform(0.1, 1, size)) for name, size in sizes.items()}
    budget = budget_of(model, share)
    counts = greedy_counts(choices, scores, budget)
    assert budget.met(counts)
    best = kept_importance(choices, scores, exact_counts(choices, scores, budget))
    assert kept_importance(choices, scores, counts) >= 0.9 * best


@pytest.mark.parametrize(("criterion", "default"), [("taylor_fo", "log"), ("l1", "mean")])
def test_a_speed_is_bought_where_the_loss_changes_least(criterion, default):
    """Scores of the loss are compared as they are, others by the mean of their group."""
    task = make_task(make_network("plain"), constraints=Constraints())
    graph = trace(task.model, task.example_inputs)
    free = [group.name for group in graph.groups if group.prunable]
    table = model_of({group.name: group.n_units for group in graph.groups}, [(1.0, (name,)) for name in free])
    task = replace(task, target=Target(speed_up=2.5, table=replace(table, graph=graph.fingerprint)))
    kept = {
        how: create("criterion", criterion=criterion, **({"normalisation": how} if how else {})).prune(task).plan.kept
        for how in ("", "log", "mean")
    }
    assert kept[""] == kept[default]
    assert kept["log"] != kept["mean"]


@pytest.mark.parametrize("method", ["taylor", "criterion", "uniform"])
def test_a_speed_that_the_whole_network_is_predicted_to_have_is_one_line(method):
    """The dense network is measured to take longer than the table predicts."""
    task = make_task(make_network("plain"), constraints=Constraints())
    graph = trace(task.model, task.example_inputs)
    table = model_of({group.name: group.n_units for group in graph.groups}, [(1.0, ("conv",))])
    table = replace(table, graph=graph.fingerprint)
    target = Target(speed_up=1.02, table=table, dense_ns=1.05 * table.time_ns())
    with pytest.raises(NothingToPruneError, match=r"ask for (more|a smaller target)"):
        create(method).prune(replace(task, target=target))


def test_a_table_that_lacks_a_group_is_refused():
    """What it does not know takes no time in its predictions."""
    task = make_task(make_network("plain"), constraints=Constraints())
    graph = trace(task.model, task.example_inputs)
    first, *_ = (group for group in graph.groups if group.prunable)
    table = replace(model_of({first.name: first.n_units}, [(1.0, (first.name,))]), graph=graph.fingerprint)
    task = replace(task, target=Target(speed_up=1.1, table=table))
    with pytest.raises(TargetError, match=r"the latency table has no group '.*', which may lose units"):
        create("uniform").prune(task)
    others = tuple(group.name for group in graph.groups if group.prunable and group is not first)
    kept = create("uniform").prune(replace(task, constraints=Constraints(exclude=others))).plan.kept
    assert kept.keys() == {first.name}
