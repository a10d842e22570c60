"""Scores and answers of an exported file in a process of its own; its errors arrive as one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from backends.base import CompileOptions
from backends.errors import BackendError, RunError, UnknownBackendError
from deploy.errors import ExportError
from deploy.exporting.agreement import compare_with_torch
from deploy.exporting.backend_score import score_on_backend
from deploy.exporting.export import export_onnx
from deploy.exporting.inference import compiled_elsewhere
from pruners.recover.losses import score_each


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n))


def classifier() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def assert_one_line(error: pytest.ExceptionInfo[BaseException], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def labelled(model: nn.Module, n: int) -> tuple[Dataset, int]:
    x = images(n)
    labels = torch.arange(n) % 5
    with torch.no_grad():
        correct = int((model.eval()(x).argmax(1) == labels).sum())
    return TensorDataset(x, labels), correct


@pytest.mark.rounding
@pytest.mark.parametrize("dynamic", [True, False])
def test_accuracy_on_a_backend_equals_torch(tmp_path: Path, dynamic: bool) -> None:
    model, path = classifier(), tmp_path / "model.onnx"
    export_onnx(model, (images(4),), path, dynamic_batch=dynamic)
    data, correct = labelled(model, 23)  # 23 is not a multiple of 4: the last batch is filled up
    result = score_on_backend(path, "ort", CompileOptions(threads=2), data, batch_size=8)
    assert (result.metric, result.n) == ("accuracy", 23)
    assert 0 < correct < 23
    assert result.score == correct / 23


@pytest.mark.rounding
def test_psnr_on_a_backend_equals_torch(tmp_path: Path) -> None:
    model, path = nn.Conv2d(3, 3, 3, padding=1), tmp_path / "model.onnx"
    export_onnx(model, (images(4),), path)
    data = TensorDataset(images(7), images(7).clamp(0, 1).flip(0))
    with torch.no_grad():
        expected = score_each("psnr", model(data.tensors[0]), data.tensors[1]).mean().item()
    result = score_on_backend(path, "ort", CompileOptions(threads=1), data, metric="psnr", batch_size=3)
    assert (result.metric, result.n) == ("psnr", 7)
    assert result.score == pytest.approx(expected, abs=1e-4)
    export_onnx(classifier(), (images(2),), path)
    with pytest.raises(ExportError, match="psnr needs an image an example"):
        score_on_backend(path, "ort", None, data, metric="psnr")


def test_images_that_are_not_finite_have_no_psnr(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(nn.ReLU(), (images(2),), path)
    data = TensorDataset(images(2) * float("nan"), images(2).clamp(0, 1))
    with pytest.raises(ExportError, match="not finite under ort, so it has no PSNR"):
        score_on_backend(path, "ort", None, data, metric="psnr")


def test_accuracy_needs_a_classifier_and_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(nn.ReLU(), (images(2),), path)
    with pytest.raises(ExportError, match="row of scores"):
        score_on_backend(path, "ort", None, TensorDataset(images(2), torch.zeros(2)))
    export_onnx(classifier(), (images(2),), path)
    with pytest.raises(ExportError, match="empty"):
        score_on_backend(path, "ort", None, TensorDataset(images(2)[:0], torch.zeros(0)))


def test_errors_of_the_other_process_arrive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(UnknownBackendError, match="did you mean"), compiled_elsewhere(path, "orx"):
        pass
    with pytest.raises(BackendError, match="no such file"), compiled_elsewhere(path, "ort"):
        pass
    export_onnx(nn.ReLU(), (images(2),), path)
    wrong = np.zeros((2, 3), np.float32)
    with compiled_elsewhere(path, "ort") as remote, pytest.raises(BackendError, match="float32") as error:
        remote.run({"input": wrong})
    assert_one_line(error)


def test_a_process_that_dies_or_hangs_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(nn.ReLU(), (images(2),), path)
    feeds = {"input": images(2).numpy()}
    with compiled_elsewhere(path, "ort") as remote:
        os.kill(remote.process.pid, signal.SIGKILL)
        with pytest.raises(RunError, match="killed by SIGKILL") as error:
            remote.run(feeds)
        assert_one_line(error, "ort", "model.onnx")
    with pytest.raises(RunError, match="no answer to 'compile' in 0 s"), compiled_elsewhere(path, "ort", timeout_s=0.0):
        pass


def test_wrong_inputs_and_infinite_answers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(nn.ReLU(), (images(2),), path)
    with pytest.raises(ExportError, match="1 inputs, got 2"):
        compare_with_torch(path, nn.CosineSimilarity(), (images(2), images(2)))
    with pytest.raises(ExportError, match="infinite or undefined"):
        compare_with_torch(path, nn.ReLU(), (images(2) * float("inf"),))
