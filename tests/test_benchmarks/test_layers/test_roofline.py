"""The roofline is what two probes reach through the runtime, and the shortest time follows from it."""

from __future__ import annotations

import math

import onnx
import pytest

from backends.base import CompileOptions, LayerInfo
from benchmarks.errors import WorkerError
from benchmarks.layers.process import Ran
from benchmarks.layers.roofline import Roofline, last_level_cache_bytes, measure_layer_overhead, measure_roofline

GEMM_NS, COPY_NS = 2_000_000, 5_000_000


class Recorder:
    """Answers as if each probe had run in three sessions, the second being the best."""

    def __init__(self):
        self.asked = []

    def __call__(self, backend, model, options, feeds, *, sessions, most_calls, budget_s, total_s):
        proto = onnx.load(model)
        self.asked.append((proto, options, feeds))
        base = GEMM_NS if proto.graph.node[0].op_type == "MatMul" else COPY_NS
        times = (2 * base, base, 3 * base)
        extra = LayerInfo(name="reorder", kind="Reorder", time_ns=7)
        layers = tuple((extra, LayerInfo(name="probe", kind="k", nodes=("p",), time_ns=ns)) for ns in times)
        return Ran(calls_ns=((1, 1),) * 3, layers=layers, executed_precision="fp32", backend_version="1")


def measured(threads=1, **kwargs):
    recorder = Recorder()
    found = measure_roofline("ort", CompileOptions(threads=threads), run=recorder, **kwargs)
    return found, recorder.asked


def test_peaks_are_those_of_the_best_session():
    found, _ = measured(cache_bytes=1 << 20)
    assert math.isclose(found.peak_flops, 2 * found.gemm_size**3 / (GEMM_NS / 1e9))
    assert math.isclose(found.peak_bytes_per_s, 2 * found.copied_bytes / (COPY_NS / 1e9))


def test_probes_are_profiled_models_of_the_told_sizes():
    found, [(gemm, gemm_options, left), (copy, copy_options, array)] = measured(cache_bytes=5 << 20)
    onnx.checker.check_model(gemm)
    onnx.checker.check_model(copy)
    assert gemm_options.profile
    assert copy_options.profile
    assert left["x"].shape == (found.gemm_size, found.gemm_size)
    assert array["x"].nbytes == found.copied_bytes
    assert found.copied_bytes >= 2 * found.last_level_cache_bytes


@pytest.mark.parametrize(("threads", "larger"), [(1, 1), (2, 2), (8, 2), (64, 4)])
def test_more_threads_get_a_larger_matrix(threads, larger):
    assert measured(threads)[0].gemm_size == larger * measured(1)[0].gemm_size


@pytest.mark.parametrize("cache_bytes", [None, 1, 1 << 40])
def test_copies_are_neither_tiny_nor_endless(cache_bytes):
    found, _ = measured(cache_bytes=cache_bytes)
    assert 1 << 20 <= found.copied_bytes <= 1 << 30
    assert found.last_level_cache_bytes == cache_bytes


def test_no_matrix_product_is_measured_in_int8():
    found, asked = measured(typed="int8")
    assert found.peak_flops is None
    assert len(asked) == 1
    assert found.shortest(10**6, 100) is None
    assert found.shortest(0, 100).bound == "memory"


def test_half_precision_probes_are_typed_so():
    found, [(gemm, _, _), (copy, _, _)] = measured(typed="bf16")
    kinds = [probe.graph.input[0].type.tensor_type.elem_type for probe in (gemm, copy)]
    assert kinds == [onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT]
    assert found.peak_flops is not None


def test_shortest_time_is_that_of_the_slower_resource():
    found = Roofline(
        backend="ort",
        precision="fp32",
        threads=1,
        device="cpu",
        peak_flops=4e9,
        peak_bytes_per_s=1e9,
        gemm_size=1,
        copied_bytes=1,
    )
    assert found.shortest(2_000_000, 500_000) == (1e-3, "compute")
    assert found.shortest(2_000_000, 2_000_000) == (2e-3, "memory")
    assert found.shortest(2_000_000, None) == (1e-3, "compute")
    assert found.shortest(0, None) is None
    assert found.shortest(0, 0) is None


def test_last_level_cache_is_read_or_none(tmp_path):
    assert last_level_cache_bytes(tmp_path) is None
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cache"
    for index, text in enumerate(["32K\n", "1M\n", "32768K\n", "?\n"]):
        (folder / f"index{index}").mkdir(parents=True)
        (folder / f"index{index}" / "size").write_text(text)
    assert last_level_cache_bytes(tmp_path) == 32 << 20


def test_a_real_runtime_reaches_something():
    found = measure_roofline("ort", CompileOptions(), cache_bytes=4 << 20)
    # From a slow board to a large server.
    assert 1e8 < found.peak_flops < 1e14
    assert 1e7 < found.peak_bytes_per_s < 1e13


def test_the_overhead_is_the_time_of_a_layer_of_one_pixel():
    recorder = Recorder()
    options = CompileOptions(threads=2, precision="bf16")
    assert measure_layer_overhead("ort", options, run=recorder) == COPY_NS  # the best of three sessions
    [(pixel, used, feeds)] = recorder.asked
    onnx.checker.check_model(pixel)
    assert pixel.graph.node[0].op_type == "Conv"
    assert feeds["x"].shape[2:] == (1, 1)
    assert (used.threads, used.profile, used.precision) == (2, True, "fp32")


def test_a_backend_that_cannot_profile_has_no_roofline():
    with pytest.raises(WorkerError, match="no layers to profile"):
        measure_roofline("null", CompileOptions(), cache_bytes=4 << 20)
