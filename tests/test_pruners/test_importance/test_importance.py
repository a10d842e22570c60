"""The mathematics of the criteria: against finite differences, hand-written loops, and numbers worked out on paper."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.graph import trace
from pruners.groups import ChannelGroup, Member
from pruners.importance.gates import gate_rows, opened
from pruners.importance.measures.l1 import l1_norms
from pruners.importance.measures.taylor import taylor_scores
from pruners.importance.scores import flops_regularise, marginal_mflops, require_finite
from pruners.importance.units import unit_sums
from pruners.testing import make_network


class Net(nn.Module):
    """conv1 -> BN -> ReLU -> pool -> (x + conv2 -> ReLU) -> mean -> fc; conv1 and conv2 make the same channels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.conv1(x))), 2)
        x = x + torch.sigmoid(self.conv2(torch.tanh(self.inner(x))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    net = Net().double()
    with torch.no_grad():
        net.bn.running_mean.normal_()
        net.bn.running_var.uniform_(0.5, 2)
        net.bn.weight.normal_()
        net.bn.bias.normal_()
    return net


@pytest.fixture(scope="module")
def graph(net):
    return trace(net, (torch.randn(2, 2, 6, 6, dtype=torch.float64),))


@pytest.fixture(scope="module")
def examples():
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(12, 2, 6, 6, dtype=torch.float64, generator=generator)
    return images, torch.randint(0, 3, (12,), generator=generator)


def in_batches(examples, *sizes):
    return list(zip(*(torch.split(part, sizes) for part in examples), strict=True))


def feature_maps(net, images):
    """The maps of each group, written out by hand, and the outputs; each map keeps its gradient."""
    net.eval()
    first = F.relu(net.bn(net.conv1(images)))
    pooled = F.max_pool2d(first, 2)
    inner = torch.tanh(net.inner(pooled))
    second = torch.sigmoid(net.conv2(inner))
    for value in (first, inner, second):
        value.retain_grad()
    outputs = net.fc((pooled + second).mean((2, 3)))
    net.train()
    return {"conv1": [first, second], "inner": [inner]}, outputs


def per_example_products(net, examples):
    images, labels = examples
    maps, outputs = feature_maps(net, images)
    # A sum over examples: the gradient of each map row is that of its own example's loss.
    F.cross_entropy(outputs, labels, reduction="sum").backward()
    net.zero_grad(set_to_none=True)
    return {name: [value.grad * value.detach() for value in values] for name, values in maps.items()}


def test_taylor_is_equation_8(net, graph, examples):
    """Mean over positions, absolute value, mean over examples; the maps of one unit share one gate."""
    products = per_example_products(net, examples)
    scores = taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["conv1", "inner"])
    for name, values in products.items():
        expected = torch.cat([value.flatten(2) for value in values], 2).mean(2).abs().mean(0)
        assert scores.scores[name] == pytest.approx(expected.tolist(), rel=1e-10)
    assert scores.n_examples == 12


def test_other_orders_of_operations_are_other_criteria(net, graph, examples):
    """What re-implementations got wrong would not pass for equation 8 here."""
    (inner,) = per_example_products(net, examples)["inner"]
    found = torch.tensor(
        taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["inner"]).scores["inner"]
    )
    abs_inside_space = inner.abs().mean((2, 3)).mean(0)
    abs_after_examples = inner.mean((2, 3)).mean(0).abs()
    for wrong in (abs_inside_space, abs_after_examples):
        assert ((found - wrong).abs() > 1e-3 * found.abs()).any()


def test_gate_gradient_is_the_slope_of_the_loss(graph, examples):
    """Central differences of each example's loss as one unit's maps are scaled, in float64."""
    images, labels = (part[:3] for part in examples)
    rows = gate_rows(graph, ["conv1", "inner"], "taylor", joint=True)
    gates = opened(graph, images, labels, F.cross_entropy, rows, "taylor")
    slopes = zip(rows, gates.by_row(gates.slopes()), gates.positions, strict=True)
    gradients = {row.group: slope / n for row, slope, n in slopes}
    step = 1e-6

    def losses(name, unit, gate):
        def scaled(value):
            factor = torch.ones(value.shape[1], dtype=value.dtype)
            factor[unit] = gate
            return value * factor.reshape(1, -1, 1, 1)

        with torch.no_grad():
            outputs = graph.run((images,), {site.node: scaled for site in graph.sites[name]})
            return F.cross_entropy(outputs, labels, reduction="none")

    n_positions = {"conv1": 6 * 6 + 3 * 3, "inner": 3 * 3}
    for name, gradient in gradients.items():
        for unit in range(gradient.shape[1]):
            slope = (losses(name, unit, 1 + step) - losses(name, unit, 1 - step)) / (2 * step) / n_positions[name]
            assert gradient[:, unit].tolist() == pytest.approx(slope.tolist(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("sizes", [(6, 6), (1, 11), (4, 4, 4), (1,) * 12])
def test_batch_size_does_not_change_the_criterion(graph, examples, sizes):
    whole = taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["conv1", "inner"])
    cut = taylor_scores(graph, in_batches(examples, *sizes), F.cross_entropy, groups=["conv1", "inner"])
    for name, values in whole.scores.items():
        assert cut.scores[name] == pytest.approx(values, rel=1e-10)
    assert cut.loss == pytest.approx(whole.loss)


def test_scoring_leaves_no_trace(net, graph, examples):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["conv1", "inner"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_unit_that_nothing_reads_scores_zero(examples):
    torch.manual_seed(0)
    net = Net().double()
    with torch.no_grad():
        net.conv2.weight[:, 1] = 0
    graph = trace(net, (examples[0][:2],))
    found = taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["inner"]).scores["inner"]
    assert found[1] == 0
    assert min(found[0], found[2]) > 0


def test_frozen_weights_are_scored_all_the_same(examples):
    torch.manual_seed(0)
    net = Net().double().requires_grad_(False)
    graph = trace(net, (examples[0][:2],))
    assert min(taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["conv1"]).scores["conv1"]) > 0


