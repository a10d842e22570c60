"""Every criterion, against finite differences, an exact Hessian, loops written out, or numbers worked out on paper."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruners.errors import MethodError
from pruners.graph import trace
from pruners.importance.criteria import create_criterion, criterion_class, criterion_names
from pruners.importance.evidence import Evidence
from pruners.importance.measures.information import information_gain

DATA_DRIVEN = [name for name in criterion_names() if criterion_class(name).needs_data]


def feature_maps(net, images):
    """The maps of each group, written out by hand: conv1's two, and inner's."""
    net.eval()
    with torch.no_grad():
        first = F.relu(net.bn1(net.conv1(images)))
        pooled = F.max_pool2d(first, 2)
        inner = F.relu(net.inner(pooled))
        second = net.bn2(net.conv2(inner))
    net.train()
    return {"conv1": [first, second], "inner": [inner]}


def test_every_criterion_says_what_it_is():
    assert len(criterion_names()) == len(set(criterion_names()))
    for name in criterion_names():
        kind = criterion_class(name)
        assert kind.name == name
        assert kind.paper
        assert name == "random" or "References" in kind.__doc__
        assert isinstance(kind.needs_data, bool)
        assert all(field.description for field in kind.model_fields.values())


@pytest.mark.parametrize("name", criterion_names())
def test_every_criterion_scores_every_unit_and_leaves_no_trace(name, evidence, with_groups):
    before = {key: tensor.clone() for key, tensor in evidence.model.state_dict().items()}
    modes = [module.training for module in evidence.model.modules()]
    groups = ("conv1",) if name in ("bn_scale", "taylor_fo_bn") else ("conv1", "inner")
    scores = create_criterion(name).scores(with_groups(evidence, *groups))
    assert {group: len(values) for group, values in scores.items()} == {
        group: evidence.graph.group(group).n_units for group in groups
    }
    assert all(len(set(values)) > 1 for values in scores.values())
    assert all(torch.equal(tensor, before[key]) for key, tensor in evidence.model.state_dict().items())
    assert all(parameter.grad is None for parameter in evidence.model.parameters())
    assert modes == [module.training for module in evidence.model.modules()]
    assert torch.is_grad_enabled()


def test_magnitudes_by_loops(net, evidence):
    rows = {
        "l1": lambda kernel: sum(abs(w) for w in kernel),
        "l2": lambda kernel: math.sqrt(sum(w * w for w in kernel)),
        "min_weight": lambda kernel: sum(w * w for w in kernel) / len(kernel),
    }
    for name, function in rows.items():
        found = create_criterion(name).member_scores(evidence)
        for group, layers in {"conv1": (net.conv1, net.conv2), "inner": (net.inner,)}.items():
            expected = [[function(kernel.flatten().tolist()) for kernel in layer.weight] for layer in layers]
            assert len(found[group]) == len(expected)
            for row, wanted in zip(found[group], expected, strict=True):
                assert row == pytest.approx(wanted)


def test_bn_scale_is_the_absolute_scale(net, evidence, with_groups):
    found = create_criterion("bn_scale").member_scores(with_groups(evidence, "conv1"))["conv1"]
    assert found == (
        pytest.approx(net.bn1.weight.abs().tolist()),
        pytest.approx(net.bn2.weight.abs().tolist()),
    )


def test_batchnorm_criteria_refuse_a_group_without_one(evidence):
    for name in ("bn_scale", "taylor_fo_bn"):
        with pytest.raises(MethodError, match="'inner' has no BatchNorm") as caught:
            create_criterion(name).scores(evidence)
        assert "\n" not in str(caught.value)


def test_fpgm_is_the_sum_of_distances(net, evidence):
    found = create_criterion("fpgm").member_scores(evidence)
    for row, layer in zip(found["conv1"], (net.conv1, net.conv2), strict=True):
        filters = [kernel.flatten().tolist() for kernel in layer.weight.detach()]
        assert row == pytest.approx([sum(math.dist(one, other) for other in filters) for one in filters])


def test_fpgm_takes_what_others_can_replace_however_large_it_is(net, make_examples, make_net):
    net = make_net()
    with torch.no_grad():
        net.inner.weight[0] = 1.0
        net.inner.weight[1] = 0.0
        net.inner.weight[2] = 2.1
    evidence = Evidence(model=net, graph=trace(net, (make_examples()[0][:2],)), groups=("inner",))
    fpgm, l2 = (create_criterion(name).scores(evidence)["inner"] for name in ("fpgm", "l2"))
    assert min(range(3), key=fpgm.__getitem__) == 0
    assert min(range(3), key=l2.__getitem__) == 1


def test_activations_by_hand(net, evidence, examples):
    maps = feature_maps(net, examples[0])
    expected = {
        "activation_mean": lambda a: a.mean(),
        "activation_std": lambda a: a.std(correction=0),
        "apoz": lambda a: 1 - (a == 0).double().mean(),
    }
    for name, function in expected.items():
        found = create_criterion(name).member_scores(evidence)
        for group, values in maps.items():
            for row, value in zip(found[group], values, strict=True):
                assert row == pytest.approx([float(function(value[:, unit])) for unit in range(value.shape[1])])


def test_apoz_ranks_what_is_mostly_zero_lowest(evidence, make_net):
    net = make_net()
    with torch.no_grad():
        net.inner.bias[1] = -1e3
    dead = Evidence(model=net, graph=trace(net, (evidence.batches[0][0],)), groups=("inner",), batches=evidence.batches)
    scores = create_criterion("apoz").scores(dead)["inner"]
    assert scores[1] == 0
    assert min(scores[0], scores[2]) > 0


def test_apoz_refuses_maps_that_cannot_be_zero():
    net = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 2))
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    evidence = Evidence(model=net, graph=trace(net, (inputs,)), groups=("0",), batches=[(inputs, torch.zeros(8))])
    with pytest.raises(MethodError, match="no map of group '0' has a single zero"):
        create_criterion("apoz").scores(evidence)


def test_mutual_information_by_hand():
    """A unit that tells the label has its entropy; one that is independent, or constant, has none."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    told = labels.double() * 3 - 1
    independent_of_half = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1], dtype=torch.float64)
    constant = torch.ones(8, dtype=torch.float64)
    gain = information_gain(torch.stack([told, independent_of_half, constant], 1), labels, 3, 4)
    entropy = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    assert gain.tolist() == pytest.approx([entropy, 0, 0], abs=1e-12)


