"""Recalibration: the cumulative average of the batches' statistics, and nothing else changed."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pruners.errors import TrainingError
from pruners.graph import trace
from pruners.recover.recalibrate import recalibrate
from pruners.registry import create
from pruners.surgery import apply
from pruners.testing import make_network, make_task


def batches(n=5, size=16, seed=0, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, channels, 8, 8, generator=generator) * 3 + 1, torch.zeros(size, dtype=torch.int64))
        for _ in range(n)
    ]


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def only_statistics_changed(before, after):
    same = {name for name in before if torch.equal(before[name], after[name])}
    changed = set(before) - same
    assert changed
    assert all(name.split(".")[-1] in {"running_mean", "running_var", "num_batches_tracked"} for name in changed)


@pytest.mark.rounding
@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 6), size=st.integers(1, 8), seed=st.integers(0, 99), momentum=st.sampled_from([None, 0.1, 0.9]))
def test_statistics_are_the_mean_over_the_batches(n, size, seed, momentum):
    norm = nn.BatchNorm2d(3, momentum=momentum)
    norm.running_mean += 7
    data = batches(n, size, seed)
    found = recalibrate(norm, data)
    images = torch.stack([images for images, _ in data]).double()
    mean = images.mean((1, 3, 4)).mean(0)
    variance = images.transpose(1, 2).flatten(2).var(2).mean(0)
    assert torch.allclose(norm.running_mean.double(), mean, atol=1e-4)
    assert torch.allclose(norm.running_var.double(), variance, rtol=1e-4)
    assert norm.momentum == momentum
    assert (found.layers, found.batches, found.examples) == (1, n, n * size)


@pytest.mark.rounding
def test_it_is_what_torch_averages_with_momentum_none():
    ours, torchs = make_network("residual"), make_network("residual")
    recalibrate(ours, batches())
    for module in torchs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        for images, _ in batches():
            torchs.train()(images)
    for name, value in torchs.state_dict().items():
        if "running" in name:
            assert torch.allclose(ours.state_dict()[name], value, atol=1e-6)


def test_modes_momenta_gradients_and_weights_stay():
    net = nn.Sequential(make_network("residual"), nn.Dropout(0.5)).train()
    net[0].blocks[0].eval()
    net[0].blocks[1].bn1.momentum = 0.3
    modes = {name: module.training for name, module in net.named_modules()}
    before = state(net)
    recalibrate(net, batches())
    only_statistics_changed(before, state(net))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert net[0].blocks[1].bn1.momentum == 0.3
    assert all(parameter.grad is None for parameter in net.parameters())


def test_dropout_before_a_batchnorm_disturbs_nothing():
    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3)).train()
    recalibrate(net, batches())
    alone = nn.BatchNorm2d(3)
    recalibrate(alone, batches())
    assert torch.equal(net[1].running_var, alone.running_var)


@pytest.mark.parametrize("kind", [nn.SyncBatchNorm, nn.BatchNorm2d])
def test_any_batchnorm_also_without_scale(kind):
    norm = kind(3, affine=False)
    assert recalibrate(norm, batches()).layers == 1
    assert norm.running_mean == pytest.approx(torch.ones(3), abs=0.3)


def test_no_batchnorm_is_said_and_nothing_is_done():
    for net in (make_network("concat").left, nn.BatchNorm2d(8, track_running_stats=False), nn.InstanceNorm2d(8)):
        before = state(net)
        found = recalibrate(net, batches(channels=8))
        assert found.layers == 0
        assert "no BatchNorm" in found.reason
        assert all(torch.equal(value, before[name]) for name, value in state(net).items())


@pytest.mark.rounding
def test_after_a_cut_the_outputs_of_evaluation_are_those_of_training():
    net = make_network("residual").eval()
    recalibrate(net, batches(20))
    compact = create("uniform").prune(make_task(net)).model
    (images, _) = batches(1, 512, seed=9)[0]

    def apart():
        with torch.no_grad():
            return float((compact.eval()(images) - copy.deepcopy(compact).train()(images)).norm())

    before = apart()
    recalibrate(compact, batches(20, 64))
    assert apart() < before / 3


def test_network_in_graph_form_gets_the_same_statistics():
    net = make_network("residual")
    plan = create("l1").prune(make_task(net)).plan
    own, in_graph = (apply(net, plan, form=form) for form in ("module", "graph"))
    before = state(in_graph)
    assert recalibrate(in_graph, batches()).layers == recalibrate(own, batches()).layers == 4
    only_statistics_changed(before, state(in_graph))
    for name, value in own.state_dict().items():
        if "running" in name:
            assert torch.allclose(in_graph.state_dict()[name], value, atol=1e-6)
    in_graph.eval()
    trace(in_graph, (torch.zeros(2, 3, 8, 8),))


def test_mistakes_are_told_and_change_nothing():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    before = state(net)
    with pytest.raises(TrainingError, match="no batches"):
        recalibrate(net, [])
    with pytest.raises(TrainingError, match="1 batch or more"):
        recalibrate(net, batches(), n_batches=0)
    with pytest.raises(TrainingError, match="larger batches"):
        recalibrate(net, batches(2, 4) + batches(1, 1))
    assert all(torch.equal(value, before[name]) for name, value in state(net).items() if "tracked" not in name)
    assert all(module.training for module in net.modules())


def test_endless_batches_are_taken_as_far_as_asked_for():
    def endless():
        while True:
            yield from batches(1)

    assert recalibrate(make_network("residual"), endless(), n_batches=3).to_json() == {
        "layers": 4,
        "batches": 3,
        "examples": 48,
        "reason": "",
        "lr": None,
    }
