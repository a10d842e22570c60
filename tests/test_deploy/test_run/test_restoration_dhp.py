"""DHP on networks that restore images: it lands on the target, and says what the cut did to the loss."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch
from torch.utils.data import TensorDataset

from deploy.networks.dncnn import DnCNN
from deploy.networks.edsr import EDSR
from deploy.networks.srresnet import SRResNet
from deploy.networks.unet import UNet
from pruners.recover.fit import fit
from pruners.recover.losses import loss_function
from pruners.registry import create
from pruners.target import Target
from pruners.task import PruningTask

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.set_float32_matmul_precision.*")


@pytest.mark.parametrize(
    ("make", "scale", "share"),
    [
        (lambda: DnCNN(9, width=0.5), 1, 0.4),
        (lambda: SRResNet(3, scale=2, width=0.5), 2, 0.6),
        pytest.param(lambda: EDSR(3, scale=2, width=0.5), 2, 0.6, marks=pytest.mark.slow),
        pytest.param(lambda: UNet(3, width=0.5), 1, 0.5, marks=pytest.mark.slow),
    ],
    ids=["dncnn", "srresnet", "edsr", "unet"],
)
def test_dhp_lands_within_a_hundredth_of_the_target(make, scale, share):
    torch.manual_seed(0)
    images = torch.rand(16, 3, 8, 8)
    targets = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    data = TensorDataset(images, targets)
    told = []

    def fit_images(model, settings, *, name, gate=None):
        told.append((name, fit(model, data, None, settings, metric="psnr", gate=gate).epochs[-1]))

    task = PruningTask(
        model=make().eval(),
        example_inputs=(images[:2],),
        target=Target(of="flops", kept_fraction=share),
        batches=lambda: repeat((images[:8], targets[:8])),
        loss=loss_function("l1"),
        fit=fit_images,
    )
    short = {"batch_size": 8, "lr": 1e-3, "optimizer": "adamw", "weight_decay": 0, "clip_norm": 5}
    method = create("dhp", training={"epochs": 2, **short}, converge={"epochs": 1, **short}, gamma=20.0, check_every=2)
    pruned = method.prune(task)
    assert share - 0.01 < pruned.macs_after / pruned.macs_before <= share
    assert (pruned.form, pruned.landing) == ("module", "")
    assert pruned.model(images).shape == targets.shape
    assert [name for name, _ in told] == ["search", "converge"]
    assert all(row.metric == "psnr" for _, row in told)
    (row,) = pruned.history
    assert row["updates"] <= 4
    assert row["loss_after_cut"] > 0
