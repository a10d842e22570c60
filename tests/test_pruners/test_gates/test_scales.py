"""Scales on structures: the proximal gradient finds the LASSO's optimum, and scales fold away exactly."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from deploy.networks.preresnet import PreResNet
from deploy.networks.resnet import ResNet
from pruners.errors import MethodError
from pruners.gates.gate import GATE
from pruners.gates.scales import StructureScales, apg_step
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.surgery import apply
from pruners.testing import NETWORKS, make_network

ALL = [*NETWORKS, "resnet", "preresnet", "resnext"]


class ResNeXt(nn.Module):
    """A residual block whose middle convolution has groups that are pruned whole."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.narrow = nn.Sequential(nn.Conv2d(12, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.grouped = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.wide = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.fc(torch.relu(x + self.wide(self.grouped(self.narrow(x)))).mean((2, 3)))


def network_of(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {
            "resnet": lambda: ResNet(14, width=0.5),
            "preresnet": lambda: PreResNet(20, width=0.25),
            "resnext": ResNeXt,
        }
        network = made[name]() if name in made else make_network(name)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                nn.init.normal_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def batch(seed=0, n=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=generator), torch.randint(0, 5, (n,), generator=generator)


def gated(network, *, zeros=0.3, seed=0, **changes):
    """Trace the network and put random scales on everything, some of them zero."""
    graph = trace(network, (torch.zeros(2, 3, 8, 8),))
    settings = {
        "groups": [group.name for group in graph.groups if group.prunable],
        "blocks": [block.name for block in graph.blocks],
        "strength": 0.1,
    } | changes
    gate = StructureScales(network, graph, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for scale in gate.scales:
            drawn = torch.rand(scale.shape, generator=generator) + 0.1
            scale.copy_(drawn * (torch.rand(scale.shape, generator=generator) >= zeros))
            scale[0] = 0.7
    return graph, gate


def plan_of(graph, kept=None, blocks=()):
    return PruningPlan.from_kept(
        kept or {},
        {group.name: group.n_units for group in graph.groups},
        graph=graph.fingerprint,
        inputs=graph.inputs,
        method="by hand",
        settings={},
        blocks=blocks,
    )


@pytest.fixture
def lasso():
    """Return matrix (60, 12), answers (60,) and the strength of a LASSO in which some coefficients are zero."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(60, 12, generator=generator, dtype=torch.float64)
    matrix[:, 1] = 0.8 * matrix[:, 0] + 0.2 * matrix[:, 1]
    truth = torch.tensor([2.0, 0, -1.5, 0, 0, 0.8, 0, 0, 0, 0.3, 0, 0], dtype=torch.float64)
    return matrix, matrix @ truth + 0.1 * torch.randn(60, generator=generator, dtype=torch.float64), 0.2


@pytest.mark.rounding
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_step_reaches_the_optimum_of_the_lasso(lasso, momentum):
    matrix, answers, strength = lasso
    expected = Lasso(alpha=strength, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(matrix, answers).coef_
    rate = 0.5 * len(matrix) / float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    point, velocity = torch.ones(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    for _ in range(3000):
        slope = matrix.T @ (matrix @ point - answers) / len(matrix)
        point, velocity = apg_step(point, velocity, slope, lr=rate, strength=strength, momentum=momentum)
    torch.testing.assert_close(point, torch.from_numpy(expected), atol=1e-8, rtol=0)
    assert torch.equal(point == 0, torch.from_numpy(expected) == 0)
    assert 2 < int((point == 0).sum()) < 11


def test_one_step_is_that_of_the_paper():
    point, velocity, slope = torch.tensor([1.0, 0.02]), torch.tensor([0.5, -0.1]), torch.tensor([2.0, 0.0])
    z = torch.tensor([1.0 - 0.1 * 2.0 - 0.1 * 0.3, 0.0])
    v = z - point + 0.9 * velocity
    found = apg_step(point, velocity, slope, lr=0.1, strength=0.3, momentum=0.9)
    torch.testing.assert_close(found, (z + 0.9 * v, v))


@pytest.mark.rounding
def test_scales_of_a_linear_network_reach_the_optimum_of_the_lasso_of_no_negative(lasso):
    """Hidden units are the LASSO's columns: the gate, driven from outside by its own steps, solves it."""
    matrix, answers, strength = lasso
    network = nn.Sequential(nn.Linear(12, 12, bias=False), nn.Linear(12, 1, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(12))
        network[1].weight.fill_(1.0)
    gate = StructureScales(network, trace(network, (torch.zeros(2, 12).double(),)), groups=["0"], strength=strength)
    rate = 0.5 * len(matrix) / float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    for _ in range(1500):
        ((network(matrix)[:, 0] - answers).square().sum() / (2 * len(matrix))).backward()
        gate.after_step(rate)
    expected = Lasso(alpha=strength, fit_intercept=False, positive=True, tol=1e-12, max_iter=100_000)
    expected = expected.fit(matrix, answers).coef_
    found = torch.tensor(gate.scores()["0"], dtype=torch.float64)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-7, rtol=0)
    assert torch.equal(found == 0, torch.from_numpy(expected) == 0)
    assert bool((found == 0).any())
    assert bool((found > 0).any())


@pytest.mark.rounding
@pytest.mark.parametrize("name", ALL)
def test_scales_of_one_change_nothing_and_any_scales_fold_exactly(name):
    network = network_of(name)
    images, _ = batch()
    with torch.no_grad():
        expected = network(images)
        names = [name for name, _ in network.named_parameters()]
        _, gate = gated(network)
        assert not gate.ungated
        for scale in gate.scales:
            scale.fill_(1.0)
        assert torch.equal(network(images), expected)
        for number, scale in enumerate(gate.scales):
            scale.copy_(torch.linspace(0, 1 + number, len(scale)))
        scaled = network(images)
        assert not torch.allclose(scaled, expected)
        gate.fold()
        assert torch.equal(network(images), scaled)
    assert [name for name, _ in network.named_parameters()] == names
    assert not any("parametrizations" in name or GATE in name for name in network.state_dict())


@pytest.mark.parametrize("name", ALL)
def test_units_and_blocks_at_zero_can_go_without_any_change(name):
    network = network_of(name)
    images, _ = batch()
    graph, gate = gated(network)
    kept = {name: tuple(u for u, scale in enumerate(own) if scale) for name, own in gate.scores().items()}
    blocks = tuple(name for name, scale in gate.block_scores().items() if not scale)
    floors = {group.name: group.min_units for group in graph.groups}
    kept = {name: units for name, units in kept.items() if len(units) >= floors[name]}
    assert any(len(units) < graph.group(name).n_units for name, units in kept.items())
    gate.fold()
    with torch.no_grad():
        compact = apply(network, plan_of(graph, kept), graph=graph, check=False)
        torch.testing.assert_close(compact(images), network(images), atol=1e-5, rtol=1e-4)
        if blocks:
            compact = apply(network, plan_of(graph, kept, blocks), graph=graph, check=False)
            torch.testing.assert_close(compact(images), network(images), atol=1e-5, rtol=1e-4)


def test_whole_groups_of_a_convolution_are_structures():
    graph, gate = gated(network_of("resnext"))
    (name,) = (group.name for group in graph.groups if any(m.path == "grouped.0.weight" for m in group.members))
    assert graph.group(name).n_units == len(gate.scores()[name]) == 8  # of two channels each
    kept = {name: (0, 3, 4)}
    compact = apply(network_of("resnext"), plan_of(graph, kept), graph=graph)
    assert (compact.grouped[0].groups, compact.grouped[0].out_channels, compact.narrow[0].out_channels) == (3, 6, 6)


def test_a_block_at_zero_is_the_network_without_it():
    network = network_of("residual")
    images, _ = batch()
    twin = copy.deepcopy(network)
    _, gate = gated(network, groups=[])
    with torch.no_grad():
        gate.scales[0].copy_(torch.tensor([1.0, 0.0]))
        without = apply(twin, plan_of(trace(twin, graph_inputs()), blocks=("blocks.1",)))
        assert gate.block_scores() == {"blocks.0": 1.0, "blocks.1": 0.0}
        torch.testing.assert_close(network(images), without(images))
        gate.scales[0].copy_(torch.tensor([1.0, 0.5]))
        assert not torch.allclose(network(images), without(images))


def graph_inputs():
    return (torch.zeros(2, 3, 8, 8),)


def step(network, gate, optimizer, seed, lr):
    images, labels = batch(seed)
    optimizer.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    gate.before_step(lr)
    optimizer.step()
    gate.after_step(lr)


@pytest.mark.rounding
def test_own_loop_brings_structures_to_zero_and_the_optimizer_leaves_scales_alone():
    found = {}
    for strength in (0.0, 1.0):
        network = network_of("residual").train()
        _, gate = gated(network, zeros=0.0, strength=strength)
        groups = gate.parameter_groups(network, weight_decay=1.0)
        listed = {id(parameter) for group in groups for parameter in group["params"]}
        assert not listed & {id(scale) for scale in gate.scales}
        optimizer = torch.optim.SGD(groups, lr=0.05)
        for number in range(10):
            step(network, gate, optimizer, number, 0.05)
        found[strength] = (gate.scores(), gate.block_scores())
        gate.fold()
    kept, shrunk = ([s for own in units.values() for s in own] for units, _ in (found[0.0], found[1.0]))
    assert sum(scale == 0 for scale in shrunk) > sum(scale == 0 for scale in kept) + 5
    assert sum(shrunk) < 0.7 * sum(kept)
    assert all(found[1.0][1][name] < scale for name, scale in found[0.0][1].items())


def test_gradients_are_used_up_so_that_an_optimizers_zero_grad_is_enough():
    network = network_of("plain").train()
    _, gate = gated(network, zeros=0.0, strength=0.2)
    optimizer = torch.optim.SGD(gate.parameter_groups(network, 0.0), lr=0.0)
    scale, velocity = gate.scales[0].detach().clone(), torch.zeros_like(gate.scales[0])
    for number in range(2):
        twin = copy.deepcopy(network)
        images, labels = batch(number)
        F.cross_entropy(twin(images), labels).backward()
        slope = getattr(twin, GATE).scales[0].grad
        scale, velocity = apg_step(scale, velocity, slope, lr=0.1, strength=0.2, momentum=0.9)
        step(network, gate, optimizer, number, 0.1)
        torch.testing.assert_close(gate.scales[0].detach(), scale)


def test_state_goes_on_bit_for_bit():
    def start():
        network = network_of("residual").train()
        _, gate = gated(network, zeros=0.0)
        return network, gate, torch.optim.SGD(gate.parameter_groups(network, 1e-4), lr=0.05, momentum=0.9)

    network, gate, optimizer = start()
    for number in range(3):
        step(network, gate, optimizer, number, 0.05)
    file = io.BytesIO()
    torch.save([network.state_dict(), optimizer.state_dict()], file)
    again, second, other = start()
    file.seek(0)
    state, momenta = torch.load(file, weights_only=True)
    again.load_state_dict(state)
    other.load_state_dict(momenta)
    for number in range(3, 6):
        step(network, gate, optimizer, number, 0.05)
        step(again, second, other, number, 0.05)
    gate.fold()
    second.fold()
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_deep_copy_folds_for_itself():
    network = network_of("residual")
    images, _ = batch()
    _, gate = gated(network)
    average = copy.deepcopy(network)
    with torch.no_grad():
        expected = network(images)
        gate.fold()
        getattr(average, GATE).scales[0].mul_(2)
        assert not torch.allclose(average(images), expected)
        assert torch.equal(network(images), expected)
        doubled = average(images)
        getattr(average, GATE).fold()
        assert torch.equal(average(images), doubled)


class Odd(nn.Module):
    """Structures that no tensor of their own can scale, beside some that can."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 6, 1)
        self.back = weight_norm(nn.Conv2d(6, 8, 1))
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + self.back(F.relu(self.wide(x)))
        y = self.conv(x)
        x = x + y * self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        x = x + self.norm(self.conv(x))
        x = x.mean((2, 3))
        return self.fc(x + self.second(F.relu(self.first(x))))


def test_what_can_not_be_scaled_is_named():
    network = Odd().eval()
    graph = trace(network, graph_inputs())
    groups, blocks = [g.name for g in graph.groups if g.prunable], [b.name for b in graph.blocks]
    gate = StructureScales(network, graph, groups=groups, blocks=blocks, strength=0.1)
    assert "squeeze" in gate.scores()
    assert "wide" in gate.ungated, "the weight that reads it is computed"
    assert set(blocks) <= set(gate.ungated)
    assert all("\n" not in why and why for why in gate.ungated.values())
    assert gate.scores().keys() | gate.ungated.keys() == {*groups, *blocks}
    assert gate.block_scores() == {}
    gate.fold()
    with pytest.raises(MethodError, match=r"no unit and no residual block .* wide"):
        StructureScales(network, graph, groups=["wide"], blocks=blocks, strength=0.1)
    assert not hasattr(network, GATE)
