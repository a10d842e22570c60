"""Sampling what layers read and give: who reads a group, patches that give outputs, moments of contributions."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.graph import trace
from pruners.reconstruct.contributions import contribution_moments, owners, scalar_contributions
from pruners.reconstruct.least_squares import refit
from pruners.reconstruct.readers import layers_among, reader_named, readers_of
from pruners.reconstruct.samples import Wanted, patches, sample
from pruners.testing import make_network

EXAMPLE = (torch.zeros(2, 3, 8, 8),)


def batches(size=8, seed=0, channels=3, n=None):
    generator = torch.Generator().manual_seed(seed)
    for _ in count() if n is None else range(n):
        yield torch.randn(size, channels, 8, 8, generator=generator), torch.zeros(size, dtype=torch.int64)


def readers(network, group, example=EXAMPLE):
    graph = trace(network, example)
    return graph, readers_of(graph, graph.group(group))


def one_reader(network, example):
    """Trace a network of one layer `layer` and return its graph and the layer."""
    graph = trace(network, example)
    return graph, reader_named(graph, "layer.weight")


@pytest.mark.parametrize(
    ("network", "group", "expected"),
    [
        ("plain", "conv", {"hidden.weight": 16}),
        ("residual", "expand", {"blocks.0.conv1.weight": 1, "blocks.1.conv1.weight": 1, "fc.weight": 1}),
        ("residual", "blocks.0.conv1", {"blocks.0.conv2.weight": 1}),
        ("depthwise", "pointwise", {"head.weight": 1}),
        ("depthwise", "stem", {"pointwise.weight": 1}),
        ("concat", "left", {"mix.weight": 1}),
        ("concat", "stem", {"left.weight": 1, "right.weight": 1, "mix.weight": 1}),
    ],
)
def test_readers_are_the_layers_behind_what_only_carries(network, group, expected):
    _, found = readers(make_network(network), group)
    assert {reader.weight: len(reader.units[0]) for reader in found} == expected


def test_readers_behind_a_concatenation_have_their_share_of_the_columns():
    _, (mix,) = readers(make_network("concat"), "left")
    assert mix.units == tuple((8 + unit,) for unit in range(6))
    assert owners(mix, torch.zeros(12, 24, 1, 1)).tolist() == [-1] * 8 + list(range(6)) + [-1] * 10


def test_end_of_a_residual_branch_is_seen_through_its_batchnorm():
    graph, (reader,) = readers(make_network("residual"), "blocks.0.conv1")
    branch = reader.calls[0].branch
    assert branch.norm.name == "batch_norm_1"
    assert branch.shortcut == "relu_1"
    assert branch.addition == "add"
    _, (hidden,) = readers(make_network("plain"), "conv")
    assert hidden.calls[0].branch is None
    assert reader_named(graph, "blocks.0.bn1.weight") is None


class Net(nn.Module):
    """A stem, something that reads it, and a classifier."""

    def __init__(self, body, forward, width=6):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = body
        self.fc = nn.LazyLinear(4)
        self._forward = forward
        self(*EXAMPLE)

    def forward(self, x):
        return self.fc(self._forward(self, F.relu(self.stem(x))).mean((2, 3)))


def test_what_is_no_plain_layer_is_refused_by_name():
    transposed = Net(nn.ConvTranspose2d(6, 5, 2), lambda net, x: net.body(x))
    with pytest.raises(MethodError, match=r"group 'stem' is read through 'body\.weight'.*exclude it"):
        readers(transposed, "stem")
    grouped = Net(nn.Conv2d(8, 8, 3, groups=2), lambda net, x: net.body(x), width=8)
    graph = trace(grouped, EXAMPLE)
    for group in graph.groups:
        if group.prunable and any(m.path == "body.weight" and not m.produces and m.axis == 1 for m in group.members):
            with pytest.raises(MethodError, match=r"'body\.weight'"):
                readers_of(graph, group)
    normed = Net(nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 5, 1)), lambda net, x: net.body(x))
    with pytest.raises(MethodError, match=r"body\.parametrizations\.weight\.original1"):
        readers(normed, "stem")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.out = nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.out((q @ k.transpose(1, 2)).softmax(-1) @ v)


def test_channels_that_only_meet_other_channels_are_refused():
    graph = trace(Attention(), (torch.zeros(2, 3, 8),))
    said = []
    for group in graph.groups:
        if group.prunable:
            try:
                said.append([reader.weight for reader in readers_of(graph, group)])
            except MethodError as error:
                said.append(str(error))
    assert ["out.weight"] in said
    assert any("no layer with weights reads the channels of group 'query'" in str(item) for item in said)


def test_layer_that_is_called_twice_is_one_reader_with_two_calls():
    twice = Net(nn.Conv2d(6, 6, 3, padding=1), lambda net, x: net.body(F.relu(net.body(x))))
    graph = trace(twice, EXAMPLE)
    reader = reader_named(graph, "body.weight")
    assert len(reader.calls) == 2
    rows = sample(
        [Wanted(graph=graph, reader=reader, what=what) for what in ("inputs", "outputs")],
        batches(),
        images=16,
        positions=3,
        seed=0,
        who="test",
    )
    assert [len(item) for item in rows] == [16 * 3 * 2] * 2
    weight, bias = twice.body.weight.detach(), twice.body.bias.detach()
    assert torch.allclose(rows[0] @ weight.flatten(1).T + bias, rows[1], atol=1e-5)


def test_bias_that_several_layers_use_is_told():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.bias = self.first.bias

        def forward(self, x):
            return self.second(F.relu(self.first(x)))

    graph = trace(Tied(), (torch.zeros(2, 4),))
    assert reader_named(graph, "second.weight").shared_bias
    assert reader_named(graph, "second.weight").bias == "first.bias"


def test_layers_among_parameters_come_in_order_and_others_are_named():
    net = Net(nn.ConvTranspose2d(6, 5, 2), lambda net, x: net.body(x))
    graph = trace(net, EXAMPLE)
    found, others = layers_among(graph, ["fc.weight", "body.weight", "body.bias", "stem.weight", "no.such"])
    assert [reader.weight for reader in found] == ["stem.weight", "fc.weight"]
    assert others == ("body.weight",)


class Single(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 3))
    each = lambda values: tuple(draw(values) for _ in range(rank))  # noqa: E731
    kernel, dilation = each(st.integers(1, 3)), each(st.integers(1, 2))
    padding = draw(st.sampled_from(["same", "valid", "sizes"]))
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    layer = kind(
        draw(st.integers(1, 3)),
        draw(st.integers(2, 4)),
        kernel,
        stride=1 if padding == "same" else each(st.integers(1, 2)),
        padding=each(st.integers(0, 2)) if padding == "sizes" else padding,
        dilation=dilation,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "replicate"])),
    )
    return layer, torch.randn(draw(st.integers(2, 3)), layer.in_channels, *each(st.integers(5, 7)))


@pytest.mark.rounding
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(deadline=None, max_examples=40)
@given(convolutions())
def test_patches_times_weights_are_the_outputs_of_any_convolution(made):
    layer, x = made
    graph, reader = one_reader(Single(layer), (x,))
    (call,) = reader.calls
    seen = {}
    graph.run((x,), {name: lambda value, name=name: seen.setdefault(name, value) for name in (call.node, call.reads)})
    out = seen[call.node].detach()
    picks = torch.randperm(out.numel() // out.shape[1])
    rows = patches(seen[call.reads].detach(), call, picks) @ layer.weight.detach().flatten(1).T
    if layer.bias is not None:
        rows += layer.bias.detach()
    assert torch.allclose(rows, out.movedim(1, -1).reshape(-1, out.shape[1])[picks], atol=1e-5)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_patches_of_a_linear_layer_are_its_rows(middle):
    layer, x = nn.Linear(3, 2), torch.randn(2, *middle, 3)
    _, reader = one_reader(Single(layer), (x,))
    picks = torch.randperm(x.numel() // 3)
    rows = F.linear(patches(x, reader.calls[0], picks), layer.weight, layer.bias)
    assert torch.allclose(rows, layer(x).reshape(-1, 2)[picks], atol=1e-6)


def test_samples_of_two_networks_are_of_the_same_positions():
    net, other = make_network("residual"), make_network("residual")
    graphs = [trace(item, EXAMPLE) for item in (net, other)]
    wanted = [
        Wanted(graph=graph, reader=reader_named(graph, weight), what=what)
        for weight, what in (
            ("blocks.0.conv2.weight", "inputs"),
            ("blocks.0.conv2.weight", "sum"),
            ("fc.weight", "inputs"),
        )
        for graph in graphs
    ]
    rows = sample(wanted, batches(), images=20, positions=5, seed=3, who="test")
    for left, right in zip(rows[::2], rows[1::2], strict=True):
        assert torch.equal(left, right)
    assert [len(item) for item in rows[::2]] == [
        24 * 5,
        24 * 5,
        24,
    ]  # whole batches; one row an example behind the pool
    again = sample(wanted, batches(), images=20, positions=5, seed=3, who="test")
    other_seed = sample(wanted, batches(), images=20, positions=5, seed=4, who="test")
    assert torch.equal(rows[0], again[0])
    assert not torch.equal(rows[0], other_seed[0])


def test_positions_are_all_over_the_map_and_none_comes_twice():
    graph, reader = one_reader(Single(nn.Conv2d(3, 2, 1)), EXAMPLE)
    where = torch.arange(8 * 3 * 64, dtype=torch.float32).reshape(8, 3, 8, 8)
    (rows,) = sample(
        [Wanted(graph=graph, reader=reader, what="inputs")],
        iter([(where, torch.zeros(8))]),
        images=8,
        positions=64,
        seed=0,
        who="test",
    )
    assert len(rows) == 8 * 64
    assert torch.equal(rows[:, 0].sort().values, where[:, 0].flatten())
    (few,) = sample(
        [Wanted(graph=graph, reader=reader, what="inputs")],
        iter([(where, torch.zeros(8))]),
        images=8,
        positions=20,
        seed=0,
        who="test",
    )
    assert len(few[:, 0].unique()) == 8 * 20
    assert len((few[:, 0] % 64).unique()) > 50


def test_batches_that_end_are_told():
    graph, reader = one_reader(Single(nn.Conv2d(3, 2, 1)), EXAMPLE)
    for n, said in ((0, "ended after 0 of 20"), (2, "ended after 16 of 20")):
        with pytest.raises(MethodError, match=said):
            sample(
                [Wanted(graph=graph, reader=reader, what="inputs")],
                batches(n=n),
                images=20,
                positions=1,
                seed=0,
                who="test",
            )


@pytest.mark.rounding
@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 30),
    units=st.integers(1, 5),
    width=st.integers(1, 3),
    outputs=st.integers(1, 4),
    others=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_moments_are_those_of_the_contributions(rows, units, width, outputs, others, seed):
    torch.manual_seed(seed)
    owner = torch.cat([torch.arange(units).repeat_interleave(width), torch.full((others,), -1)])
    owner = owner[torch.randperm(len(owner))]
    x, w, y = torch.randn(rows, len(owner)), torch.randn(outputs, len(owner)), torch.randn(rows, outputs)
    z = torch.stack([(x[:, owner == unit] @ w[:, owner == unit].T).flatten() for unit in range(units)], 1).double()
    gram, cross = contribution_moments(x, w, owner, units, y)
    assert torch.allclose(gram, z.T @ z, atol=1e-3)
    assert torch.allclose(cross, z.T @ y.flatten().double(), atol=1e-3)
    filters = torch.randint(outputs, (rows,))
    scalars = scalar_contributions(x, w[filters], owner, units)
    own = owner >= 0
    assert torch.allclose(scalars.sum(1), (x[:, own] * w[filters][:, own]).sum(1).double(), atol=1e-5)


def test_moments_do_not_depend_on_the_blocks(monkeypatch):
    torch.manual_seed(0)
    owner = torch.randint(-1, 7, (50,))
    arguments = (torch.randn(30, 50), torch.randn(4, 50), owner, 7, torch.randn(30, 4))
    whole = contribution_moments(*arguments)
    monkeypatch.setattr("pruners.reconstruct.contributions._BLOCK", 8)
    assert all(torch.allclose(a, b) for a, b in zip(whole, contribution_moments(*arguments), strict=True))


@pytest.mark.rounding
@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(2, 40),
    columns=st.integers(1, 20),
    outputs=st.integers(1, 4),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_without_ridge_it_is_numpys_least_squares(rows, columns, outputs, bias, seed):
    import numpy as np

    torch.manual_seed(seed)
    x, y = torch.randn(rows, columns).double(), torch.randn(rows, outputs).double()
    start, offset = torch.randn(outputs, columns).double(), torch.randn(outputs).double() if bias else None
    found = refit(x, y, start, offset, ridge=0.0)
    design = torch.cat([x, torch.ones(rows, 1).double()], 1) if bias else x
    wanted = design @ torch.from_numpy(np.linalg.lstsq(design.numpy(), y.numpy(), rcond=None)[0])
    got = x @ found.weight.T + (0 if found.bias is None else found.bias)
    assert torch.allclose(got, wanted, atol=1e-8)
    assert found.after == pytest.approx(float((y - got).norm()), abs=1e-8)
    assert found.after <= found.before + 1e-9
    if rows > columns + 1:
        weights = torch.from_numpy(np.linalg.lstsq(design.numpy(), y.numpy(), rcond=None)[0])[:columns].T
        assert torch.allclose(found.weight, weights, atol=1e-6)


@pytest.mark.rounding
@pytest.mark.parametrize("shape", [(40, 10), (10, 40)])
def test_ridge_is_its_minimum_over_rows_and_over_columns_and_ends_at_the_present_weights(shape):
    torch.manual_seed(0)
    x, y, start = torch.randn(*shape).double(), torch.randn(shape[0], 3).double(), torch.randn(3, shape[1]).double()
    found = refit(x, y, start, None, ridge=0.1)
    weight = found.weight.clone().requires_grad_()
    penalty = 0.1 * x.square().sum() / shape[1]
    ((y - x @ weight.T).square().sum() + penalty * (weight - start).square().sum()).backward()
    assert weight.grad.abs().max() < 1e-8
    assert torch.allclose(refit(x, y, start, None, ridge=1e9).weight, start, atol=1e-6)


def test_what_samples_do_not_tell_stays():
    torch.manual_seed(0)
    x = torch.randn(30, 5).double()
    x[:, 2] = 0
    start = torch.randn(2, 5).double()
    for ridge in (0.0, 0.01):
        found = refit(x, torch.randn(30, 2).double(), start, None, ridge=ridge)
        assert torch.allclose(found.weight[:, 2], start[:, 2])
    assert torch.equal(refit(torch.zeros(4, 5), torch.ones(4, 2), start, None, ridge=0.01).weight, start)
