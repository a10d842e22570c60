"""TensorRT: what it says without a GPU, real engines for a named compute capability, and the call on a device."""

# ruff: noqa: N802, N815  (the stand-in for CUDA carries CUDA's names)

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from backends import CompileOptions, TensorSpec, testing, trt, trt_device
from backends.errors import BackendUnavailableError, ModelLoadError, OptionError, RunError
from backends.registry import create

ADA = CompileOptions(device="sm_89")


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    return create("trt")


# --- without a GPU -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:3"])
def test_no_gpu_is_one_clear_line(device, tmp_path, monkeypatch):
    monkeypatch.setattr(trt, "_gpus", lambda: ())
    monkeypatch.setattr(trt, "_installed", lambda: ("tensorrt_rtx",))
    path = testing.small_cnn(tmp_path / "m.onnx")
    with pytest.raises(BackendUnavailableError) as caught:
        create("trt").compile(path, CompileOptions(device=device))
    assert str(caught.value) == (
        "backend 'trt' cannot run here: no NVIDIA GPU or driver found on this machine; run it on a machine with an "
        "NVIDIA GPU, or compile without running, for example with --device sm_89"
    )


@pytest.mark.parametrize(
    ("installed", "gpus", "device", "reason", "hint"),
    [
        ((), (), "cuda", "neither tensorrt nor tensorrt_rtx is installed", "prune-deploy[tensorrt-rtx]"),
        (("tensorrt",), (), "sm_89", "only TensorRT-RTX compiles for a named compute capability", "[tensorrt-rtx]"),
        (("tensorrt",), ("cuda:0 (H200)",), "cpu", "it runs on NVIDIA GPUs only", "--device cuda"),
        (("tensorrt",), ("cuda:0 (H200)",), "cuda:1", "there is no cuda:1; this machine has 1 GPU(s)", "cuda:0"),
    ],
)
def test_every_reason_has_a_hint(installed, gpus, device, reason, hint, monkeypatch):
    monkeypatch.setattr(trt, "_installed", lambda: installed)
    monkeypatch.setattr(trt, "_gpus", lambda: gpus)
    state = create("trt").availability(device)
    assert not state.ok
    assert state.reason.startswith(reason)
    assert hint in state.hint


# --- engines for a named compute capability ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "promise",
    [
        testing.inputs_and_outputs_are_those_of_the_file,
        testing.broken_files_are_refused,
        testing.wrong_external_data_is_refused,
        testing.an_unknown_operator_is_named,
        testing.layers_lead_back_to_the_file,
        testing.wrong_feeds_are_refused,
    ],
    ids=lambda promise: promise.__name__,
)
def test_promises_that_need_no_gpu(promise, rtx, tmp_path):
    promise(rtx, tmp_path, ADA)


def test_an_engine_is_built_and_cannot_run_here(rtx, tmp_path):
    compiled = rtx.compile(testing.small_cnn(tmp_path / "m.onnx"), ADA)
    assert compiled.executed_precision == "fp32"
    assert compiled.properties["tf32"] == "False"
    assert int(compiled.properties["engine_bytes"]) > 1000
    with pytest.raises(BackendUnavailableError, match="compiled for sm_89 and cannot run here"):
        compiled.run({"x": np.zeros((2, 3, 8, 8), np.float32)})
    compiled.close()


def test_a_free_batch_gets_an_optimisation_profile(rtx, tmp_path):
    compiled = rtx.compile(testing.small_cnn(tmp_path / "m.onnx", batch="batch"), ADA)
    assert compiled.properties["free_dimensions"] == "batch: 1 to 64, tuned for 1"
    assert compiled.inputs[0].shape == ("batch", 3, 8, 8)


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CompileOptions(device="sm_90"), "does not compile for sm_90; it does for sm_75, "),
        (CompileOptions(device="sm_89", threads=2), "threads must be 1, got 2"),
        (CompileOptions(device="sm_89", profile=True), "layers have no times"),
    ],
)
def test_options_it_cannot_honour(options, said, rtx, tmp_path):
    with pytest.raises(OptionError, match=said):
        rtx.compile(testing.small_cnn(tmp_path / "m.onnx"), options)


def test_the_parser_names_an_operator_of_another_domain(rtx, tmp_path):
    path = tmp_path / "m.onnx"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Strange", ["x"], ["y"], name="n", domain="acme")], "g", infos[:1], infos[1:]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with pytest.raises(ModelLoadError, match="operator 'Strange' \\(node 'n'\\): it is not known"):
        rtx.compile(path, ADA)


# --- dialects ------------------------------------------------------------------------------------------------------


def fake_module(flags, capabilities=None, builder_flags=("TF32",)):
    module = SimpleNamespace(
        NetworkDefinitionCreationFlag=SimpleNamespace(__members__=flags),
        BuilderFlag=SimpleNamespace(**dict.fromkeys(builder_flags)),
    )
    if capabilities is not None:
        module.ComputeCapability = SimpleNamespace(__members__=capabilities)
    return module