def test_no_batches_is_an_error(graph):
    with pytest.raises(MethodError, match="no batches"):
        taylor_scores(graph, [], F.cross_entropy, groups=["inner"])


def test_a_group_without_feature_maps_is_an_error(graph, examples):
    with pytest.raises(MethodError, match="'fc' has no feature map"):
        taylor_scores(graph, in_batches(examples, 12), F.cross_entropy, groups=["fc"])


def test_a_loss_that_is_not_finite_is_an_error(graph, examples):
    with pytest.raises(MethodError, match="not finite"):
        taylor_scores(graph, in_batches(examples, 12), lambda o, y: F.cross_entropy(o, y) * math.inf, groups=["inner"])


def test_a_network_of_one_batch_size_is_scored_in_pieces(net, examples):
    images, labels = examples
    graph = trace(net, (images[:4],))
    fixed = replace(graph, dynamic_batch=False)
    whole = taylor_scores(graph, [examples], F.cross_entropy, groups=["inner"])
    pieces = taylor_scores(fixed, [examples], F.cross_entropy, groups=["inner"])
    assert pieces.scores["inner"] == pytest.approx(whole.scores["inner"])
    with pytest.raises(MethodError, match="batches of 10 are not a multiple"):
        taylor_scores(fixed, [(images[:10], labels[:10])], F.cross_entropy, groups=["inner"])


def test_l1_is_the_sum_of_absolute_kernel_weights():
    net = make_network("plain")
    graph = trace(net, (torch.zeros(2, 3, 8, 8),))
    found = l1_norms(dict(net.named_parameters()), [graph.group("stem"), graph.group("conv"), graph.group("hidden")])
    for name in ("stem", "conv"):
        weight = net.get_submodule(name).weight
        assert found[name] == pytest.approx([float(kernel.abs().sum()) for kernel in weight.detach()])
    assert found["hidden"] == pytest.approx([float(row.abs().sum()) for row in net.hidden.weight.detach()])


def test_l1_of_a_residual_stage_sums_over_the_layers_that_make_it():
    net = make_network("residual")
    graph = trace(net, (torch.zeros(2, 3, 8, 8),))
    layers = [net.expand, net.blocks[0].conv2, net.blocks[1].conv2]
    expected = [sum(float(layer.weight[unit].detach().abs().sum()) for layer in layers) for unit in range(12)]
    assert l1_norms(dict(net.named_parameters()), [graph.group("expand")])["expand"] == pytest.approx(expected)


def test_l1_without_filters_or_with_broken_weights_is_an_error():
    net = nn.Conv2d(2, 2, 1)
    only_bias = ChannelGroup(
        name="g", n_units=2, members=(Member(path="bias", axis=0, indices=((0,), (1,)), produces=True),)
    )
    with pytest.raises(MethodError, match="no filters"):
        l1_norms(dict(net.named_parameters()), [only_bias])
    with torch.no_grad():
        net.weight[1] = math.nan
    filters = ChannelGroup(
        name="g", n_units=2, members=(Member(path="weight", axis=0, indices=((0,), (1,)), produces=True),)
    )
    with pytest.raises(MethodError, match="unit 1 of group 'g' scores nan"):
        l1_norms(dict(net.named_parameters()), [filters])


def test_units_gather_their_positions():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0], [10.0, 20.0, 40.0, 80.0]])
    assert unit_sums(values, [(0, 3), (2,), ()]).tolist() == [[9.0, 4.0, 0.0], [90.0, 40.0, 0.0]]


def test_the_flops_term_takes_the_dearer_of_equals_first():
    assert flops_regularise({"a": (0.5,), "b": (0.5,)}, {"a": 100.0, "b": 1.0}, 1e-3) == {
        "a": (pytest.approx(0.4),),
        "b": (pytest.approx(0.499),),
    }


def test_marginal_flops_by_hand():
    """plain: conv is 3x3 over 8 maps at 4x4, and `hidden` (16 rows) reads each of its maps at 16 positions."""
    graph = trace(make_network("plain"), (torch.zeros(2, 3, 8, 8),))
    found = marginal_mflops(graph.macs, {"conv": 12}, ["conv"])
    own, reader = 2 * 4 * 4 * 8 * 3**2, 2 * 16 * 16
    assert found == {"conv": pytest.approx((own + reader) / 1e6)}


def test_require_finite_names_the_unit():
    require_finite({"a": (1.0, 0.0)}, "l1")
    with pytest.raises(MethodError, match=r"l1: unit 1 of group 'b' scores inf"):
        require_finite({"a": (1.0,), "b": (0.0, math.inf)}, "l1")