@pytest.mark.rounding
def test_mutual_information_of_a_network_by_counting(net, evidence, examples):
    images, labels = examples
    bins = 5
    found = create_criterion("mutual_information", bins=bins).member_scores(evidence)
    for row, value in zip(found["conv1"], feature_maps(net, images)["conv1"], strict=True):
        for unit, score in enumerate(row):
            x = value[:, unit].mean((1, 2))
            low, high = float(x.min()), float(x.max())
            width = (high - low) or 1.0
            levels = [min(int((v - low) / width * bins), bins - 1) for v in x.tolist()]

            def entropy(items):
                items = list(items)
                return -sum(n / len(items) * math.log(n / len(items)) for n in Counter(items).values())

            pairs = list(zip(levels, labels.tolist(), strict=True))
            assert score == pytest.approx(entropy(levels) + entropy(labels.tolist()) - entropy(pairs), abs=1e-12)


def test_mutual_information_asks_for_classes(evidence):
    targets = [(images, torch.randn(len(images), 2)) for images, _ in evidence.batches]
    wrong = Evidence(model=evidence.model, graph=evidence.graph, groups=("inner",), batches=targets)
    with pytest.raises(MethodError, match="labels have to be classes"):
        create_criterion("mutual_information").scores(wrong)


ORDER = {"conv1": [2, 0, 3, 1], "inner": [1, 2, 0]}


def permuted(net, other):
    """The same function, with the units of both groups in another order."""
    stage, inner = torch.tensor(ORDER["conv1"]), torch.tensor(ORDER["inner"])
    with torch.no_grad():
        for layer in (other.conv1, other.bn1, other.bn2):
            layer.weight.copy_(layer.weight[stage].clone())
            layer.bias.copy_(layer.bias[stage].clone())
        for norm in (other.bn1, other.bn2):
            norm.running_mean.copy_(norm.running_mean[stage].clone())
            norm.running_var.copy_(norm.running_var[stage].clone())
        other.conv2.weight.copy_(net.conv2.weight[stage][:, inner])
        other.conv2.bias.copy_(net.conv2.bias[stage])
        other.inner.weight.copy_(net.inner.weight[inner][:, stage])
        other.inner.bias.copy_(net.inner.bias[inner])
        other.hidden.weight.copy_(net.hidden.weight[:, stage])
    return other


DRAWN = ("random", "obd", "hessian_diagonal", "taylor_so")
"""Random signs stay with positions; that these criteria rank units, and not positions, their exact values show."""


