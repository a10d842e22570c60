"""The engine on every network that it must be right on: masked equals compact, exact counts, save and load.

Inputs are as small as each network allows; what is checked does not depend on their size.
"""

from __future__ import annotations

import pytest
import torch
import torchvision

from deploy.sources.network import build
from deploy.sources.network_spec import NetworkSpec
from deploy.sources.registry import network_names
from pruners.forms.compact import load, save_weights
from pruners.graph import trace
from pruners.surgery import apply
from pruners.verify import verify

pytestmark = pytest.mark.long

LARGE = {
    "cifar:mobilenetv1",
    "cifar:densenet40",
    "cifar:preresnet164",
    "cifar:resnet110",
    "cifar:resnet56",
    "cifar:vgg19",
    "densenet121",
    "googlenet",
    "efficientnet_b0",
    "convnext_tiny",
    "mnasnet1_0",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "resnet50",
    "resnext50_32x4d",
    "vgg16_bn",
}
TORCHVISION = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet1_0",
    "mobilenet_v3_large",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "vgg16_bn",
]
LEAST_REDUCTION = {"convnext_tiny": 0.3, "shufflenet_v2_x1_0": 0.4}
"""Share of MACs that goes at least when 40% of the units go; lower where most channels are tied or locked."""


def make(name):
    torch.manual_seed(0)
    if name.startswith("cifar:"):
        return build(NetworkSpec(name=name), n_classes=10, input_shape=(3, 32, 32)), (3, 32, 32)
    options = {"init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(weights=None, **options), (3, 32, 32)


def units(plan):
    return {name: len(kept) for name, kept in plan.kept.items()}


def marked(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name


@pytest.mark.parametrize(
    "name",
    [marked(name) for name in (*TORCHVISION, *network_names()) if name in TORCHVISION or name.startswith("cifar:")],
)
def test_masked_equals_compact(name, plan_for, tmp_path):
    model, shape = make(name)
    example = (torch.randn(1, *shape),)
    graph = trace(model, example)
    assert graph.parameters() == sum(parameter.numel() for parameter in model.parameters())
    assert graph.dynamic_batch
    assert not graph.unknown

    plan = plan_for(graph, removed=0.4)
    compact = apply(model, plan, graph=graph, check=False)
    check = verify(model, plan, compact, graph=graph)
    assert check.batch_sizes == (1, 2)
    assert check.relative_error <= 1e-5
    assert check.probe_sensitivity > 0.05
    assert check.removed_channels >= plan.removed_units
    assert check.removed_parameters == graph.parameters() - graph.parameters(units(plan)) > 0

    assert graph.macs(units(plan)) < (1 - LEAST_REDUCTION.get(name, 0.5)) * graph.macs()
    again = trace(compact, example, policy=graph.policy)
    assert again.macs() == graph.macs(units(plan))
    assert again.parameters() == graph.parameters(units(plan)) == sum(p.numel() for p in compact.parameters())
    sizes = {group.name: group.n_units for group in again.groups}
    assert {group.name for group in graph.groups if group.prunable} <= sizes.keys()
    assert all(sizes[group] == count for group, count in units(plan).items() if count > 1)

    save_weights(compact, tmp_path / "weights.safetensors")
    other, _ = make(name)
    loaded = load(other, plan, tmp_path / "weights.safetensors", graph=graph)
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(x), compact.eval()(x))

    least = plan_for(graph, removed=1.0)
    assert verify(model, least, apply(model, least, graph=graph, check=False), graph=graph).relative_error <= 1e-5


@pytest.mark.parametrize(
    "name", [marked(name) for name in ("googlenet", "shufflenet_v2_x1_0", "cifar:resnet20", "cifar:mobilenetv1")]
)
def test_a_compact_network_trains(name, plan_for):
    model, shape = make(name)
    graph = trace(model, (torch.randn(2, *shape),))
    compact = apply(model, plan_for(graph), graph=graph, check=False).train()
    outputs = compact(torch.randn(4, *shape))
    for output in outputs if isinstance(outputs, tuple) else [outputs]:
        output.sum().backward(retain_graph=True)
    assert all(parameter.grad is not None for parameter in compact.parameters())


@pytest.mark.slow
def test_auxiliary_heads_that_only_train_follow_their_inputs():
    model, shape = make("googlenet")
    graph = trace(model, (torch.randn(2, *shape),))
    readers = {
        group.name.split(".")[0]: (member.path, group.prunable)
        for group in graph.groups
        for member in group.members
        if member.path.startswith("aux")
    }
    assert readers == {
        "inception4a": ("aux1.conv.conv.weight", True),
        "inception4d": ("aux2.conv.conv.weight", True),
    }


@pytest.mark.parametrize(
    "name",
    [
        name if name == "cifar:resnet20" else pytest.param(name, marks=pytest.mark.slow)
        for name in ("cifar:resnet20", "mobilenet_v2", "resnext50_32x4d", "cifar:densenet40")
    ],
)
def test_plans_of_successive_steps_compose(name, plan_for):
    model, shape = make(name)
    example = (torch.randn(2, *shape),)
    graph = trace(model, example)
    first = plan_for(graph, removed=0.3, seed=1)
    once = apply(model, first, graph=graph, check=False)
    middle = trace(once, example, policy=graph.policy)
    second = plan_for(middle, removed=0.3, seed=2)
    twice = apply(once, second, graph=middle, check=False)
    at_once = apply(model, first.then(second), graph=graph, check=False)
    assert twice.state_dict().keys() == at_once.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(twice.state_dict().values(), at_once.state_dict().values(), strict=True)
    )
