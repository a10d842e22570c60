"""Network Slimming: the penalty on BatchNorm scales, the one threshold for all of them, and what it refuses."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.decide.choices import choices_of
from pruners.decide.decisions import decide
from pruners.decide.goal import budget_of
from pruners.decide.units import top_units
from pruners.errors import MethodError, TargetError, TrainingError
from pruners.gates.bn_scales import BatchNormScales
from pruners.gates.gate import GATE
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.recover.reinitialise import reinitialise_
from pruners.registry import create
from pruners.surgery import apply
from pruners.target import Constraints, Target
from pruners.testing import make_network, make_task

INPUTS = (torch.zeros(2, 3, 8, 8),)
FREE = Constraints()


def batch(seed=0, n=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)


def no_training(model, settings, *, name, gate):
    """Stand in for `PruningTask.fit`: the scales are those that the test has set."""


class Separable(nn.Module):
    """A depthwise network in which every layer has a BatchNorm."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (8, 12):
            layers += [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6()]
            layers += [
                nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU6(),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, 5)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


@pytest.mark.rounding
def test_one_step_is_that_of_the_penalised_loss():
    network = make_network("concat")
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for net in (network, twin):
            net.norm.weight.copy_(torch.linspace(-1, 1, 24))
    graph = trace(network, INPUTS)
    gate = BatchNormScales(network, graph, ["left", "right"], strength=0.3)
    images, labels = batch()
    optimizer = torch.optim.SGD(gate.parameter_groups(network, weight_decay=0.0), lr=0.1)
    F.cross_entropy(network(images), labels).backward()
    gate.before_step(0.1)
    optimizer.step()

    scale = twin.norm.weight
    (F.cross_entropy(twin(images), labels) + 0.3 * scale[8:].abs().sum()).backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for (name, ours), (_, theirs) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


@pytest.mark.rounding
def test_own_loop_pushes_scales_down_and_prunes_by_them():
    images, labels = batch()
    found = {}
    for strength in (0.0, 0.02):
        network = make_network("residual")
        graph = trace(network, INPUTS)
        gate = BatchNormScales(network, graph, strength=strength)
        optimizer = torch.optim.SGD(gate.parameter_groups(network, weight_decay=1e-4), lr=0.1, momentum=0.9)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            gate.before_step(0.1)
            optimizer.step()
            gate.after_step(0.1)
        found[strength] = gate.scores()
        gate.fold()
        assert not hasattr(network, GATE)
    free, pushed = ({name: sum(v) / len(v) for name, v in found[s].items()} for s in (0.0, 0.02))
    assert free.keys() == {"expand", "blocks.0.conv1", "blocks.1.conv1"}
    assert all(pushed[name] < free[name] - 0.2 for name in free), (pushed, free)

    choices = choices_of(graph.groups, Constraints(exclude=("stem",)))
    scores = found[0.02]
    counts = decide("global", choices, scores, budget_of(Target(of="flops", kept_fraction=0.5), graph))
    plan = PruningPlan.from_kept(
        top_units(scores, counts),
        choices.whole,
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="mine",
        settings={},
    )
    network.eval()
    compact = apply(network, plan, graph=trace(network, INPUTS))
    assert trace(compact, INPUTS).macs() <= 0.5 * graph.macs()


def test_the_threshold_is_one_for_the_whole_network():
    """One layer's scales all lie below the other's: it loses what has to go, and the other nothing."""
    network = make_network("residual")
    with torch.no_grad():
        network.blocks[0].bn1.weight.copy_(torch.linspace(-0.1, -0.2, 12))
        network.blocks[1].bn1.weight.copy_(torch.linspace(5.0, 6.0, 12))
        network.blocks[0].bn2.weight.fill_(3.0)
        network.blocks[1].bn2.weight.fill_(4.0)
    task = make_task(network, target=Target(of="params", kept_fraction=0.8), constraints=FREE, fit=no_training)
    kept = create("slimming").prune(task).plan.kept
    assert kept.keys() == {"blocks.0.conv1"}
    n = len(kept["blocks.0.conv1"])
    assert 1 <= n < 12
    assert kept["blocks.0.conv1"] == tuple(range(12 - n, 12)), "|gamma| ranks, not gamma"


def test_units_of_several_batch_norms_are_reduced_over_them():
    network = make_network("residual")
    with torch.no_grad():
        network.blocks[0].bn2.weight.copy_(torch.arange(12.0))
        network.blocks[1].bn2.weight.fill_(-4.0)
    graph = trace(network, INPUTS)
    expected = {"mean": [(u + 4) / 2 for u in range(12)], "max": [max(u, 4) for u in range(12)]}
    for reduction, values in expected.items():
        gate = BatchNormScales(network, graph, ["expand"], strength=1.0, reduction=reduction)
        assert gate.scores()["expand"] == pytest.approx(values)
        gate.fold()


