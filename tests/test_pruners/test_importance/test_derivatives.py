"""Criteria that differentiate the loss, against finite differences and an exact Hessian."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.graph import trace
from pruners.importance.criteria import create_criterion
from pruners.importance.evidence import Evidence


def loss_of(graph, images, labels, group, unit, gate, which=None):
    """Mean loss with the maps of one unit scaled by `gate`."""
    sites = graph.sites[group] if which is None else graph.sites[group][which : which + 1]

    def scaled(value):
        factor = torch.ones(value.shape[1], dtype=value.dtype)
        factor[unit] = gate
        return value * factor.reshape(1, -1, *[1] * (value.ndim - 2))

    with torch.no_grad():
        return float(F.cross_entropy(graph.run((images,), {site.node: scaled for site in sites}), labels))


def slope_and_curvature(graph, images, labels, group, unit, step=1e-3, which=None):
    """Central differences of fourth order."""
    f = [loss_of(graph, images, labels, group, unit, 1 + k * step, which) for k in (-2, -1, 0, 1, 2)]
    slope = (f[0] - 8 * f[1] + 8 * f[3] - f[4]) / (12 * step)
    return slope, (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * step**2)


@pytest.mark.rounding
@pytest.mark.parametrize("per_example", [False, True])
def test_taylor_first_order_is_the_squared_slope(smooth, examples, per_example, in_batches):
    batches = in_batches(examples, 1 if per_example else 4)
    found = create_criterion("taylor_fo", per_example=per_example).scores(smooth)
    for group, values in found.items():
        for unit, value in enumerate(values):
            slopes = [slope_and_curvature(smooth.graph, *batch, group, unit)[0] for batch in batches]
            assert value == pytest.approx(sum(s * s for s in slopes) / len(slopes), rel=1e-5)


def test_taylor_first_order_of_single_maps(smooth):
    rows = create_criterion("taylor_fo", joint=False).member_scores(smooth)["conv1"]
    assert len(rows) == 2
    for which, row in enumerate(rows):
        for unit, value in enumerate(row):
            slopes = [
                slope_and_curvature(smooth.graph, *batch, "conv1", unit, which=which)[0] for batch in smooth.batches
            ]
            assert value == pytest.approx(sum(s * s for s in slopes) / len(slopes), rel=1e-5, abs=1e-12)


@pytest.mark.rounding
@pytest.mark.parametrize("joint", [True, False])
def test_taylor_fo_bn_by_finite_differences(net, evidence, joint, make_net, with_groups):
    """Scale and shift of BatchNorm, times a gate: both norms of the stage at once, or each alone."""
    net = make_net().eval()
    norms = [net.bn1, net.bn2]

    def loss(batch, unit, gate, gated):
        saved = [(norm.weight.detach().clone(), norm.bias.detach().clone()) for norm in norms]
        with torch.no_grad():
            for norm in gated:
                norm.weight[unit] *= gate
                norm.bias[unit] *= gate
            value = float(F.cross_entropy(net(batch[0]), batch[1]))
            for norm, (weight, bias) in zip(norms, saved, strict=True):
                norm.weight.copy_(weight)
                norm.bias.copy_(bias)
        return value

    rows = create_criterion("taylor_fo_bn", joint=joint).member_scores(with_groups(evidence, "conv1"))["conv1"]
    which = [norms] if joint else [[norm] for norm in norms]
    step = 1e-5
    for row, gated in zip(rows, which, strict=True):
        for unit, value in enumerate(row):
            slopes = [
                (loss(b, unit, 1 + step, gated) - loss(b, unit, 1 - step, gated)) / (2 * step) for b in evidence.batches
            ]
            assert value == pytest.approx(sum(s * s for s in slopes) / len(slopes), rel=1e-4, abs=1e-12)


def test_gates_behind_batchnorm_and_relu_are_those_on_batchnorm(in_batches, make_examples):
    """A ReLU lets a positive factor through: the two placements of the 2019 paper's gate agree on a plain chain."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)).double()
    images, labels = make_examples()
    evidence = Evidence(
        model=net,
        graph=trace(net, (images[:2],)),
        groups=("0",),
        batches=in_batches((images, labels), 6),
        loss=F.cross_entropy,
    )
    on_maps, on_norm = (create_criterion(name).scores(evidence)["0"] for name in ("taylor_fo", "taylor_fo_bn"))
    assert on_maps == pytest.approx(on_norm, rel=1e-9)


