"""Images as targets: PSNR against another implementation, losses that fit, and a training that is judged by it."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import TensorDataset

import deploy.sources.metric
from pruners.errors import TrainingError
from pruners.recover.distill import Distillation
from pruners.recover.evaluate import evaluate
from pruners.recover.fit import fit
from pruners.recover.losses import loss_function, score_each
from pruners.recover.metric import Metric, loss_of
from pruners.recover.settings import TrainSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.set_float32_matmul_precision.*")


def noisy(n: int = 32, seed: int = 0) -> TensorDataset:
    """Flat images with noise on them: a convolution that averages restores them."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(n, 1, 1, 1, generator=generator).expand(n, 1, 8, 8).contiguous()
    return TensorDataset(targets + 0.1 * torch.randn(n, 1, 8, 8, generator=generator), targets)


def denoiser() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="replicate"), nn.ReLU(), nn.Conv2d(4, 1, 1))


@pytest.mark.rounding
def test_psnr_is_scikit_images():
    from skimage.metrics import peak_signal_noise_ratio

    torch.manual_seed(0)
    targets, outputs = torch.rand(3, 3, 6, 5), torch.rand(3, 3, 6, 5)
    expected = [
        peak_signal_noise_ratio(target.numpy(), output.numpy(), data_range=1.0)
        for target, output in zip(targets, outputs, strict=True)
    ]
    assert score_each("psnr", outputs, targets).tolist() == pytest.approx(expected, abs=1e-4)


def test_psnr_clamps_outputs_and_has_a_most():
    targets = torch.tensor([0.0, 1.0, 0.5]).reshape(3, 1, 1, 1)
    outputs = torch.tensor([-3.0, 1.5, 0.6]).reshape(3, 1, 1, 1)
    found = score_each("psnr", outputs, targets).tolist()
    assert found == pytest.approx([100, 100, 10 * math.log10(1 / 0.1**2)], abs=1e-4)


def test_evaluation_is_the_mean_over_examples_whatever_the_batch():
    data, model = noisy(), nn.Identity()
    images, targets = data.tensors
    each = [10 * math.log10(1 / float(((x.clamp(0, 1) - y) ** 2).mean())) for x, y in zip(images, targets, strict=True)]
    for batch_size in (5, 256):
        found = evaluate(model, data, metric="psnr", batch_size=batch_size)
        assert (found.metric, found.n) == ("psnr", 32)
        assert found.score == pytest.approx(sum(each) / 32, abs=1e-4)
        assert found.loss == pytest.approx((images - targets).abs().mean().item(), rel=1e-5)
    squared = evaluate(model, data, metric="psnr", loss="mse")
    assert squared.loss == pytest.approx(((images - targets) ** 2).mean().item(), rel=1e-5)


def test_images_that_are_not_finite_have_no_psnr():
    images = torch.full((2, 1, 4, 4), math.nan)
    with pytest.raises(TrainingError, match="values that are not finite, so it has no PSNR"):
        evaluate(nn.Identity(), TensorDataset(images, torch.zeros(2, 1, 4, 4)), metric="psnr")


@pytest.mark.rounding
@pytest.mark.parametrize("loss", [None, "mse"])
def test_a_training_on_images_keeps_the_best_psnr(loss, tmp_path):
    model, train, validation = denoiser(), noisy(), noisy(16, seed=1)
    before = evaluate(model, validation, metric="psnr").score
    settings = TrainSettings(
        epochs=6, batch_size=8, lr=0.02, optimizer="adamw", weight_decay=0, schedule="constant", keep="best", loss=loss
    )
    history = fit(model, train, validation, settings, metric="psnr", checkpoints=tmp_path)
    scores = [row.validation_score for row in history.epochs]
    assert {row.metric for row in history.epochs} == {"psnr"}
    assert history.kept_epoch == scores.index(max(scores)) + 1
    after = evaluate(model, validation, metric="psnr", loss=loss)
    assert after.score == pytest.approx(max(scores), abs=1e-4)
    assert after.loss == pytest.approx(history.epochs[history.kept_epoch - 1].validation_loss, rel=1e-5)
    assert after.score > before + 3
    again = denoiser()
    fit(again, train, validation, settings, metric="psnr", checkpoints=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("metric", "settings", "words"),
    [
        ("psnr", {"loss": "cross-entropy"}, "cross-entropy does not fit targets that are images; take l1 or mse"),
        ("accuracy", {"loss": "l1"}, "l1 does not fit targets that are classes; take cross-entropy"),
        ("psnr", {"label_smoothing": 0.1}, "label_smoothing is of classes"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(metric, settings, words):
    with pytest.raises(TrainingError, match=words):
        fit(denoiser(), noisy(), None, TrainSettings(epochs=1, **settings), metric=metric)


def test_defaults_follow_the_metric():
    assert (loss_of("accuracy", None), loss_of("psnr", None), loss_of("psnr", "mse")) == ("cross-entropy", "l1", "mse")
    with pytest.raises(ValidationError, match="loss"):
        TrainSettings(epochs=1, loss="huber")


def test_images_of_another_shape_are_refused():
    data = TensorDataset(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 8, 8))
    for attempt in (
        lambda: evaluate(nn.Identity(), data, metric="psnr"),
        lambda: loss_function("l1")(*data.tensors),
    ):
        with pytest.raises(TrainingError, match=r"gives images of \(2, 1, 4, 4\), the targets are \(2, 1, 8, 8\)"):
            attempt()


def test_distillation_wants_classes():
    settings = TrainSettings(epochs=1, batch_size=8, lr=0.01)
    with pytest.raises(TrainingError, match="the targets are images: fine-tune instead"):
        fit(denoiser(), noisy(), None, settings, metric="psnr", objective=Distillation(denoiser()))


def test_both_halves_of_the_house_know_the_same_metrics():
    assert get_args(deploy.sources.metric.Metric) == get_args(Metric)
