"""TensorRT: what it says without a GPU, and real engines for a named compute capability."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from backends import CompileOptions
from backends.errors import ArtefactError, BackendUnavailableError, ModelLoadError, OptionError
from backends.registry import create
from backends.testing import execution, interface, small_cnn
from backends.trt import backend as backend_module

ADA = CompileOptions(device="sm_89")


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return create("trt")


# --- without a GPU -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
def test_no_gpu_is_one_clear_line(device, tmp_path, monkeypatch):
    monkeypatch.setattr(backend_module, "gpus", lambda: ())
    monkeypatch.setattr(backend_module, "installed", lambda: ("tensorrt_rtx",))
    path = small_cnn(tmp_path / "m.onnx")
    with pytest.raises(BackendUnavailableError) as caught:
        create("trt").compile(path, CompileOptions(device=device))
    assert str(caught.value) == (
        "backend 'trt' cannot run here: no NVIDIA GPU or driver found on this machine; run it on a machine with an "
        "NVIDIA GPU, or compile without running, for example with --device sm_89"
    )


@pytest.mark.parametrize(
    ("installed", "gpus", "device", "reason", "hint"),
    [
        ((), (), "cuda", "neither tensorrt nor tensorrt_rtx is installed", ".[tensorrt-rtx]"),
        (("tensorrt",), (), "sm_89", "only TensorRT-RTX compiles for a named compute capability", "[tensorrt-rtx]"),
        (("tensorrt",), ("cuda:0 (H200)",), "cpu", "it runs on NVIDIA GPUs only", "--device cuda"),
        (("tensorrt",), ("cuda:0 (H200)",), "cuda:1", "there is no cuda:1; this machine has 1 GPU(s)", "cuda:0"),
    ],
)
def test_every_reason_has_a_hint(installed, gpus, device, reason, hint, monkeypatch):
    monkeypatch.setattr(backend_module, "installed", lambda: installed)
    monkeypatch.setattr(backend_module, "gpus", lambda: gpus)
    state = create("trt").availability(device)
    assert not state.ok
    assert state.reason.startswith(reason)
    assert hint in state.hint


# --- engines for a named compute capability ------------------------------------------------------------------------


@pytest.mark.optional
@pytest.mark.parametrize(
    "promise",
    [
        interface.inputs_and_outputs_are_those_of_the_file,
        interface.broken_files_are_refused,
        interface.wrong_external_data_is_refused,
        execution.an_unknown_operator_is_named,
        execution.layers_lead_back_to_the_file,
        interface.wrong_feeds_are_refused,
    ],
    ids=lambda promise: promise.__name__,
)
def test_promises_that_need_no_gpu(promise, rtx, tmp_path):
    promise(rtx, tmp_path, ADA)


@pytest.mark.optional
def test_an_engine_is_built_and_cannot_run_here(rtx, tmp_path):
    compiled = rtx.compile(small_cnn(tmp_path / "m.onnx"), ADA)
    assert compiled.executed_precision == "fp32"
    assert compiled.properties["tf32"] == "False"
    assert int(compiled.properties["engine_bytes"]) > 1000
    with pytest.raises(BackendUnavailableError, match="compiled for sm_89 and cannot run here"):
        compiled.run({"x": np.zeros((2, 3, 8, 8), np.float32)})
    compiled.close()


@pytest.mark.optional
def test_a_free_batch_gets_an_optimisation_profile(rtx, tmp_path):
    compiled = rtx.compile(small_cnn(tmp_path / "m.onnx", batch="batch"), ADA)
    assert compiled.properties["free_dimensions"] == "batch: 1 to 64, tuned for 1"
    assert compiled.inputs[0].shape == ("batch", 3, 8, 8)


@pytest.mark.optional
def test_half_precision_comes_from_the_file(rtx, tmp_path):
    path = tmp_path / "half.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((16, 16), np.float16), "w")
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [4, 16]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    compiled = rtx.compile(path, CompileOptions(device="sm_89", precision="fp16"))
    assert compiled.executed_precision == "fp16"
    with pytest.raises(OptionError, match=r"half.onnx is fp16, fp32 was asked for; export the model in fp32"):
        rtx.compile(path, ADA)


@pytest.mark.optional
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CompileOptions(device="sm_90"), "does not compile for sm_90; it does for sm_75, "),
        (CompileOptions(device="sm_89", threads=2), "threads must be 1, got 2"),
        (CompileOptions(device="sm_89", profile=True), "layers have no times"),
    ],
)
def test_options_it_cannot_honour(options, message, rtx, tmp_path):
    with pytest.raises(OptionError, match=message):
        rtx.compile(small_cnn(tmp_path / "m.onnx"), options)


@pytest.mark.optional
def test_the_parser_names_an_operator_of_another_domain(rtx, tmp_path):
    path = tmp_path / "m.onnx"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Strange", ["x"], ["y"], name="n", domain="acme")], "g", infos[:1], infos[1:]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with pytest.raises(ModelLoadError, match="operator 'Strange' \\(node 'n'\\): it is not supported"):
        rtx.compile(path, ADA)


@pytest.mark.optional
def test_an_engine_for_another_machine_is_not_kept(rtx, tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    with pytest.raises(ArtefactError, match="compiled for sm_89 and cannot be loaded here"):
        rtx.compile(path, ADA).artefact()
    with pytest.raises(ArtefactError, match="an engine for sm_89 cannot be loaded here"):
        rtx.import_artefact(b"", path, ADA)


# --- on a GPU ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_the_gpu_s_clock_shows_less_than_the_host_s(tmp_path):
    """Copies and waiting are outside: the device's median lies below the request's, and above nothing."""
    backend = create("trt")
    if not (state := backend.availability("cuda")).ok:
        pytest.skip(f"{state.reason}; {state.hint}")
    compiled = backend.compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(device="cuda"))
    feeds = {"x": np.ones((2, 3, 8, 8), np.float32)}
    call = compiled.bind(feeds)
    call()
    requests = []
    for _ in range(200):
        start = time.perf_counter_ns()
        call()
        requests.append(time.perf_counter_ns() - start)
    timer = compiled.device_timer(feeds, in_flight=2)
    samples = timer(200)
    compiled.close()
    assert samples.min() > 0
    assert np.median(samples) < np.median(requests)


def test_a_backend_on_the_host_has_no_device_clock(tmp_path):
    compiled = create("null").compile(small_cnn(tmp_path / "m.onnx"))
    feeds = {"x": np.ones((2, 3, 8, 8), np.float32)}
    with pytest.raises(OptionError, match="no device with a clock of its own"):
        compiled.device_timer(feeds)
    with pytest.raises(OptionError, match="in_flight must be at least 1, got 0"):
        compiled.device_timer(feeds, in_flight=0)
