"""Residual blocks compete with units for a predicted time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pruners.decide.blocks import groups_inside
from pruners.decide.budget import TimeLimit, time_budget
from pruners.decide.choices import Choices
from pruners.decide.exact.plan import exact_plan, kept_importance
from pruners.decide.latency import BlockCount, LatencyModel, LatencyTerm
from pruners.errors import MethodError, TargetError
from pruners.graph import trace
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

BLOCKS = {"first": ("a",), "second": ("b", "c")}


def model_of(rng, sizes):
    """A stream and two residual blocks: one layer deep inside, and two."""
    inside = {name: block for block, names in BLOCKS.items() for name in names}
    terms = [LatencyTerm(float(rng.random()), (BlockCount("stream", 1),))]
    for name, block in inside.items():
        terms += [
            LatencyTerm(float(rng.random()), (BlockCount(block, 1),)),
            LatencyTerm(float(rng.random()), (BlockCount("stream", 1), BlockCount(block, 1))),
            LatencyTerm(float(rng.random()), (BlockCount("stream", 1), BlockCount(name, 1))),
        ]
    terms.append(LatencyTerm(float(rng.random()), (BlockCount("b", 1), BlockCount("c", 1))))
    return LatencyModel(
        backend="x",
        graph="g",
        block=2,
        base_ns=0.5,
        terms=tuple(terms),
        sizes={**sizes, **dict.fromkeys(BLOCKS, 1)},
        blocks=BLOCKS,
    )


@given(st.integers(0, 10**6), st.floats(0.1, 0.95), st.sampled_from([("first",), ("first", "second")]))
@settings(max_examples=25, deadline=None)
def test_as_good_as_every_plan_tried(seed, share, blocks):
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.integers(2, 5)) for name in ("stream", "a", "b", "c")}
    model = model_of(rng, sizes)
    choices = Choices({name: tuple(range(1, size + 1)) for name, size in sizes.items()})
    scores = {name: tuple(rng.random(size)) for name, size in sizes.items()}
    limit = share * model.time_ns()
    budget = time_budget([TimeLimit(model, limit)])

    def kept(counts, gone):
        return kept_importance(choices, scores, {**counts, **{n: 0 for n in model.without(gone) if n in counts}})

    plans = [dict(zip(sizes, counts, strict=True)) for counts in product(*choices.legal.values())]
    subsets = [
        tuple(n for n, out in zip(blocks, each, strict=True) if out) for each in product((0, 1), repeat=len(blocks))
    ]
    within = [
        kept(plan, gone)
        for gone in subsets
        for plan in plans
        if model.time_ns({**plan, **model.without(gone)}) <= limit
    ]
    if not within:
        with pytest.raises(TargetError, match="smallest legal count"):
            exact_plan(choices, scores, budget, blocks=blocks)
        return
    counts, gone, gap = exact_plan(choices, scores, budget, blocks=blocks)
    assert model.time_ns({**counts, **model.without(gone)}) <= limit
    assert max(within) <= kept_importance(choices, scores, counts) * (1 + gap) + 1e-6
    assert all((counts[name] == 0) == (block in gone) for block, names in BLOCKS.items() for name in names)
    assert kept_importance(choices, scores, counts) >= max(within) - 2e-3


def table_of(graph, *, first_ns):
    """Return a model in which the first block costs `first_ns` whatever its width, and a unit 1 ns."""
    free = {group.name: group.n_units for group in graph.groups if group.prunable}
    blocks = {block.name: tuple(groups_inside(graph.groups, [block])) for block in graph.blocks}
    terms = [LatencyTerm(1.0, (BlockCount(name, 1),)) for name in free]
    return LatencyModel(
        backend="x",
        graph=graph.fingerprint,
        block=1,
        base_ns=1.0,
        terms=(*terms, LatencyTerm(first_ns, (BlockCount(graph.blocks[0].name, 1),))),
        sizes={**free, **dict.fromkeys(blocks, 1)},
        blocks=blocks,
    )


def test_a_dear_block_goes_and_cheap_ones_stay():
    net = make_network("residual")
    graph = trace(net, make_task(net).example_inputs)
    method = create("criterion", criterion="l1", structures="both")
    for first_ns, removed in ((200.0, ("blocks.0",)), (0.0, ())):
        target = Target(speed_up=1.5, table=table_of(graph, first_ns=first_ns))
        pruned = method.prune(make_task(net, constraints=Constraints(), target=target))
        assert pruned.plan.blocks == removed
        assert pruned.history[0]["blocks_removed"] == list(removed)


def test_a_range_does_not_hold_a_group_whose_block_goes():
    net = make_network("residual")
    graph = trace(net, make_task(net).example_inputs)
    table = table_of(graph, first_ns=200.0)
    inside = {name: (1, table.sizes[name] - 1) for name in table.blocks["blocks.0"]}
    assert inside
    task = make_task(net, constraints=Constraints(ranges=inside), target=Target(speed_up=1.5, table=table))
    assert create("criterion", criterion="l1", structures="both").prune(task).plan.blocks == ("blocks.0",)


class Narrow(nn.Module):
    """A wide layer, and a residual block too narrow to lose units in multiples of 8."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(16, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 16, 3, padding=1))
        self.wide = nn.Conv2d(16, 64, 3, padding=1)
        self.fc = nn.Linear(64, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.block(x)
        return self.fc(torch.relu(self.wide(x)).mean((2, 3)))


@pytest.mark.parametrize(("weight", "removed"), [(10.0, ()), (0.001, ("add",))])
def test_a_narrow_block_is_worth_its_units(weight, removed):
    """Its group loses no unit by itself, and counts all the same."""
    net = Narrow().eval()
    with torch.no_grad():
        net.block[0].weight.fill_(weight)
    task = make_task(net, constraints=Constraints(multiple_of=8))
    graph = trace(net, task.example_inputs)
    target = Target(speed_up=1.3, table=table_of(graph, first_ns=30.0))
    method = create("criterion", criterion="l1", normalisation="none", structures="both")
    assert method.prune(replace(task, target=target)).plan.blocks == removed


def test_a_block_with_a_group_that_cannot_be_scored_stays():
    net = Narrow().eval()
    task = make_task(net, constraints=Constraints(multiple_of=8, whole=("block.0",)))
    target = Target(speed_up=1.3, table=table_of(trace(net, task.example_inputs), first_ns=30.0))
    with pytest.raises(MethodError, match="residual blocks that may go"):
        create("criterion", criterion="l1", structures="both").prune(replace(task, target=target))


class Ordered(nn.Module):
    """A residual block with a layer whose channels can only go all together: with the block."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 3, padding=1)
        self.ordered, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.outer(self.ordered(self.inner(x).relu()).cumsum(1))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(("share", "removed"), [(0.5, True), (0.95, False)])
def test_a_group_of_one_unit_goes_with_its_block(share, removed):
    net = Ordered().eval()
    task = make_task(net, constraints=Constraints())
    graph = trace(net, task.example_inputs)
    table = table_of(graph, first_ns=20.0)
    ((block, names),) = table.blocks.items()
    assert "ordered" in names
    assert "ordered" not in table.sizes
    target = Target(speed_up=1 / share, table=table)
    pruned = create("criterion", criterion="l1", structures="both").prune(replace(task, target=target))
    assert pruned.plan.blocks == ((block,) if removed else ())


def test_depth_needs_a_target_of_speed():
    net = make_network("residual")
    task = make_task(net, target=Target(of="flops", kept_fraction=0.5), constraints=Constraints())
    with pytest.raises(MethodError, match="target of speed whose table knows residual blocks"):
        create("criterion", criterion="l1", structures="both").prune(task)
    with pytest.raises(MethodError, match="at once"):
        create("criterion", structures="both", steps=3)