@pytest.mark.parametrize("group", [pytest.param("conv1", marks=pytest.mark.slow), "inner"])
def test_hessian_diagonal_and_second_order_by_finite_differences(smooth, group, with_groups):
    """Many draws against the curvature of the loss along each unit's gate."""
    alone = with_groups(smooth, group)
    diagonal = create_criterion("hessian_diagonal", draws=1000).scores(alone)[group]
    second = create_criterion("taylor_so", draws=1000).scores(alone)[group]
    per_unit = [
        [slope_and_curvature(smooth.graph, *batch, group, unit) for batch in smooth.batches]
        for unit in range(smooth.graph.group(group).n_units)
    ]
    half = [sum(c for _, c in unit) / len(unit) / 2 for unit in per_unit]
    squares = [sum((c / 2 - s) ** 2 for s, c in unit) / len(unit) for unit in per_unit]
    assert diagonal == pytest.approx(half, abs=0.05 * max(map(abs, half)))
    assert second == pytest.approx(squares, abs=0.05 * max(squares))


def exact_diagonal(net, name, images, labels):
    weight = dict(net.named_parameters())[name]

    def loss(value):
        return F.cross_entropy(torch.func.functional_call(net, {name: value}, (images,)), labels)

    hessian = torch.autograd.functional.hessian(loss, weight.detach())
    return hessian.reshape(weight.numel(), weight.numel()).diagonal().reshape(weight.shape)


def test_obd_against_the_exact_hessian(in_batches):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    images = torch.randn(10, 3, dtype=torch.float64)
    labels = torch.randint(0, 3, (10,))
    evidence = Evidence(
        model=net,
        graph=trace(net, (images[:2],)),
        groups=("0",),
        batches=in_batches((images, labels), 5),
        loss=F.cross_entropy,
    )
    exact = exact_diagonal(net, "0.weight", images, labels) * net[0].weight.detach().square() / 2
    found = create_criterion("obd", draws=4000).scores(evidence)["0"]
    assert found == pytest.approx(exact.sum(1).tolist(), abs=0.03 * float(exact.sum(1).abs().max()))


def test_obd_is_exact_where_the_hessian_is_diagonal():
    """Loss ``mean((w x)^2)`` over separate inputs: any signs give ``1/2 w^2 * 2 x^2``, in one draw."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 3, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(3))
    x = torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    graph = trace(net, (x,))
    evidence = Evidence(
        model=net, graph=graph, groups=("0",), batches=[(x, torch.zeros(2))], loss=lambda o, _: o.square().sum(1).mean()
    )
    found = create_criterion("obd", draws=1).scores(evidence)["0"]
    assert found == pytest.approx((net[0].weight[:, 0].square() * 2.5).tolist())


@pytest.mark.parametrize("name", ["taylor", "taylor_fo", "taylor_so", "taylor_fo_bn", "obd", "hessian_diagonal"])
def test_derivatives_of_frozen_networks(name, evidence, make_net, with_groups):
    net = make_net().requires_grad_(False)
    frozen = Evidence(
        model=net,
        graph=trace(net, (evidence.batches[0][0],)),
        groups=("conv1",),
        batches=evidence.batches,
        loss=evidence.loss,
    )
    free = with_groups(evidence, "conv1")
    assert create_criterion(name).scores(frozen)["conv1"] == pytest.approx(create_criterion(name).scores(free)["conv1"])
