"""Selection layers: what they compute, what alpha and lambda follow, binary codes, and where v stands in a network."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from pruners.errors import MethodError
from pruners.forms.masking import mask
from pruners.gates.selection import Selection
from pruners.gates.selection_rates import Ramp, corrected
from pruners.graph import trace
from pruners.plan import PruningPlan
from pruners.recover.fit import fit
from pruners.recover.settings import TrainSettings
from pruners.testing import NETWORKS, make_network

IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(8) % 5


class SharedActivation(nn.Module):
    """One in-place ReLU module for all, a functional one, one convolution called twice, a squeeze-excitation."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 10, 3, padding=1)
        self.again = nn.Conv2d(10, 10, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(10, 4, 1), nn.Conv2d(4, 10, 1)
        self.fc = nn.Linear(10, 5)

    def forward(self, x):
        x = self.pool(self.relu(self.a(x)))
        x = F.relu(self.b(x))
        x = self.relu(self.again(self.relu(self.again(x))))
        x = x * torch.sigmoid(self.excite(self.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.fc(x.mean((2, 3)))


def network_named(name):
    return SharedActivation() if name == "shared" else make_network(name)


def gated(network, updates=100, rate=0.5, **settings):
    graph = trace(network, (IMAGES[:2],))
    rates = {group.name: rate for group in graph.groups if group.prunable}
    return Selection(network, graph, rates, updates=updates, **settings), graph


def closed_by_hand(gate, seed=0):
    """Record an update in which a random half of the units is closed."""
    generator = torch.Generator().manual_seed(seed)
    gate.record[0] = 30 * (torch.rand(gate.record.shape[1], generator=generator) - 0.5).sign()
    gate.updates.fill_(1)
    return {name: [unit for unit, v in enumerate(value) if v > 0.5] for name, value in gate.values().items()}


def plan_keeping(graph, kept):
    kept = {name: tuple(units) for name, units in kept.items()}
    sizes = {group.name: group.n_units for group in graph.groups if group.name in kept}
    return PruningPlan.from_kept(
        kept, sizes, graph=graph.fingerprint, inputs=graph.inputs, method="by hand", settings={}
    )


@pytest.mark.rounding
@pytest.mark.parametrize("name", [*NETWORKS, "shared"])
def test_in_evaluation_mode_the_index_masks_the_units(name):
    net = network_named(name).eval()
    plain = copy.deepcopy(net)
    gate, graph = gated(net)
    assert torch.equal(net(IMAGES), plain(IMAGES)), "nothing is closed before the first update"
    kept = closed_by_hand(gate)
    expected = mask(plain, plan_keeping(graph, kept))(IMAGES)
    assert torch.allclose(net(IMAGES), expected, atol=1e-6)
    assert not torch.allclose(expected, plain(IMAGES), atol=1e-3)
    gate.fold()
    assert torch.allclose(net(IMAGES), expected, atol=1e-5)
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.rounding
@pytest.mark.parametrize("name", [*NETWORKS, "shared"])
def test_in_training_mode_v_multiplies_what_the_layers_read(name):
    """A twin whose columns are multiplied by the v of the batch computes the same."""
    net = network_named(name).train()
    twin = copy.deepcopy(net)
    gate, graph = gated(net)
    out = net(IMAGES)
    gate.after_step(0.1)
    with torch.no_grad():
        for group, v in gate.values().items():
            assert v.std() > 0
            for member in graph.group(group).members:
                parent, _, attribute = member.path.rpartition(".")
                weight = twin.get_submodule(parent)._parameters.get(attribute)
                if not member.produces and weight is not None and weight.dim() > 1:
                    for unit, positions in enumerate(member.indices):
                        weight.index_copy_(
                            member.axis,
                            torch.tensor(positions),
                            weight.index_select(member.axis, torch.tensor(positions)) * v[unit],
                        )
    assert torch.allclose(out, twin(IMAGES), atol=1e-5)


@pytest.mark.rounding
def test_s_is_that_of_the_equations():
    net = make_network("plain").train()
    gate, _ = gated(net, alpha=(0.7, 0.7))
    seen = {}
    net.conv.register_forward_pre_hook(lambda _, args: seen.update(conv=args[0]), prepend=True)
    net.hidden.register_forward_pre_hook(lambda _, args: seen.update(hidden=args[0]), prepend=True)
    with torch.no_grad():
        for layer in gate.layers:
            layer.bias.uniform_(-1, 1)
    net(IMAGES)
    gate.after_step(0.1)
    # stem: read as maps of 4x4, which are not pooled; conv: read flattened
    for number, (name, reader) in enumerate((("stem", "conv"), ("conv", "hidden"))):
        mean = seen[reader].mean(0).reshape(-1)
        layer = gate.layers[number]
        s = [
            sum(w * m for w, m in zip(row, mean, strict=True)) + b
            for row, b in zip(layer.weight, layer.bias, strict=True)
        ]
        assert gate.scores()[name] == pytest.approx((0.7 * torch.stack(s)).tolist(), abs=1e-4)


@pytest.mark.rounding
def test_maps_of_eight_and_more_are_pooled_two_by_two():
    net = make_network("residual").train()
    gate, _ = gated(net, alpha=(1.0, 1.0))
    seen = {}
    net.expand.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]), prepend=True)
    net(IMAGES)
    gate.after_step(0.1)
    mean = seen["x"].mean(0)
    pooled = torch.stack(
        [mean[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax((1, 2)) for i, j in itertools.product(range(4), range(4))],
        1,
    )
    layer = gate.layers[0]
    assert layer.weight.shape == (8, 8 * 4 * 4)
    assert gate.scores()["stem"] == pytest.approx((layer.weight @ pooled.reshape(-1)).tolist(), abs=1e-4)
    assert layer.weight.std().item() == pytest.approx(10 * math.sqrt(2 / 128), rel=0.1)


def test_alpha_climbs_the_published_ramp():
    """VGG-16 on ImageNet: 3 epochs of 5005 updates, 150 levels from 0.1 to 2, the sides asked for from the 20th on."""
    ramp = Ramp(start=0.1, stop=2.0, every=100, updates=15_015, settle_after=0.13)
    assert ramp.levels == 150
    levels = [0.1 + 1.9 * level / 149 for level in range(150)]
    for update in (0, 99, 100, 101, 7_450, 14_899, 14_900, 15_014):
        assert ramp.alpha(update) == pytest.approx(levels[min(update // 100, 149)])
    assert [ramp.settled(update) for update in (1_899, 1_900)] == [False, True]
    short = Ramp(start=1.0, stop=3.0, every=100, updates=60, settle_after=0.5)
    assert (short.levels, short.step) == (20, 3)
    assert [short.alpha(u) for u in (0, 2, 3, 59)] == pytest.approx([1.0, 1.0, 1.0 + 2 / 19, 3.0])


def test_corrections_follow_a_trace_computed_by_hand():
    middle, sides = torch.full((10,), 0.5), torch.tensor([0.1] * 5 + [0.95] * 4 + [0.5])
    # closed, v, settled -> offset, threshold, lambda; r = 0.4, step 0.1
    trace_by_hand = [
        (0.20, middle, False, 0.0, 0.95, 40.0),
        (1.00, middle, False, 0.1, 0.90, 40.0),
        (0.90, sides, True, 0.2, 0.85, 30.0),
        (0.80, sides, True, 0.2, 0.85, 20.0),
        (0.60, middle, True, 0.3, 0.85, 0.0),
        (0.90, middle, True, 0.5, 0.80, 30.0),
        (0.90, sides, True, 0.6, 0.75, 30.0),
        (0.90, sides, True, 0.7, 0.70, 30.0),
        (0.90, sides, True, 0.8, 0.65, 30.0),
        (0.90, sides, True, 0.9, 0.60, 30.0),
        (0.90, sides, True, 1.0, 0.60, 30.0),
    ]
    offset, threshold = 0.0, 0.95
    for closed, values, settled, *expected in trace_by_hand:
        offset, threshold, strength = corrected(
            offset, threshold, closed=closed, values=values, rate=0.4, step=0.1, settled=settled
        )
        assert [offset, threshold, strength] == pytest.approx(expected)


def test_the_gate_applies_ramp_corrections_and_lambda_to_each_group():
    net = make_network("plain").train()
    gate, _ = gated(net, updates=40, rate=0.25, alpha=(0.5, 1.5), ramp_every=10, check_every=5, settle_after=0.5)
    # s is constant: all of "stem" closed, half of "conv" closed and half open, "hidden" in the middle
    s = [torch.full((8,), -4.0), torch.tensor([5.0, -5.0] * 6), torch.full((16,), 0.1)]
    with torch.no_grad():
        for layer, bias in zip(gate.layers, s, strict=True):
            layer.weight.zero_()
            layer.bias.copy_(bias)
    offsets, thresholds, strengths = [0.0] * 3, [0.95] * 3, [10.0] * 3
    for update in range(40):
        alpha = [0.5 + min(update // 2, 19) / 19 + offset for offset in offsets]
        assert list(gate.alphas().values()) == pytest.approx(alpha)
        net(IMAGES)
        v = [torch.sigmoid(a * bias) for a, bias in zip(alpha, s, strict=True)]
        penalty = sum(k * (float(x.mean()) - 0.25) ** 2 for k, x in zip(strengths, v, strict=True))
        assert gate.penalty().item() == pytest.approx(penalty, rel=1e-4)
        gate.after_step(0.1)
        if update % 5 == 4:
            for g, closed in enumerate((1.0, 0.5, 0.0)):
                if closed >= thresholds[g]:
                    offsets[g] += 0.1
                    thresholds[g] = max(thresholds[g] - 0.05, 0.75)
                at_sides = float(((v[g] < 0.2) | (v[g] > 0.8)).float().mean())
                if update // 2 + 1 >= 10 and at_sides < 0.9:
                    offsets[g] += 0.1
                strengths[g] = 100 * abs(1 - closed - 0.25)
    assert gate.thresholds.tolist() == pytest.approx(thresholds)
    assert strengths == pytest.approx([25.0, 25.0, 75.0])
    assert offsets[0] > 0.4
    assert offsets[1] == 0.0
    assert offsets[2] > 0.3


def test_the_index_is_the_majority_of_the_record():
    net = make_network("plain").eval()
    seen = {}
    net.conv.register_forward_pre_hook(lambda _, args: (torch.ones_like(args[0]),))
    gate, _ = gated(net, check_every=5)
    net.conv.register_forward_pre_hook(lambda _, args: seen.update(index=args[0][0, :, 0, 0].tolist()))
    gate.record[:, :8] = torch.tensor([[1.0, -1.0, 1.0, -1.0, 9.0, -9.0, 1.0, -1.0]] * 5)
    gate.record[:3, 0] = -0.01  # closed in three of five
    gate.record[:2, 2] = -99.0  # closed in two of five
    gate.updates.fill_(5)
    net(IMAGES)
    assert seen["index"] == [0, 0, 1, 0, 1, 0, 1, 0]
    gate.record[:] = torch.cat([torch.full((1, 36), 50.0), torch.full((4, 36), 60.0)])
    gate.record[:, 3] += 10
    assert max(range(8), key=gate.scores()["stem"].__getitem__) == 3, "saturated v are told apart"


def toy(n):
    """Return examples of five prototypes with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (n,), generator=generator)
    prototypes = torch.randn(5, 3, 8, 8, generator=generator)
    return TensorDataset(prototypes[labels] + torch.randn(n, 3, 8, 8, generator=generator), labels)


@pytest.mark.rounding
def test_codes_are_binary_at_the_end_and_keep_the_wanted_share():
    """On batches of all the data: with small ones the last v settles or not with the rounding of the processor."""
    data = toy(512)
    net = make_network("plain")
    fit(net, data, None, TrainSettings(epochs=4, batch_size=32, lr=0.02))
    graph = trace(net, (IMAGES[:2],))
    gate = Selection(net, graph, {"conv": 0.5, "hidden": 0.5}, alpha=(0.1, 5.0))
    settings = TrainSettings(epochs=60, batch_size=512, lr=0.01, nesterov=False, schedule="step", milestones=(39,))
    history = fit(net, data, data, settings, gate=gate)
    for values in gate.values().values():
        assert ((values - 0.5).abs() > 0.49).all()
        assert (values > 0.5).float().mean() == pytest.approx(0.5, abs=1.5 / 12)
    accuracy = history.epochs[-1].validation_score
    assert accuracy > 0.9, "evaluated with the index in the place of v"
    gate.fold()
    net.eval()
    images, labels = data.tensors
    assert (net(images).argmax(1) == labels).float().mean().item() == pytest.approx(accuracy, abs=0.01)


def start():
    torch.manual_seed(0)
    net = make_network("residual")
    gate, _ = gated(net, updates=12, check_every=2)
    return net, gate, torch.optim.SGD(gate.parameter_groups(net, 5e-4), lr=0.01, momentum=0.9)


def loop(net, gate, optimizer, updates):
    """Train as people do."""
    net.train()
    for _ in range(updates):
        optimizer.zero_grad()
        gate.with_penalty(F.cross_entropy(net(IMAGES), LABELS)).backward()
        gate.before_step(0.01)
        optimizer.step()
        gate.after_step(0.01)


def test_a_training_that_is_resumed_goes_on_bit_for_bit():
    net, gate, optimizer = start()
    loop(net, gate, optimizer, 5)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    loop(net, gate, optimizer, 7)
    again, other, second = start()
    again.load_state_dict(saved[0])
    second.load_state_dict(saved[1])
    loop(again, other, second, 7)
    assert int(other.updates) == 12
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    assert gate.alphas() == other.alphas()


def test_in_a_loop_of_ones_own_selection_layers_learn_and_copies_are_independent():
    net, gate, optimizer = start()
    before = [layer.weight.detach().clone() for layer in gate.layers]
    loop(net, gate, optimizer, 6)
    assert all(not torch.equal(a, layer.weight) for a, layer in zip(before, gate.layers, strict=True))
    twin = copy.deepcopy(net).eval()
    expected = twin(IMAGES)
    loop(net, gate, optimizer, 6)
    gate.fold()
    assert torch.equal(twin(IMAGES), expected)
    twin.prune_deploy_gate.fold()
    assert not any(module._forward_pre_hooks for module in twin.modules())


def test_what_cannot_be_done_is_said_in_one_line():
    net = make_network("residual")
    with pytest.raises(MethodError, match=r"'stem' would have 1,024 weights, more than max_weights \(1,000\)"):
        gated(net, max_weights=1000)
    gate, _ = gated(net, updates=None)
    with pytest.raises(MethodError, match="give updates, or call expect"):
        net(IMAGES)
    gate.expect(10)
    with pytest.raises(MethodError, match=r"shape \(8, 8, 8\), got \(8, 16, 16\)"):
        net(torch.zeros(2, 3, 16, 16))
    with pytest.raises(MethodError, match="ran in training mode"):
        gate.penalty()
