"""Attributes in which layers repeat their sizes, after their tensors were cut."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from timm import layers as timm_layers
from timm.layers.grn import GlobalResponseNorm
from torch import nn
from torch.nn.utils import parametrizations

from pruners.errors import PlanError, SurgeryError
from pruners.forms.module_form import resize_
from pruners.graph import trace
from pruners.surgery import apply

ROWS, BOTH = {"weight": {0: [1, 4]}, "bias": {0: [1, 4]}}, {"weight": {0: [1, 4], 1: [0, 2]}, "bias": {0: [1, 4]}}
NORM = {**ROWS, "running_mean": {0: [1, 4]}, "running_var": {0: [1, 4]}}


CASES = {
    "Linear": (nn.Linear(5, 6), BOTH, {"in_features": 3, "out_features": 4}, (2, 3)),
    "Conv1d": (nn.Conv1d(5, 6, 1), BOTH, {"in_channels": 3, "out_channels": 4}, (2, 3, 4)),
    "Conv2d": (nn.Conv2d(5, 6, 3), BOTH, {"in_channels": 3, "out_channels": 4, "groups": 1}, (2, 3, 4, 4)),
    "Conv3d": (nn.Conv3d(5, 6, 1), BOTH, {"in_channels": 3, "out_channels": 4}, (2, 3, 2, 2, 2)),
    "depthwise": (
        nn.Conv2d(6, 6, 3, groups=6),
        ROWS,
        {"in_channels": 4, "out_channels": 4, "groups": 4},
        (1, 4, 4, 4),
    ),
    "multiplier": (
        nn.Conv2d(3, 6, 1, groups=3),
        {"weight": {0: [2, 3]}, "bias": {0: [2, 3]}},
        {"in_channels": 2, "out_channels": 4, "groups": 2},
        (1, 2, 4, 4),
    ),
    "whole groups": (
        nn.Conv2d(12, 6, 1, groups=3),
        {"weight": {0: [0, 1]}, "bias": {0: [0, 1]}},
        {"in_channels": 8, "out_channels": 4, "groups": 2},
        (1, 8, 2, 2),
    ),
    "one of every group": (
        nn.Conv2d(12, 6, 1, groups=3),
        {"weight": {0: [0, 3, 4], 1: [1]}, "bias": {0: [0, 3, 4]}},
        {"in_channels": 9, "out_channels": 3, "groups": 3},
        (1, 9, 2, 2),
    ),
    "inputs of every group": (
        nn.Conv2d(12, 6, 1, groups=3),
        {"weight": {1: [0, 3]}},
        {"in_channels": 6, "out_channels": 6, "groups": 3},
        (1, 6, 2, 2),
    ),
    "transposed": (
        nn.ConvTranspose2d(6, 5, 2),
        {"weight": {0: [1, 4], 1: [0]}, "bias": {0: [0]}},
        {"in_channels": 4, "out_channels": 4},
        (1, 4, 2, 2),
    ),
    "transposed, whole groups": (
        nn.ConvTranspose1d(6, 12, 2, groups=3),
        {"weight": {0: [4, 5]}, "bias": {0: [8, 9, 10, 11]}},
        {"in_channels": 4, "out_channels": 8, "groups": 2},
        (1, 4, 2),
    ),
    "transposed, one of every group": (
        nn.ConvTranspose3d(6, 12, 1, groups=3),
        {"weight": {0: [0, 3, 5], 1: [2]}, "bias": {0: [2, 6, 10]}},
        {"in_channels": 3, "out_channels": 9, "groups": 3},
        (1, 3, 1, 1, 1),
    ),
    "BatchNorm2d": (nn.BatchNorm2d(6), NORM, {"num_features": 4}, (2, 4, 3, 3)),
    "BatchNorm1d without scale": (
        nn.BatchNorm1d(6, affine=False),
        {"running_mean": {0: [1, 4]}, "running_var": {0: [1, 4]}},
        {"num_features": 4},
        (2, 4),
    ),
    "SyncBatchNorm": (nn.SyncBatchNorm(6), NORM, {"num_features": 4}, None),
    "InstanceNorm2d": (nn.InstanceNorm2d(6, affine=True), ROWS, {"num_features": 4}, (2, 4, 3, 3)),
    "LayerNorm": (nn.LayerNorm(6), ROWS, {"normalized_shape": (4,)}, (2, 4)),
    "LayerNorm of two axes": (
        nn.LayerNorm((6, 5)),
        {"weight": {0: [1, 4]}, "bias": {0: [1, 4]}},
        {"normalized_shape": (4, 5)},
        (2, 4, 5),
    ),
    "RMSNorm": (nn.RMSNorm(6), {"weight": {0: [1, 4]}}, {"normalized_shape": (4,)}, (2, 4)),
    "GroupNorm, whole groups": (
        nn.GroupNorm(3, 6),
        {"weight": {0: [2, 3]}, "bias": {0: [2, 3]}},
        {"num_groups": 2, "num_channels": 4},
        (2, 4, 3),
    ),
    "GroupNorm, one of every group": (
        nn.GroupNorm(2, 6),
        ROWS,
        {"num_groups": 2, "num_channels": 4},
        (2, 4, 3),
    ),
    "PReLU": (nn.PReLU(6), {"weight": {0: [1, 4]}}, {"num_parameters": 4}, (2, 4, 3)),
    "Bilinear": (
        nn.Bilinear(4, 5, 6),
        {"weight": {0: [1, 4], 1: [0], 2: [0, 1]}, "bias": {0: [1, 4]}},
        {"in1_features": 3, "in2_features": 3, "out_features": 4},
        None,
    ),
    "Embedding": (nn.Embedding(9, 6), {"weight": {1: [1, 4]}}, {"num_embeddings": 9, "embedding_dim": 4}, None),
    "RNN": (
        nn.LSTM(5, 3, batch_first=True),
        {
            "weight_ih_l0": {0: [1, 4, 7, 10], 1: [0, 2]},
            "weight_hh_l0": {0: [1, 4, 7, 10], 1: [1]},
            "bias_ih_l0": {0: [1, 4, 7, 10]},
            "bias_hh_l0": {0: [1, 4, 7, 10]},
        },
        {"input_size": 3, "hidden_size": 2},
        (2, 7, 3),
    ),
    "GRUCell": (
        nn.GRUCell(5, 3),
        {"weight_ih": {1: [0, 2]}},
        {"input_size": 3, "hidden_size": 3},
        (2, 3),
    ),
    "weight_norm": (
        parametrizations.weight_norm(nn.Conv2d(5, 6, 1)),
        {
            "parametrizations.weight.original0": {0: [1, 4]},
            "parametrizations.weight.original1": {0: [1, 4], 1: [0, 2]},
            "bias": {0: [1, 4]},
        },
        {"in_channels": 3, "out_channels": 4},
        (1, 3, 2, 2),
    ),
    "spectral_norm": (
        parametrizations.spectral_norm(nn.Linear(5, 6)),
        {
            "parametrizations.weight.original": {0: [1, 4], 1: [0, 2]},
            "parametrizations.weight.0._u": {0: [1, 4]},
            "parametrizations.weight.0._v": {0: [0, 2]},
            "bias": {0: [1, 4]},
        },
        {"in_features": 3, "out_features": 4},
        (2, 3),
    ),
    "torchvision's FrozenBatchNorm2d": (torchvision.ops.FrozenBatchNorm2d(6), NORM, {}, (2, 4, 3, 3)),
    "torchvision's DeformConv2d": (
        torchvision.ops.DeformConv2d(5, 6, 1),
        BOTH,
        {"in_channels": 3, "out_channels": 4},
        None,
    ),
    "timm's LayerNorm2d": (timm_layers.LayerNorm2d(6), ROWS, {"normalized_shape": (4,)}, (2, 4, 3, 3)),
    "timm's GroupNorm1": (timm_layers.GroupNorm1(6), ROWS, {"num_groups": 1, "num_channels": 4}, (2, 4, 3, 3)),
    "timm's BatchNormAct2d": (timm_layers.BatchNormAct2d(6), NORM, {"num_features": 4}, (2, 4, 3, 3)),
    "timm's FrozenBatchNormAct2d": (timm_layers.FrozenBatchNormAct2d(6), NORM, {}, (2, 4, 3, 3)),
    "timm's ScaledStdConv2d": (
        timm_layers.ScaledStdConv2d(5, 6, 3),
        {**BOTH, "gain": {0: [1, 4]}},
        {"in_channels": 3, "out_channels": 4},
        (1, 3, 4, 4),
    ),
    "timm's GlobalResponseNorm": (GlobalResponseNorm(6), ROWS, {}, (2, 3, 3, 4)),
    "timm's LayerScale": (timm_layers.LayerScale(6), {"gamma": {0: [1, 4]}}, {}, (2, 4)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_layer_runs_with_its_new_sizes(name):
    layer, gone, sizes, shape = CASES[name]
    layer = copy.deepcopy(layer).eval()
    resize_(layer, gone)
    assert {attribute: getattr(layer, attribute) for attribute in sizes} == sizes
    fresh = dict(layer.named_parameters())
    if shape is not None:
        layer(torch.randn(shape))
    assert all(fresh[path].requires_grad for path in gone if path in fresh)


def test_old_style_weight_norm_keeps_computing_the_weight():
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Conv2d(5, 6, 1))
    whole = layer.weight.detach().clone()
    resize_(layer, {"weight_g": {0: [1, 4]}, "weight_v": {0: [1, 4]}, "bias": {0: [1, 4]}})
    assert (layer.in_channels, layer.out_channels) == (5, 4)
    assert torch.allclose(layer.weight, whole[[0, 2, 3, 5]])
    assert layer(torch.randn(1, 5, 2, 2)).shape[1] == 4


def test_squeeze_and_excitation_follows_its_convolutions():
    layer = torchvision.ops.SqueezeExcitation(6, 3)
    resize_(
        layer,
        {
            "fc1.weight": {0: [1], 1: [0, 5]},
            "fc1.bias": {0: [1]},
            "fc2.weight": {0: [0, 5], 1: [1]},
            "fc2.bias": {0: [0, 5]},
        },
    )
    assert layer(torch.randn(2, 4, 3, 3)).shape == (2, 4, 3, 3)


HEADS = list(range(3, 6))


def attention(gone_inside, gone_outside, **options):
    layer = nn.MultiheadAttention(12, 4, batch_first=True, **options)
    inside = [part * 12 + p for part in range(3) for p in gone_inside]
    resize_(
        layer,
        {
            "in_proj_weight": {0: inside, 1: gone_outside},
            "in_proj_bias": {0: inside},
            "out_proj.weight": {0: gone_outside, 1: list(gone_inside)},
            "out_proj.bias": {0: gone_outside},
        },
    )
    return layer


def test_attention_of_torch_loses_heads_with_as_many_outer_channels():
    layer = attention(HEADS, [0, 7, 8])
    assert (layer.embed_dim, layer.num_heads, layer.head_dim, layer.kdim, layer.vdim) == (9, 3, 3, 9, 9)
    x = torch.randn(2, 5, 9)
    assert layer(x, x, x)[0].shape == x.shape


@pytest.mark.parametrize(
    ("inside", "outside", "reason"),
    [
        (HEADS, [], "runs only with as many channels inside its heads as outside \\(9 are left inside, 12 outside\\)"),
        ([0, 3, 6, 9], [0, 1, 2, 3], "scales its scores by the size of a head"),
        ([0, 1, 5], [0, 1, 2], "its 4 groups lose whole groups, or the same number"),
    ],
)
def test_attention_of_torch_refuses_what_its_code_can_not_do(inside, outside, reason):
    with pytest.raises(SurgeryError, match=reason):
        attention(inside, outside)


@pytest.mark.parametrize("layer", [nn.Conv2d(12, 6, 1, groups=3), nn.GroupNorm(3, 6)])
def test_groups_that_would_differ_in_size_are_refused(layer):
    with pytest.raises(SurgeryError, match="its 3 groups lose whole groups, or the same number of channels from every"):
        resize_(layer, {"weight": {0: [0, 2]}, "bias": {0: [0, 2]}})


def test_recurrent_layers_have_one_size_of_state():
    layer = nn.LSTM(5, 3, num_layers=2)
    with pytest.raises(SurgeryError, match="torch's LSTM has one size of its state in all layers"):
        resize_(layer, {"weight_ih_l0": {0: [1, 4, 7, 10]}, "weight_hh_l0": {0: [1, 4, 7, 10], 1: [1]}})


def test_a_name_that_is_no_tensor_is_refused():
    with pytest.raises(PlanError, match="no parameter or buffer 'scale'"):
        resize_(nn.Linear(2, 2), {"scale": {0: [1]}})
    with pytest.raises(PlanError, match=r"no parameter or buffer 'layer\.weight'"):
        resize_(nn.Linear(2, 2), {"layer.weight": {0: [1]}})


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(12), nn.BatchNorm2d(12, affine=False, track_running_stats=False), nn.LayerNorm(12)]
)
def test_a_norm_without_tensors_says_its_new_size(norm, plan_for):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.h = nn.Conv2d(3, 12, 1), copy.deepcopy(norm), nn.Linear(12, 4)
            if isinstance(norm, nn.LayerNorm):
                self.norm = nn.LayerNorm(12, elementwise_affine=False)

        def forward(self, x):
            x = self.a(x)
            x = self.norm(x.movedim(1, 3)).movedim(3, 1) if isinstance(norm, nn.LayerNorm) else self.norm(x)
            return self.h(torch.relu(x).mean((2, 3)))

    model = Net().eval()
    graph = trace(model, (torch.randn(2, 3, 4, 4),))
    compact = apply(model, plan_for(graph, removed=0.5), graph=graph)
    assert type(compact) is Net
    assert getattr(compact.norm, "num_features", None) == 6 or compact.norm.normalized_shape == (6,)
