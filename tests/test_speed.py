"""What must be quick, measured; run by `make benchmark` and `make nightly`, never in the ordinary suite."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import pytest

pytestmark = pytest.mark.slow


def test_help_answers_in_half_a_second():
    times = []
    for command in (["-m", "deploy", "--help"],) * 7:
        started = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    assert median(times) < 0.5, f"median of 7: {median(times):.2f} s"


def test_the_trainer_costs_little_over_a_bare_loop(capsys):
    import torch
    import torch.nn.functional as F
    from torch.utils.data import TensorDataset

    from deploy.networks.resnet import resnet20
    from pruners.recover.fit import fit
    from pruners.recover.settings import TrainSettings

    n, batch = 1024, 64
    data = TensorDataset(torch.randn(n, 1, 16, 16), torch.randint(0, 10, (n,)))
    settings = TrainSettings(epochs=1, batch_size=batch, lr=0.01)

    def bare() -> float:
        model = resnet20(in_channels=1, n_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
        started = time.perf_counter()
        for start in range(0, n, batch):
            images, labels = data.tensors[0][start : start + batch], data.tensors[1][start : start + batch]
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return time.perf_counter() - started

    def ours() -> float:
        return fit(resnet20(in_channels=1, n_classes=10), data, None, settings).epochs[0].seconds

    bare()
    ratios = [ours() / bare() for _ in range(7)]
    with capsys.disabled():
        sys.stdout.write(f"\ntrainer over bare loop: {median(ratios):.3f}\n")
    assert median(ratios) < 1.1


def test_timing_a_call_costs_less_than_five_microseconds_and_one_percent(tmp_path):
    import numpy as np

    from backends import registry
    from backends.base import CompileOptions
    from benchmarks.validation.harness_overhead import overhead
    from benchmarks.validation.real_machine import chain

    path = chain(tmp_path / "chain.onnx", 10, rows=64)
    feeds = {"x": np.ones((64, 256), np.float32)}
    nothing = registry.create("null").compile(path, CompileOptions()).bind(feeds)
    assert overhead(nothing, 2000).added_ns.value < 5_000
    model = registry.create("ort").compile(path, CompileOptions()).bind(feeds)
    found = overhead(model, 50)
    assert found.added_ns.value < 0.01 * found.call_ns
