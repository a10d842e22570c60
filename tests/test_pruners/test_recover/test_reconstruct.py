"""Least-squares reconstruction: any choice of channels is compensated, and only layers that lost inputs move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pruners.errors import MethodError, PlanError
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.recover.reconstruct import reconstruct
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

EXAMPLE = (torch.zeros(2, 3, 8, 8),)


def data(n=256, seed=0):
    images = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(images, torch.zeros(n, dtype=torch.int64))


def batches(seed=0):
    return DataLoader(data(seed=seed), batch_size=32)


def apart(dense, compact):
    (images, _) = data(seed=9).tensors
    with torch.no_grad():
        wanted = copy.deepcopy(dense).eval()(images)
        return float((copy.deepcopy(compact).eval()(images) - wanted).norm() / wanted.norm())


def cut(network, method="uniform", **changes):
    net = make_network(network)
    task = make_task(net, **{"constraints": Constraints(), **changes})
    pruned = create(method).prune(task)
    return net, pruned.model, pruned.plan


@pytest.mark.rounding
@pytest.mark.parametrize("network", ["plain", "depthwise", "concat", "residual"])
def test_any_choice_is_compensated_on_images_that_were_not_seen(network):
    dense, compact, plan = cut(network)
    before = apart(dense, compact)
    found = reconstruct(dense, compact, plan, batches(), images=256)
    assert apart(dense, compact) < 0.8 * before
    assert found.left == ()
    for layer in found.layers:
        assert layer.error_after <= layer.error_before + 1e-9
        assert layer.rows >= 256


def test_only_layers_that_lost_inputs_are_changed():
    dense, compact, plan = cut("residual", target=Target(of="ratios", ratios={"blocks.0.conv1": 0.5}))
    before = {name: value.clone() for name, value in compact.state_dict().items()}
    of_dense = copy.deepcopy(dense.state_dict())
    modes = [module.training for module in compact.modules()]
    found = reconstruct(dense, compact, plan, batches(), images=64)
    assert [layer.weight for layer in found.layers] == ["blocks.0.conv2.weight"]
    changed = [name for name, value in compact.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["blocks.0.conv2.weight"]
    assert all(torch.equal(value, of_dense[name]) for name, value in dense.state_dict().items())
    assert [module.training for module in compact.modules()] == modes


class Doubled(nn.Module):
    """Every second channel of two layers is a copy of the one before it: nothing is lost with them."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 16, 5)
        with torch.no_grad():
            for name, value in self.state_dict().items():
                if name.startswith(("first", "second", "norm")) and value.ndim:
                    value[1::2] = value[::2]

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.second(F.relu(self.first(x))))), 2)
        return self.fc(torch.flatten(x, 1))


def doubled():
    torch.manual_seed(0)
    net = Doubled()
    graph = trace(net, EXAMPLE)
    kept = {"first": (0, 2, 4, 6), "second": (1, 3, 4)}
    plan = PruningPlan.from_kept(
        kept, {"first": 8, "second": 6}, graph=graph.fingerprint, inputs=graph.inputs, method="by hand", settings={}
    )
    return net, plan


@pytest.mark.rounding
@pytest.mark.parametrize("form", ["module", "graph"])
def test_what_copies_carried_is_won_back_exactly_in_both_forms(form):
    net, plan = doubled()
    compact = apply(net, plan, form=form)
    assert apart(net, compact) > 0.1
    found = reconstruct(net, compact, plan, batches(), images=256, ridge=1e-9)
    assert apart(net, compact) < 1e-3
    assert [layer.weight for layer in found.layers] == ["second.weight", "fc.weight"]
    assert all(layer.error_after < 1e-4 < layer.error_before for layer in found.layers)


def test_a_strong_ridge_leaves_the_weights_as_they_are():
    net, plan = doubled()
    compact = apply(net, plan)
    before = compact.second.weight.detach().clone()
    reconstruct(net, compact, plan, batches(), images=64, ridge=1e9)
    assert torch.allclose(compact.second.weight, before, atol=1e-6)


@pytest.mark.rounding
def test_network_that_was_trained_after_the_cut_is_taken_as_it_is():
    net, plan = doubled()
    compact = apply(net, plan)
    optimizer = torch.optim.SGD(compact.parameters(), lr=0.05)
    for images, labels in batches():
        loss = F.cross_entropy(compact(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before = apart(net, compact)
    reconstruct(net, compact, plan, batches(), images=256)
    assert apart(net, compact) < before


def test_same_seed_gives_the_same_weights_and_the_result_says_that_no_rate_was_used():
    results = []
    for seed in (0, 0, 1):
        net, plan = doubled()
        compact = apply(net, plan)
        found = reconstruct(net, compact, plan, batches(), images=64, positions=2, seed=seed)
        results.append(compact.second.weight.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    said = found.to_json()
    assert said["lr"] is None
    assert set(said["layers"][0]) == {"weight", "rows", "error_before", "error_after"}


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.side = nn.Conv2d(6, 5, 1)
        self.up = nn.ConvTranspose2d(6, 5, 1)
        self.fc = nn.Linear(5, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.fc((self.side(x) + self.up(x)).mean((2, 3)))


def test_layers_that_are_not_plain_are_left_and_named():
    torch.manual_seed(0)
    net = Transposed()
    task = make_task(net, target=Target(of="ratios", ratios={"stem": 0.5}), constraints=Constraints())
    pruned = create("l1").prune(task)
    before = pruned.model.up.weight.detach().clone()
    found = reconstruct(net, pruned.model, pruned.plan, batches(), images=64)
    assert found.left == ("up.weight",)
    assert [layer.weight for layer in found.layers] == ["side.weight"]
    assert torch.equal(pruned.model.up.weight, before)


def test_few_batches_are_gone_through_again_and_none_is_an_error():
    net, plan = doubled()
    compact = apply(net, plan)
    found = reconstruct(net, compact, plan, [(data(8).tensors[0], torch.zeros(8))], images=24)
    assert found.layers[-1].rows == 24
    with pytest.raises(MethodError, match="ended after 0 of 24"):
        reconstruct(net, compact, plan, [], images=24)


def test_mistakes_are_told():
    net, plan = doubled()
    with pytest.raises(PlanError, match="another network"):
        reconstruct(make_network("plain"), apply(net, plan), plan, batches(), images=24)
    graph = trace(net, EXAMPLE)
    nothing = plan.model_copy(update={"kept": {}, "sizes": {}, "graph": graph.fingerprint})
    with pytest.raises(MethodError, match="nothing to fit"):
        reconstruct(net, net, nothing, batches(), images=24)