@pytest.mark.rounding
@pytest.mark.parametrize("name", [name for name in criterion_names() if name not in DRAWN])
def test_scores_move_with_their_units(name, net, evidence, with_groups, make_net):
    criterion = create_criterion(name)
    other = permuted(net, make_net())
    moved = Evidence(
        model=other,
        graph=trace(other, (evidence.batches[0][0],)),
        groups=("conv1", "inner"),
        batches=evidence.batches,
        loss=evidence.loss,
    )
    groups = ("conv1",) if name in ("bn_scale", "taylor_fo_bn") else ("conv1", "inner")
    first = criterion.scores(with_groups(evidence, *groups))
    second = criterion.scores(with_groups(moved, *groups))
    for group in groups:
        assert second[group] == pytest.approx([first[group][unit] for unit in ORDER[group]], rel=1e-9)


def test_random_scores_follow_seed_and_name_alone(evidence, with_groups):
    random = create_criterion("random")
    both, alone = random.scores(evidence), random.scores(with_groups(evidence, "inner"))
    assert both["inner"] == alone["inner"]
    reseeded = Evidence(model=evidence.model, graph=evidence.graph, groups=("inner",), seed=1)
    assert random.scores(reseeded)["inner"] != alone["inner"]


@pytest.mark.rounding
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in DATA_DRIVEN if name != "mutual_information"])
def test_under_autocast_scores_stay_near(name, dtype, in_batches, make_examples, make_net):
    """Half precision has 2 to 3 digits; the sums over positions and examples must not lose more."""
    net = make_net().float()
    images, labels = make_examples(torch.float32)
    evidence = Evidence(
        model=net,
        graph=trace(net, (images[:2],)),
        groups=("conv1",),
        batches=in_batches((images, labels), 6),
        loss=lambda outputs, targets: F.cross_entropy(outputs.float(), targets),
    )
    criterion = create_criterion(name)
    full = criterion.scores(evidence)["conv1"]
    with torch.autocast("cpu", dtype):
        half = criterion.scores(evidence)["conv1"]
    assert half == pytest.approx(full, abs=0.1 * max(map(abs, full)))
    assert half != full or name == "apoz"


@pytest.mark.parametrize("name", DATA_DRIVEN)
def test_missing_data_is_said(name, evidence):
    nothing = Evidence(model=evidence.model, graph=evidence.graph, groups=("conv1",), loss=F.cross_entropy)
    with pytest.raises(MethodError, match=f"{name}: there are no batches"):
        create_criterion(name).scores(nothing)
    if criterion_class(name).needs_loss:
        without = Evidence(
            model=evidence.model, graph=evidence.graph, groups=("conv1",), batches=evidence.batches, loss=None
        )
        with pytest.raises(MethodError, match=f"{name}: there is no loss"):
            create_criterion(name).scores(without)


@pytest.mark.parametrize("name", [name for name in criterion_names() if name != "random"])
def test_values_that_are_not_finite_are_refused(name, evidence, make_net):
    net = make_net()
    with torch.no_grad():
        net.conv1.weight[1, 0, 0, 0] = math.nan
        net.bn1.weight[1] = math.nan
    broken = Evidence(
        model=net,
        graph=trace(net, (evidence.batches[0][0],)),
        groups=("conv1",),
        batches=evidence.batches,
        loss=evidence.loss,
    )
    with pytest.raises(MethodError, match="not finite"):
        create_criterion(name).scores(broken)


def test_a_loss_without_derivative_is_refused(evidence):
    flat = Evidence(
        model=evidence.model,
        graph=evidence.graph,
        groups=("inner",),
        batches=evidence.batches,
        loss=lambda outputs, labels: (outputs.argmax(1) != labels).double().mean(),
    )
    for name in ("taylor", "obd"):
        with pytest.raises(MethodError, match="no derivative"):
            create_criterion(name).scores(flat)


def test_wrong_names_and_options_are_refused():
    with pytest.raises(MethodError, match="did you mean 'taylor'"):
        criterion_class("tayler")
    with pytest.raises(MethodError, match=r"unknown option 'drows' \(there are: draws\)"):
        create_criterion("obd", drows=3)
    with pytest.raises(MethodError, match=r"unknown option 'p' \(there are: none\)"):
        create_criterion("l1", p=3)
    with pytest.raises(MethodError, match="option 'draws'"):
        create_criterion("obd", draws=0)
