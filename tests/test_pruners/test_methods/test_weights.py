"""Methods that set single weights to zero: which, how many, and that they stay so."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError, NothingToPruneError, SelectorError, TargetError
from pruners.forms.compact import load, save_weights
from pruners.gates.gate import GATE
from pruners.gates.masks import WeightMasks
from pruners.graph import trace
from pruners.recover.settings import TrainSettings
from pruners.registry import create, method_class, names
from pruners.target import Constraints, Target
from pruners.testing import NETWORKS, MethodRun, make_network, make_task
from pruners.testing.class_promises import class_is_described, unknown_setting_is_refused
from pruners.testing.promises import killed_training_goes_on
from pruners.weights.decide import WeightBudget, keep_largest
from pruners.weights.layers import weight_layers

SHORT = TrainSettings(epochs=2, batch_size=8, lr=0.05)
QUICK = {"magnitude": {}, "lottery": {"training": SHORT, "rate": 0.5}}
HALF = Target(of="params", kept_fraction=0.5)


def asked(network="plain", **changes):
    return make_task(make_network(network), **{"constraints": Constraints(), "target": HALF, **changes})


def nonzero(model):
    return sum(int((parameter != 0).sum()) for parameter in model.parameters())


def test_all_of_them_are_held_to_this():
    assert set(names("weights")) == set(QUICK)
    assert set(names()) == set(names("weights")) | set(names("channels"))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", QUICK)
def test_the_target_is_landed_on_and_the_network_keeps_its_shapes(method, network):
    task = asked(network)
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    pruned = create(method, **QUICK[method]).prune(task)
    weights = [module.weight for module in pruned.model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    total = sum(parameter.numel() for parameter in task.model.parameters())
    assert pruned.zeros == zeros
    assert 0 <= 0.5 * total - (total - zeros) < 1
    assert not pruned.plan.removes
    assert pruned.params_after == pruned.params_before == total
    assert type(pruned.model) is type(task.model)
    assert pruned.model.training
    assert not hasattr(pruned.model, GATE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.model.state_dict().items())
    assert {n: t.shape for n, t in pruned.model.state_dict().items()} == {n: t.shape for n, t in before.items()}


@pytest.mark.parametrize("method", QUICK)
def test_the_same_seed_gives_the_same_network(method):
    first, second = (create(method, **QUICK[method]).prune(asked()).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", QUICK)
def test_class_promises(method):
    class_is_described(method)
    unknown_setting_is_refused(method)


def test_lottery_goes_on_where_it_was_killed():
    pruned = create("lottery", **QUICK["lottery"]).prune(asked())
    done = MethodRun("lottery", QUICK["lottery"], asked(), {}, pruned, None, epochs=3)
    killed_training_goes_on(done)


def test_the_smallest_weights_of_the_whole_network_go():
    task = asked()
    pruned = create("magnitude").prune(task)
    pairs = [
        (before.weight.detach().abs().flatten(), after.weight.detach().flatten() != 0)
        for before, after in zip(task.model.modules(), pruned.model.modules(), strict=True)
        if isinstance(before, (nn.Conv2d, nn.Linear))
    ]
    sizes, kept = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    assert sizes[kept].min() >= sizes[~kept].max()
    assert len({round(float(mask.float().mean()), 2) for _, mask in pairs}) > 1, "shares differ by layer"


def test_local_takes_the_same_share_of_each_layer():
    pruned = create("magnitude", scope="local").prune(asked())
    shares = [
        float((module.weight != 0).float().mean())
        for module in pruned.model.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    assert max(shares) - min(shares) < 0.02


def test_a_target_of_flops_counts_the_multiplications_that_are_left():
    task = asked(target=Target(of="flops", kept_fraction=0.4), constraints=Constraints(exclude=("fc",)))
    pruned = create("magnitude").prune(task)
    graph = trace(task.model, task.example_inputs)
    layers = weight_layers(task.model, graph, "all")
    assert sum(layer.n_weights * layer.macs_each for layer in layers) == pytest.approx(graph.macs())
    left = sum(int((layer.weight(pruned.model) != 0).sum()) * layer.macs_each for layer in layers)
    assert 0 <= 0.4 * graph.macs() - left < 2 * max(layer.macs_each for layer in layers)
    assert bool((pruned.model.fc.weight != 0).all())


def test_ratios_are_of_the_layers_that_they_name():
    pruned = create("magnitude").prune(asked(target=Target(of="ratios", ratios={"conv": 0.3, "hidden": 0.5})))
    weights = {name: module.weight for name, module in pruned.model.named_modules() if hasattr(module, "weight")}
    assert int((weights["conv"] == 0).sum()) == weights["conv"].numel() - int(weights["conv"].numel() * 0.7)
    assert float((weights["hidden"] == 0).float().mean()) == 0.5
    assert bool((weights["stem"] != 0).all())


def test_convolutions_alone():
    task = asked("residual", target=Target(of="params", kept_fraction=0.7))
    pruned = create("magnitude", layers="convolutions").prune(task)
    assert torch.equal(pruned.model.fc.weight, task.model.fc.weight)
    assert pruned.zeros


def test_lamp_scores_are_the_papers():
    weights = {"a": torch.tensor([[3.0, -1.0, 2.0]]), "b": torch.tensor([[0.1, 0.2, 0.15]])}

    budget = SimpleNamespace(each={"a": 1.0, "b": 1.0}, dense=6.0, prunable=6.0)

    flat = np.concatenate(
        [
            [float(w) ** 2 / sum(float(v) ** 2 for v in one.flatten() if abs(v) >= abs(w)) for w in one.flatten()]
            for one in weights.values()
        ]
    )
    keep = keep_largest(weights, budget, 3.0, "lamp")
    kept = np.concatenate([one.flatten().numpy() for one in keep.values()])
    assert set(np.flatnonzero(kept)) == set(np.argsort(-flat, kind="stable")[:3])


def test_several_removals_follow_the_cubic_schedule():
    pruned = create("magnitude", steps=3, training=SHORT).prune(asked())
    zeros = [row["zeros"] for row in pruned.history]
    total = sum(parameter.numel() for parameter in pruned.model.parameters())
    assert [z / total for z in zeros] == pytest.approx([0.5 * (1 - (1 - i / 3) ** 3) for i in (1, 2, 3)], abs=2 / total)


def test_masks_survive_momentum_and_weight_decay():
    net = create("magnitude").prune(asked()).model
    masks = WeightMasks.of_zeros(net)
    gone = {name: weight == 0 for name, weight in masks.weights().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(net(torch.randn(8, 3, 8, 8)), torch.randint(0, 5, (8,))).backward()
        optimizer.step()
    masks.fold()
    for name, mask in gone.items():
        weight = net.get_submodule(name).weight
        assert torch.equal(weight == 0, mask)
        assert type(net.get_submodule(name)).__name__ in {"Conv2d", "Linear"}


def test_rewinding_goes_back_to_the_update_that_was_asked_for():
    net = make_network("plain")
    masks = WeightMasks(net, ["conv"], remember_at=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for update in range(1, 5):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
        masks.after_step(0.1)
        if update == 2:
            then = copy.deepcopy(net.state_dict())
    masks.keep({"conv": torch.rand_like(net.conv.weight) > 0.5})
    masks.rewind()
    now = net.state_dict()
    tensors = [name for name in now if GATE not in name and "mask" not in name]
    assert all(torch.equal(now[name], then[name]) for name in tensors)
    assert bool((net.conv.weight == 0).any())


def test_lottery_resets_survivors_to_their_first_values():
    task = asked()
    quick = TrainSettings(epochs=1, batch_size=24, lr=1e-9, momentum=0, nesterov=False, weight_decay=0)
    ticket = create("lottery", training=quick, rate=0.5, scratch=False).prune(task).model
    first = dict(task.model.named_parameters())
    for name, after in ticket.named_parameters():
        before = first[name]
        alive = after != 0
        assert torch.allclose(after[alive], before[alive], atol=1e-6)


def test_the_result_is_kept_on_disk_and_loaded(tmp_path):
    task = asked()
    pruned = create("magnitude").prune(task)
    save_weights(pruned.model, tmp_path / "weights.safetensors")
    again = load(task.model, pruned.plan, tmp_path / "weights.safetensors")
    assert nonzero(again) == nonzero(pruned.model)


@pytest.mark.parametrize(
    ("error", "word", "changes"),
    [
        (TargetError, "out of reach", {"target": Target(of="params", kept_fraction=1e-4)}),
        (TargetError, "weight_bytes", {"target": Target(of="weight_bytes", kept_fraction=0.5)}),
        (TargetError, "multiple_of", {"constraints": Constraints(multiple_of=8)}),
        (SelectorError, "'stm'", {"constraints": Constraints(exclude=("stm",))}),
        (SelectorError, "'cnv'", {"target": Target(of="ratios", ratios={"cnv": 0.5})}),
        (NothingToPruneError, "excluded", {"constraints": Constraints(exclude=("*",))}),
        (NothingToPruneError, "no weight", {"target": Target(of="ratios", ratios={"conv": 0.0})}),
    ],
)
@pytest.mark.parametrize("method", QUICK)
def test_mistakes_are_one_line_before_any_training(method, error, word, changes):
    task = replace(asked(**changes), fit=None) if method == "magnitude" else asked(**changes)
    with pytest.raises(error, match=word) as caught:
        create(method, **QUICK[method]).prune(task)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_said():
    with pytest.raises(MethodError, match="hand in fit"):
        create("lottery", training=SHORT).prune(replace(asked(), fit=None))
    with pytest.raises(MethodError, match="several steps need training"):
        create("magnitude", steps=2)
    with pytest.raises(MethodError, match="no weight that is zero"):
        WeightMasks.of_zeros(make_network("plain"))
    assert "dense runtimes" in method_class("magnitude").__mro__[1].__doc__


def test_a_budget_counts_what_stays():
    task = asked()
    graph = trace(task.model, task.example_inputs)
    layers = weight_layers(task.model, graph, "all")
    budget = WeightBudget(layers, HALF, graph)
    assert budget.cost({layer.name: layer.n_weights for layer in layers}) == graph.parameters()
