"""What `prune` costs beside one trace of the network, with its proof; run by `make benchmark`. CPU seconds, one thread.

The times are rows of pytest-benchmark, with those of the trace, of Torch-Pruning (which proves nothing) where it is
installed, and the memory in ``extra_info``, and a printed line; what is asserted are ratios within one run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
import torch
import torchvision

from pruners.graph import trace
from pruners.methods.l1 import L1
from pruners.target import Target
from pruners.task import PruningTask

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.benchmark(group="prune", timer=time.process_time),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is followed through /proc"),
]

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "regnet_y_400mf", "swin_t")
RUNS = 3
MOST_BYTES = 6 * 2**30
"""For the other library, in this process."""
IMAGE = torch.randn(1, 3, 224, 224)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def pruned(model):
    target = Target(of="flops", kept_fraction=0.5)
    return L1().prune(PruningTask(model=model, example_inputs=(IMAGE,), target=target))


@contextmanager
def resident_peak():
    """Follow the memory of this process: yields a list whose last entry is the most beyond the start, in bytes."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier rounds left in the heap would serve this one unseen
    page, statm, most, done = 4096, Path("/proc/self/statm"), [0], threading.Event()
    start = int(statm.read_text().split()[1])

    def follow():
        while not done.wait(0.005):
            most.append(max(most[-1], (int(statm.read_text().split()[1]) - start) * page))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def by_torch_pruning(model) -> float | None:
    if importlib.util.find_spec("torch_pruning") is None:
        return None
    import torch_pruning

    from deploy.studies.coverage.tp import output_layers

    def prune():
        torch_pruning.pruner.BasePruner(
            model,
            IMAGE,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=0.3,
            ignored_layers=output_layers(model, (IMAGE,)),
        ).step()

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, hard))  # some networks take it all that there is
    try:
        return seconds(prune)
    except Exception:  # noqa: BLE001 - whatever the library raises on a network that it cannot prune
        return None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


@pytest.fixture(scope="module")
def ratios():
    """Return the ratio of each network so far: one is traced here, with what is imported on the way."""
    trace(torchvision.models.resnet18(), (IMAGE,))
    return {}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_proved_pruning_costs_no_more_than_some_traces(benchmark, ratios, capsys, name):
    """Before each round the network is traced."""
    model = getattr(torchvision.models, name)(weights=None).eval()
    traced_s, proved_s = [], []

    def traced():
        traced_s.append(seconds(lambda: trace(model, (IMAGE,))))

    benchmark.pedantic(lambda: proved_s.append(seconds(lambda: pruned(model))), setup=traced, rounds=RUNS)
    with resident_peak() as most:
        pruned(model)
    ratios[name] = median(after / before for before, after in zip(traced_s, proved_s, strict=True))
    copies, other = most[-1] / sum(p.numel() * p.element_size() for p in model.parameters()), by_torch_pruning(model)
    benchmark.extra_info |= {
        "trace_s": median(traced_s),
        "over_a_trace": ratios[name],
        "torch_pruning_s": other,
        "peak_in_copies_of_the_weights": copies,
    }
    with capsys.disabled():
        beside = "-" if other is None else f"{other:.2f} s"
        sys.stdout.write(
            f"\n{name:18} trace {median(traced_s):.2f} s, prune {median(proved_s):.2f} s ({ratios[name]:.2f}x), "
            f"Torch-Pruning {beside}, peak {copies:.1f} copies of the weights\n"
        )
    assert ratios[name] < 6


def test_a_proved_pruning_costs_little_beside_a_trace(ratios):
    if len(ratios) < len(NETWORKS):
        pytest.skip("not all networks were pruned before")
    assert median(ratios.values()) < 2.5, ratios
