"""Channel groups of small networks whose right answer is known by hand; costs, sites, taps, reasons."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import PlanError, TraceError
from pruners.graph import trace
from pruners.policy import Policy

IMAGE = torch.randn(2, 3, 8, 8)


class Net(nn.Module):
    """Layers by name, and a forward given as a function."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, *inputs):
        return self._forward(self, *inputs)


def groups(model, *inputs):
    return {group.name: group for group in trace(model, inputs or (IMAGE,)).groups}


def members(group):
    return {(member.path, member.axis, member.produces) for member in group.members}


def test_a_chain_gives_a_group_per_layer():
    net = Net(
        lambda n, x: n.b(F.relu(n.bn(n.a(x)))),
        a=nn.Conv2d(3, 6, 3),
        bn=nn.BatchNorm2d(6),
        b=nn.Conv2d(6, 4, 1),
    )
    found = groups(net)
    assert list(found) == ["a", "b"]
    assert found["a"].prunable
    assert found["a"].n_units == 6
    assert members(found["a"]) == {
        ("a.weight", 0, True),
        ("a.bias", 0, False),
        ("bn.weight", 0, False),
        ("bn.bias", 0, False),
        ("bn.running_mean", 0, False),
        ("bn.running_var", 0, False),
        ("b.weight", 1, False),
    }
    assert found["b"].fixed == "its channels are an output of the network"


def test_flatten_gives_each_unit_its_positions():
    net = Net(lambda n, x: n.b(n.a(x).flatten(1)), a=nn.Conv2d(3, 4, 7), b=nn.Linear(16, 2))
    (columns,) = [member for member in groups(net)["a"].members if member.path == "b.weight"]
    assert columns.axis == 1
    assert columns.indices == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13, 14, 15))


def test_an_addition_unites_and_a_concatenation_does_not():
    net = Net(
        lambda n, x: n.c(torch.cat([n.a(x) + n.b(x), n.d(x)], 1)),
        a=nn.Conv2d(3, 4, 1),
        b=nn.Conv2d(3, 4, 1),
        d=nn.Conv2d(3, 2, 1),
        c=nn.Conv2d(6, 2, 1),
    )
    found = groups(net)
    assert list(found) == ["a", "d", "c"]
    assert {("a.weight", 0, True), ("b.weight", 0, True), ("c.weight", 1, False)} <= members(found["a"])
    (offset,) = [member.indices for member in found["d"].members if member.path == "c.weight"]
    assert offset == ((4,), (5,))


def test_depthwise_goes_channel_by_channel_and_grouped_by_whole_groups():
    net = Net(
        lambda n, x: n.o(n.g(n.b(n.d(n.a(x))))),
        a=nn.Conv2d(3, 6, 1),
        d=nn.Conv2d(6, 6, 3, groups=6),
        b=nn.Conv2d(6, 12, 1),
        g=nn.Conv2d(12, 8, 3, groups=4),
        o=nn.Conv2d(8, 2, 1),
    )
    found = groups(net)
    assert (found["a"].n_units, found["a"].min_units) == (6, 1)
    assert ("d.weight", 0, True) in members(found["a"])
    assert (found["b"].n_units, found["b"].min_units) == (4, 2)
    by_path = {member.path: member.indices[1] for member in found["b"].members}
    assert by_path["b.weight"] == (3, 4, 5)
    assert by_path["g.weight"] == (2, 3)
    assert by_path["o.weight"] == (2, 3)


def test_a_shuffle_of_equal_pieces_is_followed():
    def forward(n, x):
        y = n.a(x)
        b, c, h, w = y.shape
        return n.o(y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w))

    group = groups(Net(forward, a=nn.Conv2d(3, 8, 1), o=nn.Conv2d(8, 2, 1)))["a"]
    assert (group.n_units, group.min_units) == (4, 3)
    by_path = {member.path: member.indices for member in group.members}
    assert by_path["a.weight"] == ((0, 4), (1, 5), (2, 6), (3, 7))
    assert by_path["o.weight"] == ((0, 1), (2, 3), (4, 5), (6, 7))


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: x.cumsum(1), "cumsum takes its channels in order"),
        (lambda x: x.cummax(1)[0], "aten.cummax.default is unknown to the label engine"),
        (lambda x: x + torch.arange(8.0)[:, None, None], "joins it with a tensor that cannot shrink"),
        (lambda x: x[:, [1, 0, 3, 2, 5, 4, 7, 6]], "names positions of it"),
        (lambda x: x[:, ::2].repeat(1, 2, 1, 1), "takes given positions of it"),
        (lambda x: x.roll(1, 1), "shifts positions of it"),
        (lambda x: x.softmax(1), "reduces over its channels"),
    ],
)
def test_what_can_not_be_pruned_says_why(between, reason):
    net = Net(
        lambda n, x: n.o(F.adaptive_avg_pool1d(between(n.a(x)).flatten(1).unsqueeze(1), 6).squeeze(1)),
        a=nn.Conv2d(3, 8, 1),
        o=nn.Linear(6, 2),
    )
    group = groups(net)["a"]
    assert not group.prunable
    assert "\n" not in group.fixed
    assert reason in group.fixed


