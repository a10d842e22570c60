"""What is particular to OpenVINO."""

import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from backends import CompileOptions
from backends.errors import OptionError
from backends.ov import _ProfiledCall
from backends.registry import create
from backends.testing import small_cnn

pytest.importorskip("openvino")


def test_fp32_means_fp32_and_is_read_back_from_the_layers(tmp_path):
    compiled = create("openvino").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(threads=1))
    assert compiled.properties["INFERENCE_PRECISION_HINT"] == "f32"
    assert compiled.properties["compute_layers"].startswith("fp32: ")
    assert "," not in compiled.properties["compute_layers"]
    assert compiled.properties["streams"] == "1"
    assert "ENABLE_CPU_PINNING" in compiled.properties


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_the_cpu_lacks_is_refused(precision, tmp_path):
    """OpenVINO itself would take fp32 without a word."""
    import openvino

    if {"bf16": "BF16", "fp16": "FP16"}[precision] in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip(f"this CPU computes in {precision}; the promise on precision covers that")
    with pytest.raises(OptionError, match=f"cannot compute in {precision} on this CPU; it can in fp32"):
        create("openvino").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(precision=precision))


def test_more_threads_than_cores_are_refused(tmp_path):
    """OpenVINO itself would cap them without a word."""
    with pytest.raises(OptionError, match="4096 were asked for; this machine lets it have at most"):
        create("openvino").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(threads=4096))


def test_the_profile_times_the_layers(tmp_path):
    compiled = create("openvino").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(profile=True))
    assert all(layer.time_ns is None for layer in compiled.layers())
    call = compiled.bind({"x": np.ones((2, 3, 8, 8), np.float32)})
    for _ in range(5):
        call()
    timed = [layer for layer in compiled.layers() if layer.time_ns is not None]
    assert {"conv1", "pointwise"} <= {name for layer in timed for name in layer.nodes}


def test_the_profile_leaves_the_first_run_out():
    """The runtime tells means over all runs; here the first one takes 900 us, later ones 100 us."""

    class Request:
        runs = 0

        def set_tensor(self, port, tensor):
            pass

        def infer(self, share_outputs):
            self.runs += 1

        @property
        def profiling_info(self):
            mean_us = (900 + 100 * (self.runs - 1)) // self.runs
            return [SimpleNamespace(node_name="conv", real_time=timedelta(microseconds=mean_us))]

    call = _ProfiledCall(Request(), {"x": np.ones(1, np.float32)}, {"x": None}, {})
    assert call.times() == {}
    call()
    assert call.times() == {"conv": 900_000}
    for _ in range(3):
        call()
    assert call.times() == {"conv": 100_000}


def test_its_telemetry_is_never_loaded(tmp_path):
    code = (
        "import sys\nfrom backends.registry import create\ncreate('openvino').load_runtime()\n"
        "import openvino\nprint(*(name for name in sys.modules if name.startswith('openvino_telemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_each_stream_has_threads_of_its_own(tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    try:
        compiled = create("openvino").compile(path, CompileOptions(threads=1, streams=2))
    except OptionError as error:
        pytest.skip(f"one core: {error}")
    assert {name: compiled.properties[name] for name in ("threads", "streams", "compute_threads")} == {
        "threads": "1", "streams": "2", "compute_threads": "2",
    }  # fmt: skip


def test_more_streams_than_cores_are_refused(tmp_path):
    """OpenVINO itself would run fewer without a word."""
    with pytest.raises(
        OptionError, match="1 in each of 4096 streams were asked for; this machine lets it have at most"
    ):
        create("openvino").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(streams=4096))
