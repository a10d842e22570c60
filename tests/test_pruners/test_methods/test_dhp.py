"""DHP: the mathematics of its hypernetworks and its proximal step, what latents share, how the search ends."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from pruners.decide.goal import goal_of
from pruners.errors import MethodError
from pruners.gates.hypernetwork import HyperNetwork
from pruners.gates.latents import Latents
from pruners.graph import trace
from pruners.recover.settings import TrainSettings
from pruners.registry import create
from pruners.target import Constraints, Target
from pruners.testing import NETWORKS, make_network, make_task

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(8) % 5


class Shapes(nn.Module):
    """Grouped, transposed, 1d and 3d convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=2, padding=1)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.line = nn.Conv1d(6, 4, 3)
        self.cube = nn.Conv3d(4, 5, (1, 1, 1))

    def forward(self, x):
        x = F.relu(self.up(F.relu(self.grouped(F.relu(self.stem(x))))))
        x = F.relu(self.line(x.mean(3)))
        return self.cube(x[..., None, None]).mean((2, 3, 4))


def network_named(name):
    return Shapes() if name == "shapes" else make_network(name)


def gated(network, **settings):
    """Return the latents of a network all of whose free groups may lose units, and its trace."""
    graph = trace(network, (IMAGES[:2],))
    groups = [group.name for group in graph.groups if group.prunable]
    return Latents(network, graph, groups=groups, **settings), graph


def generated(network):
    """Return the layers with a generated weight."""
    return {name: module for name, module in network.named_modules() if parametrize.is_parametrized(module)}


@pytest.mark.parametrize("name", [*NETWORKS, "shapes"])
def test_a_generated_weight_is_that_of_the_equations(name):
    net = network_named(name)
    gate, graph = gated(net, seed=5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    latent = dict(zip(gate._sizes, torch.split(gate.latents, list(gate._sizes.values())), strict=True))
    layers = generated(net)
    assert len(layers) == sum(
        isinstance(m, (nn.Conv2d, nn.Linear, nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d)) for m in net.modules()
    )
    for path, layer in layers.items():
        (hyper,) = layer.parametrizations.weight
        b2 = layer.parametrizations.weight.original
        own = iter(hyper.own)
        z = [[None] * size for size in b2.shape[:2]]
        for group in graph.groups:
            for member in group.members:
                if group.name in latent and member.path == f"{path}.weight":
                    for unit, positions in enumerate(member.indices):
                        for position in positions:
                            z[member.axis][position] = latent[group.name][unit]
        z = [[next(own) if value is None else value for value in axis] for axis in z]
        assert next(own, None) is None
        for i, j in itertools.product(*map(range, b2.shape[:2])):
            location = z[0][i] * z[1][j] + hyper.offset[i, j]
            embedded = location * hyper.w1[i, j] + hyper.b1[i, j]
            explicit = hyper.w2[i, j] @ embedded + b2[i, j].reshape(-1)
            assert torch.allclose(layer.weight[i, j].reshape(-1), explicit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*NETWORKS, "shapes"])
def test_a_latent_stands_wherever_its_unit_has_channels(name):
    """Moving one latent moves the weights of its unit's channels, in every layer, and no others."""
    net = network_named(name)
    gate, graph = gated(net)
    before = {path: layer.weight.detach().clone() for path, layer in generated(net).items()}
    entry = 0
    for group in graph.groups:
        for unit in range(group.n_units if group.prunable else 0):
            with torch.no_grad():
                gate.latents[entry] += 1
            for path, layer in generated(net).items():
                expected = torch.zeros(layer.weight.shape, dtype=torch.bool)
                for member in group.members:
                    if member.path == f"{path}.weight":
                        expected.index_fill_(member.axis, torch.tensor(member.indices[unit]), True)
                assert torch.equal(layer.weight != before[path], expected)
            with torch.no_grad():
                gate.latents[entry] -= 1
                before = {path: layer.weight.clone() for path, layer in generated(net).items()}
            entry += 1
    assert entry == len(gate.latents)