@pytest.mark.parametrize(
    ("norm", "units"),
    [
        (nn.GroupNorm(1, 8), 8),
        (nn.GroupNorm(2, 8), 4),
        (nn.GroupNorm(4, 8), 4),
        (nn.LayerNorm([8, 8, 8]), 8),
        (nn.InstanceNorm2d(8, affine=True), 8),
    ],
)
def test_a_norm_across_channels_is_prunable_and_marked_inexact(norm, units):
    net = Net(lambda n, x: n.o(n.g(n.a(x))), a=nn.Conv2d(3, 8, 1), g=norm, o=nn.Conv2d(8, 2, 1))
    group = groups(net)["a"]
    assert group.prunable
    assert group.n_units == units
    # four groups of two channels go as wholes, and nothing is averaged across them
    assert group.exact is (isinstance(norm, nn.InstanceNorm2d) or getattr(norm, "num_groups", 1) == 4)


def test_pieces_of_unequal_size_and_parts_of_an_axis_are_followed():
    def forward(n, x):
        left, right = n.a(x).split([3, 5], 1)
        return n.o(torch.cat([right[:, 1:], left], 1))

    group = groups(Net(forward, a=nn.Conv2d(3, 8, 1), o=nn.Conv2d(7, 2, 1)))
    by_path = {name: {m.path: m.indices for m in g.members} for name, g in group.items()}
    # a group for each part, so that no part is emptied
    assert by_path["a"]["o.weight"] == ((4,), (5,), (6,))
    assert by_path["a#2"] == {"a.weight": ((3,),), "a.bias": ((3,),)}
    assert by_path["a#3"]["a.weight"] == ((4,), (5,), (6,), (7,))
    assert by_path["a#3"]["o.weight"] == ((0,), (1,), (2,), (3,))


@pytest.mark.parametrize(("attention", "units"), [("heads", 4), ("head_size", 4)])
def test_attention_loses_heads_or_positions_of_every_head(attention, units):
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    net = Net(lambda n, x: n.o(n.t(n.i(x))), i=nn.Linear(6, 16), t=layer, o=nn.Linear(16, 2))
    graph = trace(net, (torch.randn(2, 5, 6),), policy=Policy(attention=attention))
    found = {group.name: group for group in graph.groups if group.prunable}
    assert {name: (g.n_units, g.exact) for name, g in found.items()} == {
        "i": (16, False),
        "t.self_attn": (units, True),
        "t.linear1": (32, True),
    }
    rows = {m.path: m.indices[0] for m in found["t.self_attn"].members}["t.self_attn.in_proj_weight"]
    first = (0, 1, 2, 3) if attention == "heads" else (0, 4, 8, 12)
    assert rows == tuple(part + row for part in (0, 16, 32) for row in first)


def test_macs_and_parameters_are_those_counted_by_hand():
    net = Net(
        lambda n, x: n.fc(F.adaptive_avg_pool2d(n.d(n.a(x)), 1).flatten(1)),
        a=nn.Conv2d(3, 6, 3, bias=False),  # 6x6 positions, 6*3*9 = 162 weights
        d=nn.Conv2d(6, 6, 3, groups=6),  # 4x4 positions, 6*9 = 54 weights, 6 biases
        fc=nn.Linear(6, 5),  # 30 weights, 5 biases
    )
    graph = trace(net, (IMAGE,))
    assert graph.macs() == 36 * 162 + 16 * 54 + 30
    assert graph.parameters() == 162 + 54 + 6 + 30 + 5
    assert graph.macs({"a": 2}) == 36 * 54 + 16 * 18 + 10
    assert graph.parameters({"a": 2}) == 54 + 18 + 2 + 10 + 5
    with pytest.raises(ValueError, match=r"'a' keeps 1\.\.6 units, got 0"):
        graph.macs({"a": 0})


