"""Bias folding: constants that removed channels gave are not lost, and nothing but biases and means moves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError, PlanError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.recover.fold_bias import fold_bias
from pruners.surgery import apply
from pruners.testing import NETWORKS, make_network

EXAMPLE = (torch.zeros(2, 3, 8, 8),)


class Chain(nn.Module):
    """Every way from a filter to the next layer that keeps a constant one: norms, activations, pooling, depthwise."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 10, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(10)
        self.depthwise = nn.Conv2d(10, 10, 1, groups=10)
        self.third = nn.Conv2d(10, 6, 1)
        self.hidden = nn.Linear(6 * 4, 12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = F.hardswish(self.depthwise(torch.sigmoid(self.norm2(self.second(x)))))
        x = F.max_pool2d(torch.tanh(self.third(x)), 2)
        return self.fc(F.gelu(self.hidden(torch.flatten(x, 1))))


def drawn(net, seed=0):
    """Give each number of a network a random value, those of norms too, and put it in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator) * 0.3
            tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return net.eval()


def batches(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(16, 3, 8, 8, generator=generator), torch.zeros(16)) for _ in range(n)]


def half(net, *names):
    """Make a plan that removes the last half of each group; of those with a name that begins so."""
    graph = trace(net, EXAMPLE)
    sizes = {g.name: g.n_units for g in graph.groups if not g.fixed and (not names or g.name.startswith(names))}
    kept = {name: tuple(range((n + 1) // 2)) for name, n in sizes.items()}
    return PruningPlan.from_kept(
        kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="by hand", settings={}
    )


def without_filters(net, plan):
    """Zero the filters of the removed channels: what they give is a constant."""
    for name, kept in plan.kept.items():
        layer = net.get_submodule(name)
        with torch.no_grad():
            layer.weight[len(kept) :] = 0
    return net


def outputs(net, seed=9):
    (images, _) = batches(1, seed)[0]
    with torch.no_grad():
        return copy.deepcopy(net).eval()(images)


@pytest.mark.rounding
@pytest.mark.parametrize("form", ["module", "graph"])
def test_constants_of_dead_filters_are_kept_exactly(form):
    net = drawn(Chain())
    plan = half(net)
    without_filters(net, plan)
    compact = apply(net, plan, form=form)
    assert (outputs(compact) - outputs(net)).abs().max() > 0.01
    found = fold_bias(net, compact, plan, batches(1))
    torch.testing.assert_close(outputs(compact), outputs(net), rtol=1e-5, atol=1e-6)
    assert {layer.weight: layer.into for layer in found.layers} == {
        "second.weight": "norm2.running_mean",
        "third.weight": "third.bias",
        "hidden.weight": "hidden.bias",
        "fc.weight": "fc.bias",
    }
    assert (found.left, found.examples) == ((), 16)
    assert all(layer.shift > 0 for layer in found.layers)


@pytest.mark.rounding
def test_the_next_layer_keeps_the_mean_that_it_had_in_the_dense_network():
    net = drawn(Chain())
    plan = half(net, "first")
    compact = apply(net, plan)
    images = torch.cat([batch for batch, _ in batches()])

    def mean(of):
        return of.norm2(of.second(F.relu(of.norm(of.first(images))))).mean((0, 2, 3))

    with torch.no_grad():
        fold_bias(net, compact, plan, batches())
        torch.testing.assert_close(mean(compact), mean(net), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 6, 3, stride=2, padding=1),
        nn.Conv2d(8, 6, 3, dilation=2),
        nn.Conv2d(8, 6, (1, 3), stride=(2, 1), padding=(0, 2), bias=False),
        nn.Conv2d(8, 6, 3, padding="same", dilation=2),
    ],
    ids=["stride", "dilation", "oblong", "same"],
)
def test_means_are_over_the_very_positions_of_the_layer(layer):
    net = drawn(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), copy.deepcopy(layer), nn.BatchNorm2d(6)))
    plan = half(net, "0")
    compact = apply(net, plan)
    (images, _) = batches(1)[0]
    with torch.no_grad():
        fold_bias(net, compact, plan, batches(1))
        torch.testing.assert_close(compact(images).mean((0, 2, 3)), net(images).mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.rounding
@pytest.mark.parametrize("network", NETWORKS)
def test_it_brings_every_kind_of_network_nearer_to_the_dense_one(network):
    net = drawn(make_network(network))
    plan = half(net)
    compact = apply(net, plan)
    before = (outputs(compact) - outputs(net)).norm()
    fold_bias(net, compact, plan, batches(16))
    assert (outputs(compact) - outputs(net)).norm() < before


def test_nothing_but_the_biases_and_means_behind_the_cut_moves():
    net = drawn(Chain()).train()
    plan = half(net, "second")
    compact = apply(net, plan)
    of_dense, before = copy.deepcopy(net.state_dict()), copy.deepcopy(compact.state_dict())
    fold_bias(net, compact, plan, batches())
    changed = [name for name, value in compact.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["third.bias"]
    assert all(torch.equal(value, of_dense[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in compact.modules())


class Left(nn.Module):
    """Layers that can not take a constant: without a bias, with a shared one, with one that several calls share."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.bare = nn.Conv2d(8, 6, 1, bias=False)
        self.twice = nn.Conv2d(6, 6, 1)
        self.tied = nn.Conv2d(6, 6, 1)
        self.tied.bias = self.twice.bias
        self.up = nn.ConvTranspose2d(6, 4, 2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.bare(F.relu(self.first(x))))
        x = F.relu(self.twice(x)) + F.relu(self.tied(x))
        return self.fc(F.relu(self.up(x)).mean((2, 3)))


def test_layers_that_can_take_nothing_are_named():
    net = drawn(Left())
    plan = half(net)
    compact = apply(net, plan)
    found = fold_bias(net, compact, plan, batches())
    assert [layer.weight for layer in found.layers] == ["fc.weight"]
    assert set(found.left) == {"bare.weight", "twice.weight", "tied.weight", "up.weight"}


class Norms(nn.Module):
    """BatchNorms that can not take what one layer lost: read past, shared, or of each batch's own mean."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.past = nn.Conv2d(8, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.left = nn.Conv2d(8, 6, 1, bias=False)
        self.right = nn.Conv2d(8, 6, 1, bias=False)
        self.shared = nn.BatchNorm2d(6)
        self.own = nn.Conv2d(8, 6, 1, bias=False)
        self.each = nn.BatchNorm2d(6, track_running_stats=False)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = F.relu(self.first(x))
        past = self.past(x)
        x = self.norm(past) + past + self.shared(self.left(x)) + self.shared(self.right(x)) + self.each(self.own(x))
        return self.fc(x.mean((2, 3)))


def test_norms_that_can_take_nothing_are_passed_by():
    net = drawn(Norms())
    plan = half(net)
    compact = apply(net, plan)
    found = fold_bias(net, compact, plan, batches())
    assert [layer.into for layer in found.layers] == ["fc.bias"]
    assert set(found.left) == {"past.weight", "left.weight", "right.weight", "own.weight"}


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.again = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.first(x.mean((1, 2))))
        return self.fc(torch.tanh(self.again(torch.relu(self.again(x)))))


def test_a_layer_with_two_calls_takes_the_mean_of_both():
    net = drawn(Twice())
    plan = half(net)
    compact = apply(net, plan)
    before = (outputs(compact) - outputs(net)).norm()
    found = fold_bias(net, compact, plan, batches())
    assert [layer.into for layer in found.layers] == ["again.bias", "fc.bias"]
    assert (outputs(compact) - outputs(net)).norm() < before


def test_mistakes_are_named():
    net = drawn(Chain())
    plan = half(net)
    compact = apply(net, plan)
    with pytest.raises(MethodError, match="there are no batches"):
        fold_bias(net, compact, plan, [])
    with pytest.raises(MethodError, match="1 batch or more, got n_batches=0"):
        fold_bias(net, compact, plan, batches(), n_batches=0)
    with pytest.raises(PlanError, match="another network"):
        fold_bias(make_network("plain"), compact, plan, batches())
    bare = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    plan = half(bare)
    with pytest.raises(MethodError, match="no layer that lost inputs has a bias"):
        fold_bias(bare, apply(bare, plan), plan, batches())


def test_blocks_that_were_removed_take_nothing():
    net = drawn(make_network("residual"))
    plan = half(net, "expand").model_copy(update={"blocks": ("blocks.1",)})
    compact = apply(net, plan)
    found = fold_bias(net, compact, plan, batches())
    assert [layer.into for layer in found.layers] == ["blocks.0.bn1.running_mean", "fc.bias"]
    assert found.to_json()["examples"] == 64