@pytest.mark.rounding
def test_every_pass_trains_the_smaller_network_and_its_weights_are_handed_on():
    widths, names = [], []

    def fit(model, settings, *, name, gate):
        widths.append(model.blocks[0].conv1.out_channels)
        names.append((name, settings.seed))
        assert isinstance(gate, BatchNormScales)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.copy_(torch.linspace(0.1, 1, len(module.weight)))
                    module.bias.fill_(float(len(names)))  # a removed channel gave relu(bias) to the next layer

    target = Target(of="flops", kept_fraction=0.4)
    task = make_task(make_network("residual"), target=target, constraints=FREE, fit=fit, seed=3)
    pruned = create("slimming", passes=3).prune(task)
    assert names == [("pass-1", 3), ("pass-2", 3), ("pass-3", 3)]
    assert widths[0] == 12 > widths[1] > widths[2]
    assert torch.equal(pruned.model.blocks[0].bn1.bias, torch.full_like(pruned.model.blocks[0].bn1.bias, 3.0))
    macs = [row["macs"] for row in pruned.history]
    dense, steps = pruned.macs_before, [1.0, *(m / pruned.macs_before for m in macs)]
    assert macs[-1] == pruned.macs_after <= 0.4 * dense
    assert all(0.15 < before - after < 0.25 for before, after in pairwise(steps))


@pytest.mark.slow
def test_scratch_draws_anew_with_scales_of_one_half():
    seen = []

    def fit(model, settings, *, name, gate):
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    dense = make_network("residual")
    other = make_network("residual")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    for network, seed in ((dense, 0), (other, 0), (dense, 1)):
        create("slimming", start="scratch").prune(make_task(network, constraints=FREE, fit=fit, seed=seed))
    first, second, third = seen
    assert all(torch.equal(first[name], second[name]) for name in first), "the former weights do not matter"
    assert not torch.equal(first["stem.weight"], third["stem.weight"])
    assert all(bool((first[f"blocks.{b}.bn{i}.weight"] == 0.5).all()) for b in (0, 1) for i in (1, 2))
    assert float(first["stem.weight"].std() / dense.stem.weight.detach().std()) == pytest.approx(1, abs=0.3)


def test_scratch_refuses_a_parameter_that_no_layer_draws():
    network = make_network("plain")
    network.scale = nn.Parameter(torch.ones(1))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(TrainingError, match="'scale'"):
        reinitialise_(network, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_groups_without_batch_norm_stay_whole_and_are_named():
    target = Target(of="params", kept_fraction=0.7)
    pruned = create("slimming").prune(
        make_task(make_network("concat"), target=target, constraints=FREE, fit=no_training)
    )
    assert "mix" not in pruned.plan.kept
    assert pruned.history[0]["whole"] == ["mix"]
    with pytest.raises(TargetError, match="whole, stay mix"):
        create("slimming").prune(
            make_task(
                make_network("concat"),
                target=Target(of="params", kept_fraction=0.1),
                constraints=FREE,
                fit=no_training,
            )
        )


@pytest.mark.parametrize(
    ("constraints", "target"),
    [
        (Constraints(exclude=("stem",)), Target(of="flops", kept_fraction=0.5)),
        (FREE, Target(of="ratios", ratios={"stem": 0.5, "conv": 0.5})),
        (Constraints(bounds={"conv": (0.1, 0.5)}), Target(of="flops", kept_fraction=0.9)),
    ],
)
def test_what_has_no_batch_norm_is_refused_before_training(constraints, target):
    def fit(model, settings, *, name, gate):
        raise AssertionError("trained")

    with pytest.raises(MethodError, match=r"BatchNorm.*'conv'"):
        create("slimming").prune(make_task(make_network("plain"), constraints=constraints, target=target, fit=fit))


def test_depthwise_network_with_batch_norms_is_pruned():
    network = Separable()
    pruned = create("slimming", training={"epochs": 1, "batch_size": 8}).prune(make_task(network, constraints=FREE))
    first, second = pruned.model.features[0], pruned.model.features[3]
    assert first.out_channels == second.groups < 8 or pruned.model.fc.in_features < 12
    assert 0.59 * pruned.macs_before < pruned.macs_after <= 0.6 * pruned.macs_before


def test_frozen_scales_are_no_scales():
    network = make_network("plain")
    network.norm.weight.requires_grad_(False)
    with pytest.raises(MethodError, match="trainable scale"):
        BatchNormScales(network, trace(network, INPUTS), strength=1e-4)
    assert not hasattr(network, GATE)


def test_gate_stands_in_a_sequential():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).eval()
    expected = network(batch()[0])
    gate = BatchNormScales(network, trace(network, INPUTS), strength=1e-4)
    assert torch.equal(network(batch()[0]), expected)
    gate.fold()
    assert len(network) == 6


def test_scaled_gradients_are_refused():
    with pytest.raises(MethodError, match="fp16"):
        create("slimming", training={"epochs": 1, "precision": "fp16"})
    with pytest.raises(MethodError, match="fit"):
        create("slimming").prune(make_task(make_network("residual"), fit=None))
