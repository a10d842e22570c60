"""The networks that restore images: published counts, shapes, and that pruning gives the same answers, smaller."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch import nn

from deploy.errors import SourceError
from deploy.networks.dncnn import DnCNN
from deploy.networks.edsr import EDSR
from deploy.networks.srresnet import SRResNet
from deploy.networks.unet import UNet
from deploy.sources.network import build
from deploy.sources.network_spec import NetworkSpec
from deploy.sources.registry import NETWORKS
from pruners.registry import create
from pruners.target import Target
from pruners.task import PruningTask

NAMES = tuple(name for name in NETWORKS if name.startswith("restoration:"))


def factory(name):
    module, _, attribute = NETWORKS[name].partition(":")
    return getattr(import_module(module), attribute)


def macs_of(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of the convolutions for one image, on tensors without data."""
    macs = 0

    def hook(module, inputs, output):
        nonlocal macs
        each = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.weight.shape[0]
        macs += output.numel() * each

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(hook)
    with torch.no_grad():
        network.eval().to("meta")(torch.zeros(1, *shape, device="meta"))
    return macs


# The dense rows of the tables of Y. Li et al., "DHP", ECCV 2020 (what they call FLOPs are multiply-accumulates): x4
# from 128 x 128 colour pixels, and denoising of 128 x 128 grey ones. Its 3.41 for UNet are 3.01 with all four positions
# of a transposed convolution's kernel counted for each pixel that it makes; one of them makes it.
@pytest.mark.parametrize(
    ("name", "shape", "mega_parameters", "giga_macs"),
    [
        ("restoration:srresnet", (3, 128, 128), 1.54, 32.8),
        ("restoration:edsr", (3, 128, 128), 3.70, 90.4),
        ("restoration:dncnn", (1, 128, 128), 0.56, 9.1),
        ("restoration:unet", (1, 128, 128), 7.76, 3.01),
    ],
)
def test_counts_round_to_the_published_ones(name, shape, mega_parameters, giga_macs):
    network = factory(name)(in_channels=shape[0])
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == mega_parameters
    assert macs_of(network, shape) / 1e9 == pytest.approx(giga_macs, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_data_decides_channels_and_scale(name, scale):
    scale = scale if name in ("restoration:srresnet", "restoration:edsr") else 1
    shape, target = (1, 16, 32), (1, 16 * scale, 32 * scale)
    network = build(
        NetworkSpec(name=name, options={"width": 0.125}), n_classes=None, input_shape=shape, target_shape=target
    )
    with torch.no_grad():
        images = network.eval()(torch.rand(2, *shape))
    assert images.shape == (2, *target)
    assert torch.isfinite(images).all()


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: SRResNet(2, scale=2, width=0.25), 12),
        (lambda: SRResNet(1, scale=3, width=0.25), 12),
        (lambda: EDSR(2, scale=4, width=0.125), 12),
        (lambda: DnCNN(5, width=0.25), 16),
        (lambda: UNet(3, width=0.25), 16),
    ],
    ids=["srresnet-2", "srresnet-3", "edsr-4", "dncnn", "unet"],
)
def test_pruned_by_l1_they_stay_their_own_modules(make, size):
    torch.manual_seed(0)
    images = torch.rand(2, 3, size, size)
    task = PruningTask(model=make().eval(), example_inputs=(images,), target=Target(of="ratios", ratios={"*": 0.3}))
    pruned = create("l1").prune(task)
    assert pruned.form == "module", pruned.form_reason
    assert pruned.params_after < 0.8 * pruned.params_before
    assert pruned.verification["removed_channels"] > 0
    assert pruned.verification["relative_error"] < 1e-4
    assert pruned.model(images).shape == task.model(images).shape


def test_constants_are_not_saved():
    assert "mean" not in EDSR(1, width=0.05).state_dict()


@pytest.mark.parametrize(
    ("name", "options", "n_classes", "target", "words"),
    [
        ("restoration:edsr", {"scale": 5}, None, None, "scale is one of 2, 3, 4, got 5"),
        ("restoration:edsr", {"scale": 4}, None, (3, 32, 32), "scale=4 contradicts the data, which has 2"),
        ("restoration:dncnn", {"scale": 4}, None, None, "unknown option 'scale'"),
        ("restoration:dncnn", {}, None, (3, 32, 32), r"want \(1, 3, 32, 32\)"),
        ("restoration:unet", {}, 10, None, "restores images, the data has 10 classes"),
        ("restoration:dncn", {}, None, None, "did you mean 'restoration:dncnn'"),
        ("restoration:swinir", {}, None, None, "there are: restoration:srresnet"),
        ("dncnn", {}, None, None, "did you mean 'restoration:dncnn'"),
        ("cifar:resnet20", {}, None, (3, 16, 16), r"gives \(1, 10\) for one image of 3x16x16"),
    ],
)
def test_what_does_not_fit_is_one_line_that_helps(name, options, n_classes, target, words):
    spec = NetworkSpec(name=name, options={"width": 0.1, **options} if ":" in name else options)
    with pytest.raises(SourceError, match=words) as caught:
        build(spec, n_classes=n_classes, input_shape=(3, 16, 16), target_shape=target)
    assert "\n" not in str(caught.value)
