"""What is foretold for real networks is what the compact ones cost, and single units land on the target."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import nn

from pruners.decide.decisions import decide, decision_names
from pruners.decide.goal import goal_of
from pruners.decide.landing import landing_of
from pruners.decide.units import top_units
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.testing import NETWORKS, make_network, make_task


@cache
def traced(network):
    model = make_network(network)
    return model, trace(model, make_task(model).example_inputs)


def drawn_scores(graph, names):
    draw = random.Random(0)
    return {name: [draw.random() for _ in range(graph.group(name).n_units)] for name in names}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("decision", "of"), [*zip(decision_names(), ["flops", "macs", "params", "flops"], strict=True)]
)
def test_the_compact_network_costs_what_was_foretold(network, decision, of):
    model, graph = traced(network)
    constraints = Constraints(exclude=("stem",), min_units=2)
    choices, budget = goal_of(Target(of=of, kept_fraction=0.55), constraints, graph)
    scores = drawn_scores(graph, choices.movable)
    counts = decide(decision, choices, scores, budget)
    plan = PruningPlan.from_kept(
        top_units(scores, counts),
        {name: graph.group(name).n_units for name in counts},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="by hand",
        settings={},
    )
    compact = trace(apply(model, plan, graph=graph, check=False), make_task(model).example_inputs)
    cost = compact.parameters() if of == "params" else compact.macs()
    landing = landing_of(choices, counts, budget)
    assert cost == budget.cost(counts)
    assert landing.kept == pytest.approx(cost / budget.dense)
    assert landing.kept <= 0.55
    assert landing.close or landing.above > 0.55


@pytest.mark.parametrize("decision", decision_names())
@pytest.mark.parametrize("of", ["flops", "params"])
@pytest.mark.parametrize("kept", [0.8, 0.5, 0.3])
def test_real_widths_land_within_one_percent(decision, of, kept):
    graph = wide()
    choices, budget = goal_of(Target(of=of, kept_fraction=kept), Constraints(), graph)
    landing = landing_of(choices, decide(decision, choices, drawn_scores(graph, choices.movable), budget), budget)
    assert kept - 0.01 < landing.kept <= kept
    assert landing.close


@cache
def wide():
    """Trace a residual network of real widths."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

        def forward(self, x):
            return x + self.conv2(torch.relu(self.bn1(self.conv1(x))))

    stem, down = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 128, 3, stride=2)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    model = nn.Sequential(stem, *(Block(64) for _ in range(3)), down, *(Block(128) for _ in range(3)), *head)
    return trace(model, (torch.zeros(2, 3, 16, 16),))


def test_removals_are_as_many_as_one_may_take():
    """Three removals are asked for; two units at a time take more of them, and end at the target."""
    task = make_task(
        make_network("plain"),
        target=Target(of="flops", kept_fraction=0.5),
        constraints=Constraints(max_units_per_step=2, bounds={"hidden": (0.25, 0.75)}),
    )
    pruned = create("taylor", steps=3, batches_per_step=1, updates_between=0).prune(task)
    assert len(pruned.history) > 3
    # What the bounds force goes in one piece, and first.
    assert pruned.history[0]["units_removed"] == 4
    assert all(row["units_removed"] <= 2 for row in pruned.history[1:])
    assert pruned.macs_after <= 0.5 * pruned.macs_before
    assert 4 <= len(pruned.plan.kept["hidden"]) <= 12


def test_bounds_hold_for_a_method_that_removes_once():
    task = make_task(
        make_network("residual"),
        target=Target(of="params", kept_fraction=0.9),
        constraints=Constraints(bounds={"*.conv1": (0.0, 0.5)}),
    )
    kept = create("l1").prune(task).plan.kept
    assert [len(kept[f"blocks.{i}.conv1"]) for i in range(2)] == [6, 6]