@pytest.mark.parametrize("layer", [nn.Conv2d(64, 32, 3), nn.Conv2d(64, 64, 3, groups=8), nn.Linear(256, 64)])
def test_generated_weights_start_with_the_variance_of_their_fan_in(layer):
    weight = layer.weight
    shared = nn.Parameter(torch.zeros(0))
    variances = []
    for seed in range(20):
        axes = ([-1] * weight.shape[0], [-1] * weight.shape[1])
        made = HyperNetwork(
            weight, shared, axes, fan_in=weight[0].numel(), embedding=8,
            generator=torch.Generator().manual_seed(seed), carried=False,
        )  # fmt: skip
        variances.append(made(torch.zeros_like(weight)).var().item())
    assert sum(variances) / 20 == pytest.approx(1 / weight[0].numel(), rel=0.2)


def test_the_proximal_step_is_the_closed_form():
    net = make_network("residual")
    gate, _ = gated(net, gamma=0.5, threshold=0.2, min_survivors=4)
    rate = 0.3
    with torch.no_grad():
        gate.latents.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(1))
        few = gate.latents[8 : 8 + 12]
        few.fill_(0.01)[[1, 5, 7, 8]] = torch.tensor([0.4, -0.3, 0.2, 2.0])
    before = gate.latents.detach().clone()
    gate.after_step(rate)
    # argmin over u of (u - z)^2 / 2 + eta * gamma * |u|, found on a grid
    grid = torch.linspace(-2.5, 2.5, 500_001, dtype=torch.float64)
    for entry, (z, moved) in enumerate(zip(before.double(), gate.latents.detach().double(), strict=True)):
        if 8 <= entry < 20:
            assert moved == z, "a group with no more than min_survivors above the threshold is not shrunk"
        else:
            best = grid[((grid - z) ** 2 / 2 + rate * 0.5 * grid.abs()).argmin()]
            assert moved == pytest.approx(best.item(), abs=1e-5)
    assert list(gate.counts().values())[:2] == [int((before[:8].abs() - 0.15 >= 0.2).sum().clamp(min=4)), 4]


@pytest.mark.rounding
def test_the_search_ends_when_the_latents_above_the_threshold_meet_the_budget():
    net = make_network("plain")
    graph = trace(net, (IMAGES[:2],))
    choices, budget = goal_of(Target(of="flops", kept_fraction=0.5), Constraints(), graph)
    gate = Latents(net, graph, groups=choices.movable, budget=budget, check_every=3, min_survivors=2, stop_limit=0.02)
    for _ in range(6):
        gate.after_step(0.1)
    assert not gate.finished
    with torch.no_grad():
        gate.latents.fill_(1e-3)
    for update in range(3):
        assert not gate.finished, update
        gate.after_step(0.1)
    assert gate.finished
    assert gate.counts() == {"stem": 2, "conv": 2, "hidden": 2}
    assert budget.met(gate.counts())


def loop(net, gate, optimizer, updates, lr=0.01):
    """Train as people do."""
    net.train()
    for _ in range(updates):
        optimizer.zero_grad()
        gate.with_penalty(F.cross_entropy(net(IMAGES), LABELS)).backward()
        gate.before_step(lr)
        optimizer.step()
        gate.after_step(lr)


def start():
    net = make_network("residual")
    gate, _ = gated(net, gamma=0.1, check_every=2)
    return net, gate, torch.optim.SGD(gate.parameter_groups(net, 1e-4), lr=0.01, momentum=0.9)


def test_a_search_that_is_resumed_goes_on_bit_for_bit():
    net, gate, optimizer = start()
    loop(net, gate, optimizer, 3)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    loop(net, gate, optimizer, 3)
    again, other, second = start()
    again.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    loop(again, other, second, 3)
    assert int(other.updates) == 6
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_in_a_loop_of_ones_own_latents_learn_and_weight_decay_reaches_everything():
    net, gate, optimizer = start()
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 1e-4
    assert any(parameter is gate.latents for parameter in group["params"])
    loop(net, gate, optimizer, 1)
    first = F.cross_entropy(net(IMAGES), LABELS).item()
    loop(net, gate, optimizer, 30)
    assert F.cross_entropy(net(IMAGES), LABELS).item() < first
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.rounding
@pytest.mark.parametrize("name", NETWORKS)
def test_folding_leaves_plain_layers_that_compute_the_same(name):
    net = make_network(name)
    plain = make_network(name)
    gate, _ = gated(net)
    twin = copy.deepcopy(net).eval()
    expected = twin(IMAGES)
    gate.fold()
    assert torch.equal(net.eval()(IMAGES), expected)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in net.modules()] == [type(module) for module in plain.modules()]
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in plain.named_parameters()]
    with torch.no_grad():
        twin.get_parameter("prune_deploy_gate.latents").zero_()
    assert not torch.equal(twin(IMAGES), expected), "a copy's weights come from the copy's latents"


