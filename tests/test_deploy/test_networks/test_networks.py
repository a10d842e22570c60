"""The papers' networks: published counts, shapes, and the properties that pruning and export rely on."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn

from deploy.networks.layers import scaled
from deploy.networks.resnet import PadShortcut, ResNet
from deploy.networks.vgg import VGG
from deploy.sources.registry import NETWORKS

CIFAR = (3, 32, 32)


def make(name, **options):
    module, _, attribute = NETWORKS[f"cifar:{name}"].partition(":")
    return getattr(import_module(module), attribute)(**options)


def count(network: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Parameters, and MACs of convolutions and linear layers for one image, counted layer by layer."""
    macs = 0

    def hook(module, inputs, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    handles = [m.register_forward_hook(hook) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    for handle in handles:
        handle.remove()
    return sum(parameter.numel() for parameter in network.parameters()), macs


# H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, Table 1 prints 1.5e7 / 3.13e8, 8.5e5 / 1.25e8 and
# 1.72e6 / 2.53e8; these are the exact counts behind them (convolutions without bias, BatchNorm with scale and shift).
@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("vgg16", 14_987_722, 313_463_808),
        ("resnet56", 853_018, 125_485_696),
        ("resnet110", 1_727_962, 252_887_680),
    ],
)
def test_counts_are_exactly_the_published_ones(name, parameters, macs):
    assert count(make(name), CIFAR) == (parameters, macs)


def test_vgg16_a_has_the_published_counts():
    # Variant A of the same table (5.4e6 / 2.06e8): conv1 and conv8 to conv13 halved.
    stages = [[32, 64], [128, 128], [256] * 3, [256] * 3, [256] * 3]
    assert count(VGG(stages, hidden=512), CIFAR) == (5_397_034, 206_279_680)


def test_torchvision_resnet34_has_the_published_counts():
    # The same table's ImageNet network, 2.16e7 / 3.64e9.
    from torchvision.models import resnet34

    assert count(resnet34(weights=None), (3, 224, 224)) == (21_797_672, 3_663_761_408)


# Printed with few digits only. VGG-19, PreResNet-164, DenseNet-40: Z. Liu et al., "Network Slimming", ICCV 2017,
# Table 1; DenseNet-40 with a 24-channel stem, 1.06 M and 282.9 MMACs: the form of several pruning papers' code;
# ResNet-20: K. He et al., CVPR 2016, Table 6;
# MobileNetV1 with 1000 classes at 224: A. Howard et al., 2017, Table 8, 4.2 M and 569 MMACs.
@pytest.mark.parametrize(
    ("name", "options", "shape", "mega_parameters", "mega_macs"),
    [
        ("vgg19", {}, CIFAR, 20.04, None),
        ("preresnet164", {}, CIFAR, 1.70, None),
        ("densenet40", {}, CIFAR, 1.02, None),
        ("densenet40", {"stem": 24}, CIFAR, 1.06, 282.9),
        ("resnet20", {}, CIFAR, 0.27, None),
        ("mobilenetv1", {"n_classes": 1000, "stem_stride": 2}, (3, 224, 224), 4.23, 569),
    ],
)
def test_counts_round_to_the_published_ones(name, options, shape, mega_parameters, mega_macs):
    parameters, macs = count(make(name, **options), shape)
    assert round(parameters / 1e6, 2) == mega_parameters
    if mega_macs is not None:
        digits = len(str(mega_macs).partition(".")[2])
        assert round(macs / 1e6, digits) == mega_macs


@pytest.mark.parametrize("name", sorted(name.removeprefix("cifar:") for name in NETWORKS if name.startswith("cifar:")))
def test_width_channels_and_classes_are_honoured(name):
    torch.manual_seed(0)
    network = make(name, n_classes=7, in_channels=1, width=0.25).eval()
    with torch.no_grad():
        scores = network(torch.randn(2, 1, 32, 32))
    assert scores.shape == (2, 7)
    assert torch.isfinite(scores).all()
    assert not torch.allclose(scores[0], scores[1])
    narrow = sum(parameter.numel() for parameter in network.parameters())
    wide = sum(parameter.numel() for parameter in make(name, n_classes=7, in_channels=1, width=0.5).parameters())
    assert 2 * narrow < wide


@pytest.mark.parametrize(
    "name",
    ["resnet20", "mobilenetv1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg16", "densenet40"))],
)
def test_networks_export_with_a_free_batch(name):
    network = make(name, width=0.25).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (torch.randn(2, *CIFAR),), dynamic_shapes=({0: batch},))
    images = torch.randn(5, *CIFAR)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images))


@pytest.mark.parametrize("size", [28, 33, 7])
def test_resnet_takes_sizes_that_do_not_halve_evenly(size):
    with torch.no_grad():
        assert make("resnet20", width=0.25).eval()(torch.zeros(1, 3, size, size)).shape == (1, 10)


def test_pad_shortcut_takes_every_second_pixel_and_adds_zero_channels():
    x = torch.randn(2, 3, 5, 5)
    y = PadShortcut(3, 6)(x)
    torch.testing.assert_close(y[:, 1:4], x[:, :, ::2, ::2])
    assert y.shape == (2, 6, 3, 3)
    assert not y[:, :1].any()
    assert not y[:, 4:].any()


def test_pad_shortcut_still_fits_after_channels_were_removed():
    # Pruned: two of the incoming channels and the two sums they were part of. The zeros around them stay as they are.
    assert PadShortcut(16, 32)(torch.zeros(1, 14, 8, 8)).shape[1] == 30


def test_projection_shortcut_leaves_the_stages_independent():
    padded, projected = ResNet(20, shortcut="pad"), ResNet(20, shortcut="projection")
    extra = count(projected, CIFAR)[0] - count(padded, CIFAR)[0]
    assert extra == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_initial_activations_neither_vanish_nor_explode():
    torch.manual_seed(0)
    network = make("mobilenetv1", width=0.5).eval()
    weight = network.blocks[8].depthwise.weight
    assert weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)  # fan_in of a depthwise 3 x 3 is 9
    with torch.no_grad():
        assert 1e-3 < network(torch.randn(4, *CIFAR)).std() < 1e3


def test_a_shorter_mobilenet_has_the_first_blocks():
    short = make("mobilenetv1", n_blocks=7)
    assert [block.pointwise.out_channels for block in short.blocks] == [64, 128, 128, 256, 256, 512, 512]
    assert short.fc.in_features == 512
    with pytest.raises(ValueError, match="n_blocks is 1 to 13, got 14"):
        make("mobilenetv1", n_blocks=14)


@pytest.mark.parametrize("bad", [{"width": 0}, {"width": -1.0}, {"shortcut": "none"}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ValueError, match=r"width|shortcut"):
        make("resnet20", **bad)


def test_impossible_depth_is_refused():
    with pytest.raises(ValueError, match=r"6n \+ 2"):
        ResNet(21)


def test_scaled_rounds_and_never_gives_zero():
    assert [scaled(16, width) for width in (1, 0.5, 0.25, 0.01, 1.34)] == [16, 8, 4, 1, 21]
