"""Training from scratch: the published numbers of epochs, and networks that are drawn anew."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from deploy.networks.layers import initialise
from pruners.errors import TrainingError
from pruners.graph import trace
from pruners.recover.schedule import learning_rate
from pruners.recover.scratch import budget_matched, reinitialised, scratch_b, scratch_e
from pruners.recover.settings import TrainSettings
from pruners.registry import create
from pruners.surgery import apply
from pruners.testing import make_network, make_task

CIFAR = TrainSettings(epochs=160, batch_size=64, lr=0.1, nesterov=False, schedule="step", milestones=(80, 120))
IMAGENET = TrainSettings(epochs=90, batch_size=256, lr=0.1, nesterov=False, schedule="step", milestones=(30, 60))


def test_scratch_e_trains_as_the_dense_network_was_trained():
    assert scratch_e(CIFAR) == CIFAR


# FLOPs of the paper's networks (MACs; the ratio is what counts), and the epochs that the authors' code takes.
@pytest.mark.parametrize(
    ("dense", "compact", "epochs"),
    [
        (313_463_808, 206_279_680, 243),  # VGG-16-A
        (125_485_696, 112_435_840, 178),  # ResNet-56-A
        (125_485_696, 90_907_264, 220),  # ResNet-56-B
        (252_887_680, 155_124_352, 260),  # ResNet-110-B
        (100, 20, 800),  # not capped
    ],
)
def test_cifar_rule(dense, compact, epochs):
    found = scratch_b(CIFAR, dense=dense, compact=compact)
    assert found.epochs == epochs
    assert found.milestones == (int(epochs * 0.5), int(epochs * 0.75))
    assert found.model_copy(update={"epochs": 160, "milestones": (80, 120)}) == CIFAR


@pytest.mark.parametrize(
    ("dense", "compact", "epochs", "milestones"),
    [
        (4.09, 3.47, 106, (35, 70, 105)),
        (7.72, 4.88, 142, (47, 94, 141)),
        (4.09, 2.82, 130, (43, 86, 129)),
        (4.09, 2.33, 157, (52, 104, 156)),
        (1.3, 1.0, 117, (39, 78)),
        (2, 1, 180, (60, 120)),
        (30.94, 2.01, 180, (60, 120)),
    ],
)
def test_imagenet_rule(dense, compact, epochs, milestones):
    found = scratch_b(IMAGENET, dense=dense, compact=compact, rule="imagenet")
    assert (found.epochs, found.milestones) == (epochs, milestones)
    rates = [learning_rate(found, epoch, 1) for epoch in range(epochs)]
    assert rates == pytest.approx([0.1 * 0.1 ** (epoch // (epochs // 3)) for epoch in range(epochs)])


def test_budget_is_matched_with_the_fine_tuning():
    found = budget_matched(CIFAR, dense=2.0, compact=1.0, finetune_epochs=40)
    assert (found.epochs, found.milestones) == (360, (180, 270))
    assert found.epochs * 1.0 == 160 * 2.0 + 40 * 1.0


@given(
    epochs=st.integers(2, 400),
    kept=st.floats(0.05, 1.0),
    finetune=st.integers(0, 100),
    schedule=st.sampled_from(["cosine", "step", "constant"]),
)
def test_no_rule_trains_longer_than_it_may_and_only_the_length_changes(epochs, kept, finetune, schedule):
    milestones = tuple(sorted({max(1, epochs // 2), max(1, 3 * epochs // 4)})) if schedule == "step" else ()
    settings = TrainSettings(epochs=epochs, lr=0.1, schedule=schedule, milestones=milestones, warmup_epochs=1)
    longer = [
        scratch_b(settings, dense=1.0, compact=kept),
        scratch_b(settings, dense=1.0, compact=kept, rule="imagenet"),
        budget_matched(settings, dense=1.0, compact=kept, finetune_epochs=finetune),
    ]
    spent = [found.epochs * kept for found in longer]
    assert epochs - kept < spent[0] <= epochs * (1 + 1e-9)
    assert spent[1] <= epochs * (1 + 1e-9)
    assert epochs + (finetune - 1) * kept < spent[2] <= (epochs + finetune * kept) * (1 + 1e-9)
    for found in longer:
        assert found.epochs >= epochs
        assert found.model_copy(update={"epochs": epochs, "milestones": milestones}) == settings


@pytest.mark.parametrize("compact", [0.0, -1.0, 2.0])
def test_impossible_costs_are_told(compact):
    for rule in (scratch_b, lambda *a, **k: budget_matched(*a, **k, finetune_epochs=1)):
        with pytest.raises(TrainingError, match="compact network costs"):
            rule(CIFAR, dense=1.0, compact=compact)
    with pytest.raises(TrainingError, match="0 epochs or more"):
        budget_matched(CIFAR, dense=1.0, compact=1.0, finetune_epochs=-1)


def test_rules_import_no_torch():
    code = "import sys, pruners.recover.scratch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def tensors(model):
    return dict(model.state_dict())


def compact_network():
    task = make_task(make_network("residual"))
    return create("l1").prune(task).model


def test_compact_network_is_drawn_anew_and_the_original_is_left_alone():
    model = compact_network()
    with torch.no_grad():
        model.blocks[0].bn1.running_mean += 1
    before = copy.deepcopy(tensors(model))
    first, again, other = (tensors(reinitialised(model, seed)) for seed in (0, 0, 1))
    assert all(torch.equal(value, before[name]) for name, value in tensors(model).items())
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name, parameter in model.named_parameters():
        assert first[name].shape == parameter.shape
        if "bn" not in name:
            assert not torch.equal(first[name], before[name])
            assert not torch.equal(first[name], other[name])
    assert not first["blocks.0.bn1.running_mean"].any()


def test_random_state_is_left_alone():
    model = make_network("plain")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    reinitialised(model, 0)
    assert torch.equal(torch.rand(2), expected)


def test_own_initialiser_has_the_last_word():
    fresh = reinitialised(make_network("plain"), 0, initialise)
    assert not fresh.conv.bias.any()
    plain = reinitialised(make_network("plain"), 0)
    assert plain.conv.bias.any()
    assert float(fresh.conv.weight.detach().std()) > 1.5 * float(plain.conv.weight.detach().std())


class Token(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.ones(3))
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x + self.token)


def test_parameter_that_nothing_draws_is_refused_by_name():
    net = nn.Sequential(Token())
    before = copy.deepcopy(tensors(net))
    with pytest.raises(TrainingError, match=r"Token '0' has no reset_parameters.*'token'"):
        reinitialised(net, 0)
    with pytest.raises(TrainingError, match=r"'0\.token'"):
        reinitialised(net, 0, initialise)
    assert all(torch.equal(value, before[name]) for name, value in tensors(net).items())
    fresh = reinitialised(net, 0, lambda network: nn.init.normal_(network[0].token))
    assert not torch.equal(fresh[0].token, net[0].token)


def test_inner_layers_are_drawn_before_those_around_them():
    attention = reinitialised(nn.MultiheadAttention(4, 2), 0)
    assert not attention.out_proj.bias.any()
    assert not attention.in_proj_bias.any()


def test_network_in_graph_form_is_refused_and_its_plan_cuts_another_draw():
    net = make_network("plain")
    task = make_task(net)
    plan = create("l1").prune(task).plan
    in_graph = apply(net, plan, form="graph")
    with pytest.raises(TrainingError, match="has no reset_parameters"):
        reinitialised(in_graph, 0)
    fresh = apply(reinitialised(net, 5), plan, graph=None, form="graph")
    assert trace(fresh, task.example_inputs).macs() == trace(in_graph, task.example_inputs).macs()
    assert F.mse_loss(fresh.conv.weight, in_graph.conv.weight) > 0
