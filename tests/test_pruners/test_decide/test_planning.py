"""A plan from scores, in one call."""

from __future__ import annotations

import math

import pytest
import torch

from pruners.decide.planning import plan_from_scores
from pruners.errors import MethodError, PlanError, TargetError
from pruners.graph import trace
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.testing import make_network

HALF = Target(of="flops", kept_fraction=0.5)


@pytest.fixture(scope="module")
def network():
    return make_network("plain")


@pytest.fixture(scope="module")
def graph(network):
    return trace(network, (torch.zeros(2, 3, 8, 8),))


def by_number(graph):
    return {group.name: range(group.n_units) for group in graph.groups if group.prunable}


def test_the_lowest_go_and_the_target_is_met(network, graph):
    plan = plan_from_scores(graph, by_number(graph), HALF, Constraints(multiple_of=2))
    assert all(kept == tuple(range(plan.sizes[name]))[-len(kept) :] for name, kept in plan.kept.items())
    assert trace(apply(network, plan, graph=graph), (torch.zeros(2, 3, 8, 8),)).macs() <= 0.5 * graph.macs()


def test_groups_without_scores_stay_whole(graph):
    scores = {"conv": by_number(graph)["conv"]}
    plan = plan_from_scores(graph, scores, Target(of="params", kept_fraction=0.8), decision="local")
    assert set(plan.kept) == {"conv"}
    with pytest.raises(TargetError):
        plan_from_scores(graph, scores, Target(of="flops", kept_fraction=0.01))


@pytest.mark.parametrize(
    ("scores", "error", "word"),
    [
        ({"cnv": [1.0]}, PlanError, "'cnv'"),
        ({"conv": [1.0, 2.0]}, MethodError, "12 units, got 2"),
        ({"conv": [math.nan] * 12}, MethodError, "not finite"),
    ],
)
def test_scores_that_do_not_fit_are_one_line(graph, scores, error, word):
    with pytest.raises(error, match=word):
        plan_from_scores(graph, scores, HALF)


def test_a_group_that_must_lose_units_needs_scores(network, graph):
    scores = {name: values for name, values in by_number(graph).items() if name != "conv"}
    with pytest.raises(MethodError, match="'conv' has no scores, but the bounds make it lose units"):
        plan_from_scores(graph, scores, HALF, Constraints(bounds={"conv": (0.25, 0.5)}))
