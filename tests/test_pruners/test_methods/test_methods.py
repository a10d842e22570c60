"""What each method decides: which units, in which order, under which schedule."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deploy.networks.resnet import resnet56
from deploy.networks.vgg import vgg16
from pruners.errors import MethodError
from pruners.graph import trace
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.task import PruningTask
from pruners.testing import make_network, make_task

FREE = Constraints()
HALF = Target(of="ratios", ratios={"conv": 0.5})


def counts(pruned):
    return {name: len(kept) for name, kept in pruned.plan.kept.items()}


def test_l1_keeps_the_largest_filters():
    net = make_network("plain")
    with torch.no_grad():
        net.conv.weight[[1, 4, 5, 6, 9, 11]] *= 100
        net.conv.bias.fill_(1e6)
    pruned = create("l1").prune(make_task(net, target=HALF, constraints=FREE))
    assert pruned.plan.kept == {"conv": (1, 4, 5, 6, 9, 11)}
    assert torch.equal(pruned.model.conv.weight, net.conv.weight[[1, 4, 5, 6, 9, 11]])


def test_l1_and_uniform_keep_the_same_counts_and_random_keeps_others():
    task = make_task(make_network("residual"), target=Target(of="params", kept_fraction=0.5), constraints=FREE)
    l1, uniform, random = (create(name).prune(task) for name in ("l1", "uniform", "random"))
    assert counts(l1) == counts(uniform) != counts(random)
    assert l1.plan.kept != uniform.plan.kept
    kept = {name: count / l1.plan.sizes[name] for name, count in counts(l1).items()}
    assert max(kept.values()) - min(kept.values()) <= 2 / 8


@pytest.mark.parametrize("name", ["uniform", "random"])
def test_the_seed_decides_what_is_drawn(name):
    net = make_network("residual")
    first, second, third = (
        create(name).prune(make_task(net, constraints=FREE, seed=seed)).plan.kept for seed in (0, 0, 1)
    )
    assert first == second != third


# Section 3 of Li et al. 2017: the skipped convolutions, and the share of filters removed in each stage. Convolutions
# are counted from the stem (1), so that block b of the network starts with convolution 2 * b + 2.
RESNET_56 = {
    "A": ((16, 20, 38, 54), (0.1, 0.1, 0.1), (773_336, 112_435_840)),
    "B": ((16, 18, 20, 34, 38, 54), (0.6, 0.3, 0.1), (735_712, 90_907_264)),
}


@pytest.mark.parametrize("variant", ["A", pytest.param("B", marks=pytest.mark.slow)])
def test_l1_gives_the_published_resnet_56(variant):
    skipped, removed, expected = RESNET_56[variant]
    ratios = {f"stages.{stage}.*.conv1": share for stage, share in enumerate(removed)}
    ratios |= {f"stages.{b // 9}.{b % 9}.conv1": 0.0 for b in (id_ // 2 - 1 for id_ in skipped)}
    task = PruningTask(
        model=resnet56(),
        example_inputs=(torch.zeros(2, 3, 32, 32),),
        target=Target(of="ratios", ratios=ratios),
    )
    pruned = create("l1").prune(task)
    assert (pruned.params_before, pruned.macs_before) == (853_018, 125_485_696)
    assert (pruned.params_after, pruned.macs_after) == expected


def test_l1_gives_the_published_vgg_16_a():
    model = vgg16()
    convolutions = [f"features.{name}" for name, m in model.features.named_children() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    ratios = dict.fromkeys([convolutions[0], *convolutions[7:]], 0.5)
    task = PruningTask(
        model=model, example_inputs=(torch.zeros(2, 3, 32, 32),), target=Target(of="ratios", ratios=ratios)
    )
    pruned = create("l1").prune(task)
    assert (pruned.params_before, pruned.macs_before) == (14_987_722, 313_463_808)
    assert (pruned.params_after, pruned.macs_after) == (5_397_034, 206_279_680)


def test_taylor_removes_what_does_not_matter_first():
    """Units that nothing reads score zero and go before any other, however large their weights are."""
    net = make_network("plain")
    dead = [0, 3, 7]
    with torch.no_grad():
        net.conv.weight[dead] *= 100
        net.hidden.weight.reshape(16, 12, 16)[:, dead] = 0
    task = make_task(net, constraints=Constraints(exclude=("stem", "hidden")), target=HALF)
    pruned = create("taylor", units_per_step=3, updates_between=0, batches_per_step=2).prune(task)
    assert pruned.history[0]["units_removed"] == 3
    assert not set(dead) & set(pruned.plan.kept["conv"])
    l1 = create("l1").prune(task)
    assert set(dead) <= set(l1.plan.kept["conv"])


def test_taylor_trains_between_removals_and_hands_on_what_it_trained():
    calls = []

    def train(model, n_updates):
        calls.append((n_updates, model.conv.weight.shape[0]))
        with torch.no_grad():
            model.fc.bias.add_(1.0)

    net = make_network("plain")
    said = []
    task = make_task(
        net, target=HALF, constraints=FREE, train=train, progress=lambda message, done: said.append((message, done))
    )
    pruned = create("taylor", steps=3, updates_between=7, batches_per_step=1).prune(task)
    assert calls == [(7, 10), (7, 8), (7, 6)]
    assert torch.allclose(pruned.model.fc.bias, net.fc.bias + 3)
    assert [row["units_removed"] for row in pruned.history] == [2, 2, 2]
    assert [row["units_left"] for row in pruned.history] == [34, 32, 30]
    assert pruned.history[-1]["macs"] == pruned.macs_after
    assert pruned.history[-1]["parameters"] == pruned.params_after
    assert all(row["examples_scored"] == 8 for row in pruned.history)
    assert [done for _, done in said] == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_taylor_takes_one_unit_at_a_time_when_asked():
    task = make_task(make_network("plain"), target=HALF, constraints=FREE)
    pruned = create("taylor", units_per_step=1, updates_between=1, batches_per_step=1).prune(task)
    assert [row["units_removed"] for row in pruned.history] == [1] * 6


def test_the_joined_plan_is_the_steps_one_after_the_other():
    """Without training in between, the network that the steps left is what the plan cuts from the original."""
    net = make_network("residual")
    task = make_task(net, constraints=FREE, target=Target(of="flops", kept_fraction=0.4))
    pruned = create("taylor", steps=3, updates_between=0, batches_per_step=1).prune(task)
    assert len(pruned.history) == 3
    again = apply(net, pruned.plan).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in pruned.model.state_dict().items())


def test_taylor_spreads_the_removal_over_its_steps():
    task = make_task(make_network("residual"), constraints=FREE, target=Target(of="flops", kept_fraction=0.4))
    pruned = create("taylor", steps=4, updates_between=0, batches_per_step=1).prune(task)
    left = [row["macs"] / pruned.macs_before for row in pruned.history]
    for fraction, limit in zip(left, (0.85, 0.7, 0.55, 0.4), strict=True):
        assert limit - 0.12 < fraction <= limit


def test_the_flops_term_prefers_dear_units():
    net = make_network("plain")
    task = make_task(net, constraints=FREE, target=Target(of="params", kept_fraction=0.7))
    graph = trace(net, task.example_inputs)
    cost = {name: graph.macs() - graph.macs({name: graph.group(name).n_units - 1}) for name in ("stem", "hidden")}
    assert cost["stem"] > 10 * cost["hidden"]
    options = {"steps": 1, "updates_between": 0, "batches_per_step": 1}
    without = create("taylor", flops_strength=0, **options).prune(task)
    strong = create("taylor", flops_strength=1e6, **options).prune(task)
    assert strong.macs_after < without.macs_after
    assert counts(strong).get("hidden", 16) >= counts(without).get("hidden", 16)


def test_normalisation_makes_groups_comparable():
    """A map of 16 positions has a smaller mean than one of a single position: unnormalised, `conv` is emptied first."""
    net = make_network("plain")
    task = make_task(net, constraints=Constraints(exclude=("stem",)), target=Target(of="params", kept_fraction=0.6))
    options = {"steps": 1, "updates_between": 0, "batches_per_step": 1, "flops_strength": 0}
    plain, scaled = (counts(create("taylor", normalise=flag, **options).prune(task)) for flag in (False, True))
    assert plain["conv"] < scaled.get("conv", 12)
    assert plain.get("hidden", 16) > scaled["hidden"]


def test_taylor_needs_train_when_it_shall_fine_tune():
    task = make_task(make_network("plain"), train=None)
    with pytest.raises(MethodError, match="hand in train, or set updates_between=0"):
        create("taylor").prune(task)
    assert create("taylor", steps=1, updates_between=0, batches_per_step=1).prune(task).plan.removed_units


def test_batches_that_end_are_an_error():
    task = make_task(make_network("plain"))
    few = make_task(make_network("plain"), batches=lambda: list(islice(task.batches(), 2)))
    with pytest.raises(MethodError, match="batches ended"):
        create("taylor", batches_per_step=3).prune(few)


def test_alignment_holds_for_every_method_on_shared_and_flattened_channels():
    for network in ("plain", "depthwise"):
        task = make_task(make_network(network), constraints=Constraints(multiple_of=4))
        for method, settings in (("l1", {}), ("taylor", {"steps": 2, "updates_between": 0, "batches_per_step": 1})):
            pruned = create(method, **settings).prune(task)
            assert all(count % 4 == 0 for count in counts(pruned).values())
            assert pruned.macs_after <= 0.6 * pruned.macs_before


@pytest.mark.rounding
def test_a_trained_network_loses_less_by_l1_and_taylor_than_by_chance():
    """On a task that was learnt, the rankings are worth something: the loss after pruning, nothing fine-tuned."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 5, (256,), generator=generator)
    images = centres[labels] + 0.7 * torch.randn(256, 3, 8, 8, generator=generator)

    def batches():
        while True:
            for start in range(0, 256, 32):
                yield images[start : start + 32], labels[start : start + 32]

    net = make_network("plain")
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for inputs, targets in islice(batches(), 80):
        optimizer.zero_grad()
        F.cross_entropy(net(inputs), targets).backward()
        optimizer.step()

    def loss_after(method, seed=0, **settings):
        target = Target(of="ratios", ratios={"conv": 0.5, "hidden": 0.5})
        task = make_task(net, target=target, constraints=FREE, batches=batches, seed=seed)
        pruned = create(method, **settings).prune(task).model.eval()
        with torch.no_grad():
            return float(F.cross_entropy(pruned(images), labels))

    by_chance = sorted(loss_after("uniform", seed) for seed in range(5))[2]
    assert loss_after("taylor", steps=3, updates_between=0, batches_per_step=4) < by_chance
    assert loss_after("l1") < by_chance
