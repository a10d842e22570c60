"""Which networks stay themselves when they are made smaller, and what is said of the others."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer

from pruners.errors import SurgeryError
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.surgery import apply

slow = pytest.mark.slow


def of_timm(name, **options):
    return lambda: timm.create_model(name, pretrained=False, num_classes=5, **options)


def of_torchvision(name):
    return lambda: getattr(torchvision.models, name)(num_classes=5)


THEMSELVES = {
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5), 64),
    "deit": (of_timm("deit_tiny_patch16_224", img_size=32, depth=2), 32),
}
SLOW = {
    "convnext": (lambda: ConvNeXt([CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 2)], num_classes=5), 32),
    "squeezenet": (of_torchvision("squeezenet1_1"), 64),
    "mobilevitv2": (of_timm("mobilevitv2_050"), 64),
    "inception_next": (of_timm("inception_next_atto"), 64),
    "levit": (of_timm("levit_128s"), 224),
    "mobilenet_v3": (of_torchvision("mobilenet_v3_small"), 64),
    "efficientnet": (of_torchvision("efficientnet_b0"), 64),
    "efficientformer": (of_timm("efficientformer_l1"), 224),
    "resnetv2": (of_timm("resnetv2_50"), 64),
    "resnetv2, weight standardised": (of_timm("resnetv2_50x1_bit"), 64),
    "nfnet": (of_timm("nfnet_l0"), 64),
    "ghostnet": (of_timm("ghostnet_100"), 64),
    "res2net": (of_timm("res2net50_26w_4s"), 64),
}
BAKED = {
    "vit of torchvision": (
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=5),
        32,
        r"self_attention: torch's MultiheadAttention runs only with as many channels inside its heads as outside",
    ),
    "swin of torchvision": (
        lambda: SwinTransformer([4, 4], 32, [2, 2], [2, 4], [4, 4], num_classes=5),
        64,
        r"^features\.1\.0\.attn \(ShiftedWindowAttention\): its code says RuntimeError: shape ",
    ),
    "cait": (
        of_timm("cait_xxs24_224", img_size=32, depth=2),
        32,
        r"^blocks\.0\.attn \(TalkingHeadAttn\): its code says RuntimeError: shape ",
    ),
    "pvt_v2": (of_timm("pvt_v2_b0"), 64, r"\.attn \(Attention\): its code says RuntimeError: shape "),
}


def make(build, side):
    torch.manual_seed(0)
    model = build().eval()
    return model, trace(model, (torch.randn(2, 3, side, side),))


@pytest.mark.parametrize("name", [*THEMSELVES, *(pytest.param(name, marks=slow) for name in SLOW)])
def test_the_network_stays_itself(name, plan_for):
    build, side = {**THEMSELVES, **SLOW}[name]
    model, graph = make(build, side)
    plan = plan_for(graph, removed=0.3)
    compact = apply(model, plan, graph=graph, check=False)
    assert type(compact) is type(model)
    assert compact.state_dict().keys() == model.state_dict().keys()
    assert sum(parameter.numel() for parameter in compact.parameters()) < 0.8 * sum(
        parameter.numel() for parameter in model.parameters()
    )
    x = torch.randn(3, 3, side, side)
    with torch.no_grad():
        got, expected = compact(x), apply(model, plan, graph=graph, check=False, form="graph")(x)
    assert torch.allclose(got, expected, atol=1e-4 * float(expected.max() - expected.min()))
    compact.train()(x).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in compact.parameters())


@pytest.mark.parametrize(
    "name", [name if name == "vit of torchvision" else pytest.param(name, marks=slow) for name in BAKED]
)
def test_a_network_with_sizes_in_its_code_becomes_a_graph_and_says_why(name, plan_for):
    build, side, reason = BAKED[name]
    model, graph = make(build, side)
    plan = plan_for(graph, removed=0.3)
    compact = apply(model, plan, graph=graph, check=False)
    assert isinstance(compact, GraphNetwork)
    with pytest.raises(SurgeryError, match=r'cannot be made smaller as itself: .*ask for form="auto"') as told:
        apply(model, plan, graph=graph, check=False, form="module")
    assert compact.reason in str(told.value)
    assert "\n" not in compact.reason
    assert re.search(reason, compact.reason)
