"""Guided pruning: the mean share of each stage, carried to another network; counts are checked by hand."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deploy.networks.mobilenet import mobilenetv1
from deploy.networks.resnet import resnet20, resnet56
from deploy.networks.vgg import vgg16, vgg19
from pruners.errors import NothingToPruneError, PlanError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.target import Constraints
from pruners.transfer.stages import Stage, stages_of
from pruners.transfer.transfer import average, matched, transfer

_IMAGES = (torch.zeros(2, 3, 32, 32),)


def _traced(model):
    return trace(model.eval(), _IMAGES)


@pytest.fixture(scope="module")
def vgg16_graph():
    return _traced(vgg16())


@pytest.fixture(scope="module")
def vgg19_graph():
    return _traced(vgg19())


@pytest.fixture(scope="module")
def resnet20_graph():
    return _traced(resnet20())


def _plan(graph, counts):
    sizes = {group.name: group.n_units for group in graph.groups}
    return PruningPlan.from_kept(
        {name: tuple(range(count)) for name, count in counts.items()},
        sizes,
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="by hand",
        settings={},
    )


@pytest.fixture(scope="module")
def vgg16_a(vgg16_graph):
    """VGG-16-A of Li et al. 2017, Table 2: half of the first layer and of layers 8 to 13."""
    deep = [f"features.conv{stage}_{index}" for stage in (4, 5) for index in (1, 2, 3)]
    return _plan(vgg16_graph, {"features.conv1_1": 32, **dict.fromkeys(deep, 256)})


def test_published_vgg16_pattern_becomes_the_vgg19_of_the_rule(vgg16_graph, vgg19_graph, vgg16_a):
    # The paper's own figures for VGG-16-A: 2.06e8 MACs and 5.4e6 parameters.
    counts = {name: len(kept) for name, kept in vgg16_a.kept.items()}
    assert vgg16_graph.macs(counts) == pytest.approx(2.06e8, rel=0.005)
    assert vgg16_graph.parameters(counts) == pytest.approx(5.4e6, rel=0.005)

    plan = transfer(average(vgg16_graph, [vgg16_a]), vgg19_graph)
    # Stage means: (1/2 + 1) / 2 = 3/4, then 1, 1, 1/2, 1/2.
    kept = {name: len(units) for name, units in plan.kept.items()}
    assert kept == {
        "features.conv1_1": 48,
        "features.conv1_2": 48,
        **{f"features.conv{stage}_{index}": 256 for stage in (4, 5) for index in (1, 2, 3, 4)},
    }
    widths = [3, 48, 48, 128, 128, *[256] * 12]
    by_hand = sum(9 * a * b + 2 * b for a, b in pairwise(widths)) + 256 * 10 + 10
    assert vgg19_graph.parameters(kept) == by_hand


def test_stream_and_blocks_are_averaged_apart(resnet20_graph):
    inner = [name for name in stages_of(resnet20_graph) if name.startswith("stages.0")]
    pattern = average(resnet20_graph, [_plan(resnet20_graph, {inner[0]: 4, inner[1]: 12})])
    shares = {(share.stage.positions, share.stage.joined): share.share for share in pattern.shares}
    assert shares == {(1024, True): 1, (1024, False): Fraction(4 + 12 + 16, 48), (256, False): 1, (64, False): 1}

    deeper = _traced(resnet56())
    plan = transfer(pattern, deeper)
    assert {name: len(kept) for name, kept in plan.kept.items()} == {
        f"stages.0.{index}.conv1": 11 for index in range(9)
    }
    assert "conv" not in plan.kept, "the residual stream was whole"


def test_layers_of_removed_blocks_do_not_count(resnet20_graph):
    block = next(block for block in resnet20_graph.blocks if "stages.0.1.conv1.weight" in block.tensors)
    half = _plan(resnet20_graph, {"stages.0.0.conv1": 8})
    plans = [half.model_copy(update={"blocks": (block.name,)}), half]
    inner = next(
        share for share in average(resnet20_graph, plans).shares if share.stage == Stage(1024, 16, joined=False)
    )
    assert (inner.kept, inner.of) == (8 + 16 + 8 + 16 + 16, 5 * 16)
    inner = next(share for share in average(resnet20_graph, plans[:1]).shares if "stages.0.0.conv1" in share.groups)
    assert inner.groups == ("stages.0.0.conv1", "stages.0.2.conv1")
    assert inner.share == Fraction(3, 4)


def test_plans_are_averaged(resnet20_graph):
    plans = [_plan(resnet20_graph, {"conv": 8}), _plan(resnet20_graph, {"conv": 12})]
    first = average(resnet20_graph, plans).shares[0]
    assert (first.kept, first.of, first.share) == (20, 32, Fraction(5, 8))
    assert average(resnet20_graph, plans).plans == tuple(plan.sha256 for plan in plans)
    with pytest.raises(PlanError, match="at least one"):
        average(resnet20_graph, [])


def test_a_plan_of_another_network_is_refused(resnet20_graph, vgg16_a):
    with pytest.raises(PlanError, match="another network"):
        average(resnet20_graph, [vgg16_a])


def test_other_widths_are_matched_by_order_only(vgg16_graph, vgg16_a):
    narrow = _traced(vgg16(width=0.25))
    pattern = average(vgg16_graph, [vgg16_a])
    with pytest.raises(PlanError, match="by order"):
        matched(pattern, narrow)
    kept = transfer(pattern, narrow, by="order").kept
    assert {name: len(units) for name, units in kept.items()} == {
        "features.conv1_1": 12,
        "features.conv1_2": 12,
        **{f"features.conv{stage}_{index}": 64 for stage in (4, 5) for index in (1, 2, 3)},
    }


def test_order_needs_as_many_stages(vgg16_graph, vgg19_graph, vgg16_a):
    with pytest.raises(PlanError, match="6 stages, the network 5"):
        transfer(average(vgg16_graph, [vgg16_a]), vgg19_graph, by="order")


def test_units_are_chosen_as_asked(resnet20_graph):
    pattern = average(resnet20_graph, [_plan(resnet20_graph, {"conv": 4})])
    names = list(stages_of(resnet20_graph))
    assert transfer(pattern, resnet20_graph).kept == {"conv": (0, 1, 2, 3)}
    drawn = [transfer(pattern, resnet20_graph, units="random", seed=seed).kept["conv"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(kept) == 4 for kept in drawn)
    sizes = {name: resnet20_graph.group(name).n_units for name in names}
    scores = {name: [float(unit in (3, 5, 7, 11)) for unit in range(size)] for name, size in sizes.items()}
    found = transfer(pattern, resnet20_graph, units=scores)
    assert found.kept == {"conv": (3, 5, 7, 11)}
    assert found.settings["units"] == "scores"
    with pytest.raises(PlanError, match="16 units, 3 scores"):
        transfer(pattern, resnet20_graph, units={**scores, "conv": [1.0, 2.0, 3.0]})
    with pytest.raises(PlanError, match="'last'"):
        transfer(pattern, resnet20_graph, units="last")


def test_counts_follow_the_constraints(resnet20_graph):
    pattern = average(resnet20_graph, [_plan(resnet20_graph, {"conv": 6, "stages.0.0.conv1": 3})])
    plan = transfer(pattern, resnet20_graph, constraints=Constraints(multiple_of=8, exclude=("stages.0.*.conv1",)))
    assert {name: len(kept) for name, kept in plan.kept.items()} == {"conv": 8}


def test_a_pattern_that_removes_nothing_is_told(resnet20_graph):
    with pytest.raises(NothingToPruneError, match="keep everything"):
        transfer(average(resnet20_graph, [_plan(resnet20_graph, {})]), resnet20_graph)


def test_the_new_plan_says_where_it_comes_from_and_can_be_applied(tmp_path, vgg16_graph, vgg16_a):
    small = vgg19(width=0.125)
    graph = _traced(small)
    narrow = _traced(vgg16(width=0.125))
    half = _plan(narrow, {name: len(kept) // 8 for name, kept in vgg16_a.kept.items()})
    plan = transfer(average(narrow, [half]), graph)
    plan.save(tmp_path / "plan.json")
    again = PruningPlan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.settings["plans"] == [half.sha256]
    assert [(stage["kept"], stage["of"]) for stage in again.settings["stages"]] == [
        (12, 16),
        (32, 32),
        (96, 96),
        (96, 192),
        (96, 192),
    ]
    compact = apply(small, again, graph=graph)
    assert compact(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_group_of_a_stage_gets_its_mean(resnet20_graph, seed):
    rng = random.Random(seed)
    sizes = {name: resnet20_graph.group(name).n_units for name in stages_of(resnet20_graph)}
    counts = {name: rng.randint(1, size - 1) for name, size in sizes.items() if rng.random() < 0.7 or name == "conv"}
    pattern = average(resnet20_graph, [_plan(resnet20_graph, counts)])
    carried = transfer(pattern, resnet20_graph, units="random", seed=seed)
    resnet20_graph.check(carried)
    for share in pattern.shares:
        before = [counts.get(name, sizes[name]) for name in share.groups]
        after = {len(carried.kept.get(name, range(sizes[name]))) for name in share.groups}
        assert len(after) == 1
        assert abs(after.pop() - sum(before) / len(before)) <= 0.5


class _Odd(nn.Module):
    """A weight-normed convolution, and a strided depthwise one behind an ordinary one."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.plain = nn.Conv2d(8, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, stride=2, padding=1, groups=12)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(self.depthwise(self.plain(self.conv(x).relu()).relu()).mean((2, 3)))


def test_carried_channels_are_not_made_anew():
    stages = stages_of(trace(_Odd(), (torch.zeros(2, 3, 16, 16),)))
    # The depthwise convolution halves the map, but its channels were made before.
    assert stages["plain"] == Stage(positions=256, width=12, joined=False)
    assert str(stages["plain"]) == "12 wide at 16x16"
    assert "fc" not in stages, "the network's outputs are not prunable"


def test_stages_of_mobilenet_are_its_resolutions_and_widths():
    stages = stages_of(_traced(mobilenetv1(width=0.25)))
    assert Counter((stage.positions, stage.width) for stage in stages.values()) == {
        (1024, 8): 1,
        (1024, 16): 1,
        (256, 32): 2,
        (64, 64): 2,
        (16, 128): 6,
        (4, 256): 2,
    }
    assert not any(stage.joined for stage in stages.values())