@pytest.mark.parametrize(
    ("module", "typed_flag", "capabilities"),
    [
        pytest.param(
            fake_module({"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, builder_flags=("FP16", "TF32")), 2, (), id="10.x"
        ),
        pytest.param(fake_module({"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1}), 0, (), id="11.x"),
        pytest.param(
            fake_module({"STRONGLY_TYPED": 0}, {"NONE": 0, "CURRENT": 1, "SM89": 2, "SM120": 3}),
            0,
            ("sm_89", "sm_120"),
            id="rtx",
        ),
    ],
)
def test_a_dialect_is_read_off_the_module(module, typed_flag, capabilities):
    dialect = trt._Dialect.of(module)
    assert (dialect.typed_flag, dialect.capabilities) == (typed_flag, capabilities)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param({"Name": "y", "Format/Datatype": "Row major linear FP32"}, id="10.x"),
        pytest.param({"Name": "y", "Datatype": "Float", "Format": "Row major linear"}, id="11.x and rtx"),
    ],
)
def test_the_inspector_is_read_in_both_schemas(output):
    layer = {
        "Name": "conv_myl0_1",
        "LayerType": "correlation",
        "Outputs": [output],
        "Metadata": "[ONNX Layer: conv]\u001f[ONNX Layer: relu]",
    }
    (read,) = trt._layers_of_inspector(json.dumps({"Layers": [layer]}))
    assert (read.name, read.kind, read.nodes) == ("conv_myl0_1", "correlation", ("conv", "relu"))
    assert {trt._TYPES[word] for word in read.types} == {"fp32"}


# --- the call on a device, against a recording of CUDA -------------------------------------------------------------


class FakeCuda:
    """Host memory stands in for the device; every call is written down."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="to device", cudaMemcpyDeviceToHost="to host")

    def __init__(self, memory=10**6):
        self.log, self.memory, self.blocks = [], memory, {}

    def allocate(self, n_bytes):
        self.memory -= n_bytes
        if self.memory < 0:
            return 2, None
        block = np.zeros(n_bytes, np.uint8)
        self.blocks[block.ctypes.data] = block
        return 0, block.ctypes.data

    cudaMalloc = cudaMallocHost = allocate

    def cudaFree(self, pointer):
        del self.blocks[pointer]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaStreamCreate(self):
        return 0, 7

    def cudaStreamDestroy(self, stream):
        self.log.append("destroy stream")
        return (0,)

    def cudaMemcpyAsync(self, target, source, n_bytes, kind, stream):
        self.log.append(f"copy {n_bytes} {kind} on {stream}")
        self.blocks[target][:n_bytes] = self.blocks[source][:n_bytes]
        return (0,)

    def cudaStreamSynchronize(self, stream):
        self.log.append("wait")
        return (0,)

    def cudaGetErrorString(self, error):
        return 0, b"out of memory"


class DoublingContext:
    """Answers twice its input."""

    def __init__(self, cuda, works=True):
        self.cuda, self.works, self.addresses = cuda, works, {}

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape[0] <= 64

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, pointer):
        self.addresses[name] = pointer
        return True

    def execute_async_v3(self, stream):
        self.cuda.log.append(f"execute on {stream}")
        x, y = (self.cuda.blocks[self.addresses[name]].view(np.float32) for name in "xy")
        y[:] = 2 * x
        return self.works


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    monkeypatch.setattr(trt_device, "_cudart", lambda: fake)
    return fake


def test_cuda_s_own_words_reach_the_user():
    """Against the real cuda-bindings: without a driver every call fails."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    if trt._gpus():
        pytest.skip("there is a GPU here")
    with pytest.raises(RunError, match=r"CUDA: CUDA driver version is insufficient|CUDA: no CUDA-capable device"):
        trt_device.set_device(0)


def call_of(cuda, batch=2, works=True):
    x = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
    outputs = (TensorSpec(name="y", shape=("batch", 3), dtype="float32"),)
    log = SimpleNamespace(last_error="because")
    return trt_device.TrtCall(DoublingContext(cuda, works), {"x": x}, outputs, log), x


def test_a_call_copies_executes_copies_and_waits(cuda):
    call, x = call_of(cuda)
    call()
    assert cuda.log == ["copy 24 to device on 7", "execute on 7", "copy 24 to host on 7", "wait"]
    assert np.array_equal(call.outputs()["y"], 2 * x)


def test_everything_is_given_back_once(cuda):
    call, _ = call_of(cuda)
    assert len(cuda.blocks) == 4
    call.close()
    call.close()
    assert cuda.blocks == {}
    assert cuda.log == ["destroy stream"]


def test_failures_on_the_device_are_run_errors(cuda):
    with pytest.raises(RunError, match="TensorRT failed: because"):
        call_of(cuda, works=False)[0]()
    with pytest.raises(RunError, match="refuses shape \\(65, 3\\) of input 'x': because"):
        call_of(cuda, batch=65)
    cuda.memory = 30
    held = len(cuda.blocks)
    with pytest.raises(RunError, match="CUDA: out of memory"):
        call_of(cuda)
    assert len(cuda.blocks) == held
