"""The method `criterion`: each piece that can be chosen does what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.graph import trace
from pruners.importance.criteria import criterion_class, criterion_names
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

FREE = Constraints()
HALF = Target(of="ratios", ratios={"conv": 0.5})


def counts(pruned):
    return {name: len(kept) for name, kept in pruned.plan.kept.items()}


@pytest.mark.parametrize("name", criterion_names())
def test_every_criterion_prunes(name):
    """BatchNorm's criteria where there is one, the others on every group."""
    on_norm = name in ("bn_scale", "taylor_fo_bn")
    constraints = Constraints(exclude=("conv", "hidden") if on_norm else ())
    options = {"draws": 2} if "draws" in criterion_class(name).model_fields else {}
    task = make_task(make_network("plain"), constraints=constraints, target=Target(of="params", kept_fraction=0.95))
    pruned = create("criterion", criterion=name, options=options, batches_per_step=1).prune(task)
    assert pruned.params_after <= 0.95 * pruned.params_before
    assert pruned.history[0]["examples_scored"] == (8 if criterion_class(name).needs_data else 0)


def test_a_criterion_that_does_not_apply_says_where():
    task = make_task(make_network("plain"), constraints=FREE, target=Target(of="params", kept_fraction=0.95))
    pruned = create("criterion", criterion="bn_scale").prune(task)
    assert "'conv': bn_scale cannot rank it: it has no BatchNorm" in pruned.unranked
    assert not {"conv", "hidden"} & set(pruned.plan.kept)


def test_l1_with_ratios_is_the_l1_method():
    task = make_task(make_network("residual"), constraints=FREE, target=Target(of="ratios", ratios={"*": 0.4}))
    ours = create("criterion", criterion="l1", decision="uniform").prune(task)
    assert ours.plan.kept == create("l1").prune(task).plan.kept


def test_taylor_without_its_flops_term_is_the_taylor_method():
    task = make_task(make_network("residual"), constraints=FREE)
    options = {"criterion": "taylor", "normalisation": "l2"}
    ours = create("criterion", **options, steps=2, batches_per_step=2, updates_between=3).prune(task)
    theirs = create("taylor", steps=2, batches_per_step=2, updates_between=3, flops_strength=0).prune(task)
    assert ours.plan.kept == theirs.plan.kept
    assert len(ours.history) == 2
    state = theirs.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.model.state_dict().items())


def test_reductions_rank_units_of_a_residual_stage_differently():
    """One layer has a single huge filter: the largest member keeps it, whatever the others say."""
    net = make_network("residual")
    with torch.no_grad():
        for layer in (net.expand, net.blocks[0].conv2, net.blocks[1].conv2):
            layer.weight.fill_(1.0)
            layer.weight[6:] = 2.0
        net.expand.weight[0] = 2.2  # mean of squares over the layers: (4.84 + 1 + 1) / 3 < 4
    target = Target(of="ratios", ratios={"expand": 0.5})
    task = make_task(net, constraints=FREE, target=target)
    options = {"criterion": "min_weight", "decision": "uniform"}
    mean, largest = (
        create("criterion", reduction=how, **options).prune(task).plan.kept["expand"] for how in ("mean", "max")
    )
    assert 0 not in mean
    assert 0 in largest


def test_normalisation_decides_between_groups():
    """Filters of `hidden` are made tiny: unnormalised they go before any others."""
    net = make_network("plain")
    with torch.no_grad():
        net.hidden.weight.mul_(1e-3)
    task = make_task(net, constraints=FREE, target=Target(of="flops", kept_fraction=0.7))
    plain, scaled = (
        counts(create("criterion", criterion="l1", normalisation=how, decision="global").prune(task))
        for how in ("none", "l2")
    )
    assert plain["hidden"] < scaled["hidden"]
    assert plain.get("conv", 12) > scaled["conv"]


