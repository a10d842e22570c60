"""What must be quick, measured; run by `make benchmark` and `make nightly`, never in the ordinary suite.

The times are rows of pytest-benchmark, in its table and files; what is asserted are ratios within one run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.benchmark(group="start-up")
def test_help_answers_in_half_a_second(benchmark):
    times = []

    def ask():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "deploy", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)

    benchmark.pedantic(ask, rounds=7)
    assert median(times) < 0.5, f"median of 7: {median(times):.2f} s"


@pytest.mark.benchmark(group="trainer")
def test_the_trainer_costs_little_over_a_bare_loop(benchmark):
    """Rows are those of the trainer; before each of its rounds the bare loop is timed."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import TensorDataset

    from deploy.networks.resnet import resnet20
    from pruners.recover.fit import fit
    from pruners.recover.settings import TrainSettings

    n, batch = 1024, 64
    data = TensorDataset(torch.randn(n, 1, 16, 16), torch.randint(0, 10, (n,)))
    settings = TrainSettings(epochs=1, batch_size=batch, lr=0.01)
    bare_s, ours_s = [], []

    def network():
        return resnet20(in_channels=1, n_classes=10)

    def bare():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)
        started = time.perf_counter()
        for start in range(0, n, batch):
            images, labels = data.tensors[0][start : start + batch], data.tensors[1][start : start + batch]
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        bare_s.append(time.perf_counter() - started)
        return (network(),), {}

    def ours(model):
        ours_s.append(fit(model, data, None, settings).epochs[0].seconds)

    bare()
    bare_s.clear()
    benchmark.pedantic(ours, setup=bare, rounds=7)
    ratio = median(ours / bare for ours, bare in zip(ours_s, bare_s, strict=True))
    benchmark.extra_info["over_a_bare_loop"] = ratio
    assert ratio < 1.1


@pytest.mark.benchmark(group="harness")
def test_timing_a_call_costs_less_than_five_microseconds_and_one_percent(tmp_path, benchmark):
    """Rows are those of 2000 timed calls of nothing."""
    import numpy as np

    from backends import registry
    from backends.base import CompileOptions
    from benchmarks.process.worker import timed_calls
    from benchmarks.validation.harness_overhead import overhead
    from benchmarks.validation.real_machine import chain

    path = chain(tmp_path / "chain.onnx", 10, rows=64)
    feeds = {"x": np.ones((64, 256), np.float32)}
    nothing = registry.create("null").compile(path, CompileOptions()).bind(feeds)
    benchmark.pedantic(timed_calls, args=(nothing, 2000, time.perf_counter_ns), rounds=20)
    added_ns = overhead(nothing, 2000).added_ns.value
    assert added_ns < 5_000
    model = registry.create("ort").compile(path, CompileOptions()).bind(feeds)
    found = overhead(model, 50)
    share = found.added_ns.value / found.call_ns
    benchmark.extra_info |= {"added_to_a_call_ns": added_ns, "share_of_a_call": share}
    assert share < 0.01