@pytest.mark.rounding
@pytest.mark.parametrize("name", NETWORKS)
def test_a_pretrained_start_computes_what_the_network_computed(name):
    net = make_network(name).eval()
    expected = net(IMAGES)
    gate, _ = gated(net, carried=True)
    assert torch.allclose(net(IMAGES), expected, atol=1e-5)
    with torch.no_grad():
        gate.latents[0] = 0.0
    scaled = generated(net)["stem"].weight
    assert scaled[0].abs().max() < 1e-6
    assert scaled[1:].abs().max() > 1e-2


def test_shared_and_frozen_weights_stay_and_a_group_without_generated_weights_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 6, 1)
            self.a, self.b, self.head = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 5, 1)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.head(F.relu(self.b(F.relu(self.a(F.relu(self.stem(x))))))).mean((2, 3))

    net = Tied()
    gated(net)
    assert set(generated(net)) == {"stem", "head"}
    frozen = make_network("plain")
    frozen.conv.weight.requires_grad_(False)
    frozen.hidden.weight.requires_grad_(False)
    with pytest.raises(MethodError, match="'conv'; exclude it"):
        gated(frozen)


SHORT = TrainSettings(epochs=2, batch_size=8, lr=0.05)


def test_epochs_that_run_out_are_said_and_the_landing_is_exact_all_the_same():
    task = make_task(make_network("residual"), constraints=Constraints(), target=Target(of="flops", kept_fraction=0.5))
    out = create("dhp", training=SHORT, converge=None, gamma=1e-6).prune(task)
    (row,) = out.history
    assert row["search_finished"] is False
    assert row["updates"] == 6
    assert row["cost_at_threshold"] > 0.9
    assert 0.49 < out.macs_after / out.macs_before <= 0.5


@pytest.mark.rounding
def test_a_search_that_reaches_the_target_ends_early_and_its_cut_is_measured():
    trainings = []

    def fit(model, settings, *, name, gate=None):
        trainings.append((name, settings.epochs, settings.seed, sum(p.numel() for p in model.parameters())))
        return make_task(model).fit(model, settings, name=name, gate=gate)

    task = make_task(make_network("residual"), fit=fit, seed=4)
    search = TrainSettings(epochs=50, batch_size=8, lr=0.05, clip_norm=5.0)
    out = create("dhp", training=search, converge=SHORT, gamma=0.5, check_every=5, min_survivors=2).prune(task)
    (row,) = out.history
    assert row["search_finished"] is True
    assert row["updates"] % 5 == 0
    assert row["updates"] < 150
    assert row["cost_at_threshold"] <= 0.62
    assert row["loss_before_cut"] != row["loss_after_cut"]
    assert [(name, epochs, seed) for name, epochs, seed, _ in trainings] == [("search", 50, 4), ("converge", 2, 4)]
    assert trainings[0][3] > 10 * out.params_before, "the generators of 3x3 convolutions have 10.9 numbers a weight"
    assert trainings[1][3] == out.params_after


@pytest.mark.slow
def test_without_pretrained_nothing_of_the_given_weights_is_used():
    def result(scale, **settings):
        net = make_network("residual")
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(scale)
        return create("dhp", training=SHORT, converge=None, **settings).prune(make_task(net)).model.state_dict()

    one, two = result(1.0), result(0.5)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(result(1.0, pretrained=True)["stem.weight"], result(0.5, pretrained=True)["stem.weight"])


def test_the_best_epoch_is_refused_in_the_search():
    with pytest.raises(MethodError, match=r"'training'.*keep is 'last'"):
        create("dhp", training={"epochs": 2, "keep": "best"})