def test_macs_do_not_depend_on_the_batch():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    assert {trace(net, (torch.randn(n, 3, 8, 8),)).macs() for n in (1, 2, 5)} == {36 * 108 + 288}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_size_in_the_code_is_not_dynamic(size):
    rows = {"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    assert trace(Net(lambda n, x: n.b(n.a(x)), **rows), (torch.randn(size, 4),)).dynamic_batch
    assert not trace(Net(lambda n, x: n.b(n.a(x).view(size, 6)), **rows), (torch.randn(size, 4),)).dynamic_batch


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.bn_a = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.b, self.bn_b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.se, self.o = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = F.relu(self.bn_a(self.a(x)), inplace=True)
        y = self.bn_b(self.b(x))
        y = y * torch.sigmoid(self.se(y.mean((2, 3), keepdim=True)))
        y += x
        return self.o(y.relu_())


def test_sites_are_after_norm_and_activation_and_leave_gates_out():
    graph = trace(Residual(), (IMAGE,))
    operators = {node.name: str(node.target) for node in graph.module.graph.nodes}
    sites = graph.sites["a"]
    assert [operators[site.node] for site in sites] == ["aten.relu.default", "aten.batch_norm.default"]
    assert all(site.axis == 1 and site.indices == ((0,), (1,), (2,), (3,)) for site in sites)


def test_taps_replace_values_and_are_differentiable():
    model = Residual().eval()
    graph = trace(model, (IMAGE,))
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(graph.run((x,)), model(x))
    gate = torch.ones(5, 4, requires_grad=True)
    taps = {site.node: lambda value: value * gate[:, :, None, None] for site in graph.sites["a"]}
    graph.run((x,), taps).sum().backward()
    assert gate.grad.shape == (5, 4)
    assert gate.grad.abs().sum() > 0


def test_the_graph_follows_the_model_when_it_trains():
    model = Residual().eval()
    graph = trace(model, (IMAGE,))
    before = graph.run((IMAGE,))
    with torch.no_grad():
        model.o.weight.mul_(2)
        model.bn_a.running_mean.add_(1)
    assert not torch.allclose(graph.run((IMAGE,)), before)
    torch.testing.assert_close(graph.run((IMAGE,)), model(IMAGE))


def test_tracing_leaves_the_model_as_it_is():
    model = Residual().train()
    model.a.weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    trace(model, (IMAGE,))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert after == torch.rand(1)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(layer.training for layer in model.modules())
    assert not model.a.weight.requires_grad


def test_the_fingerprint_is_of_the_structure_not_of_the_weights():
    first, second = trace(Residual(), (IMAGE,)), trace(Residual(), (torch.randn(1, 3, 16, 16),))
    assert first.fingerprint == second.fingerprint
    other = Residual()
    other.o = nn.Conv2d(4, 3, 1)
    assert trace(other, (IMAGE,)).fingerprint != first.fingerprint


def test_a_network_that_can_not_be_traced_is_one_line():
    net = Net(lambda n, x: n.a(x) if x.sum() > 0 else x, a=nn.Linear(4, 4))
    with pytest.raises(TraceError, match=r"^torch.export cannot trace Net: [^\n]*$"):
        trace(net, (torch.randn(2, 4),))


def test_an_unknown_group_is_refused_with_those_there_are():
    with pytest.raises(PlanError, match="no channel group 'layer9'; it has a"):
        trace(Residual(), (IMAGE,)).group("layer9")


def test_weights_have_the_first_of_their_names_whichever_the_forward_uses():
    net = Net(lambda n, x: n.o(n.nested(x)), a=nn.Conv2d(3, 8, 3), o=nn.Conv2d(8, 4, 1))
    net.nested = nn.Sequential(net.a, nn.ReLU())
    graph = trace(net, (IMAGE,))
    assert torch.equal(graph.weights()["a.weight"], net.a.weight)
    assert graph.weights().keys() == dict(net.named_parameters()).keys()