def test_wide_groups_shrink_no_more_than_narrow_ones_by_default():
    """Weights drawn alike: nothing but the width tells the two groups apart."""
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 128, 1), nn.ReLU(), nn.Conv2d(128, 4, 1))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in (net[0], net[2]):
            layer.weight.copy_(1 + 0.2 * torch.randn(layer.weight.shape[0], 1, 1, 1))
    task = make_task(net, constraints=FREE, target=Target(of="flops", kept_fraction=0.5))
    left = counts(create("criterion").prune(task))
    assert left.get("2", 128) / 128 == pytest.approx(left.get("0", 8) / 8, abs=0.25)


def test_decisions_give_other_counts():
    task = make_task(make_network("residual"), constraints=FREE, target=Target(of="params", kept_fraction=0.5))
    found = {how: counts(create("criterion", decision=how).prune(task)) for how in ("local", "global")}
    graph = trace(task.model, task.example_inputs)
    kept = [count / graph.group(name).n_units for name, count in found["local"].items()]
    assert max(kept) - min(kept) <= 2 / 8
    assert found["local"] != found["global"]


def test_isomorphic_takes_the_same_share_of_each_class():
    """The two blocks' inner groups are one class; scaled up, a class still loses its share."""
    net = make_network("residual")
    with torch.no_grad():
        for block in net.blocks:
            block.conv1.weight.mul_(100)
    task = make_task(net, constraints=FREE, target=Target(of="params", kept_fraction=0.5))
    options = {"criterion": "l1", "normalisation": "none", "decision": "global"}
    apart = counts(create("criterion", **options).prune(task))
    alike = counts(create("criterion", isomorphic=True, **options).prune(task))
    blocks = ("blocks.0.conv1", "blocks.1.conv1")
    assert sum(apart.get(name, 12) for name in blocks) > sum(alike.get(name, 12) for name in blocks)


def test_each_step_scores_the_network_that_training_left():
    """Training revives the units that scored lowest: the next removal takes others."""
    net = make_network("plain")
    with torch.no_grad():
        net.conv.weight[:3] *= 1e-3
        net.conv.weight[3:6] *= 1e-2

    def train(model, n_updates):
        with torch.no_grad():
            model.conv.weight[:3] *= 1e6

    task = make_task(net, target=HALF, constraints=FREE, train=train)
    pruned = create("criterion", criterion="l1", units_per_step=3, updates_between=1).prune(task)
    assert [row["units_removed"] for row in pruned.history] == [3, 3]
    assert set(range(3, 6)) <= set(pruned.plan.kept["conv"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "l7"}, "unknown criterion"),
        ({"criterion": "obd", "options": {"drws": 1}}, "unknown option 'drws'"),
        ({"normalisation": "softmax"}, "normalisation"),
        ({"reduction": "median"}, "reduction"),
        ({"decision": "chance"}, "decision"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_done(settings, message):
    with pytest.raises(MethodError, match=message) as caught:
        create("criterion", **settings)
    assert "\n" not in str(caught.value)


def test_missing_data_is_said():
    without = make_task(make_network("plain"), batches=None, loss=None, train=None)
    with pytest.raises(MethodError, match="'taylor' scores units on training data: the task has to hand in batches"):
        create("criterion", criterion="taylor").prune(without)
    without_loss = make_task(make_network("plain"), loss=None, train=None)
    with pytest.raises(MethodError, match="a loss"):
        create("criterion", criterion="taylor").prune(without_loss)
    assert create("criterion", criterion="activation_mean", batches_per_step=1).prune(without_loss).plan.removed_units
    with pytest.raises(MethodError, match="hand in train"):
        create("criterion", updates_between=1).prune(without)


def test_the_scale_of_the_loss_changes_no_ranking():
    target = Target(of="ratios", ratios={"conv": 0.5})
    net = make_network("plain")
    first = make_task(net, target=target, constraints=FREE)
    second = make_task(net, target=target, constraints=FREE, loss=lambda o, y: 7 * F.cross_entropy(o, y))
    plans = [create("criterion", criterion="taylor_fo", batches_per_step=1).prune(t).plan.kept for t in (first, second)]
    assert plans[0] == plans[1]
