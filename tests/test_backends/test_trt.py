"""TensorRT: what it says without a GPU, real engines for a named compute capability, and the call on a device."""

# ruff: noqa: N802, N815  (the stand-in for CUDA carries CUDA's names)

import json
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from backends import CompileOptions, TensorSpec, modelfile, testing, trt, trt_device
from backends.errors import ArtefactError, BackendUnavailableError, ModelLoadError, OptionError, RunError
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


@pytest.mark.optional
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


@pytest.mark.optional
def test_an_engine_is_built_and_cannot_run_here(rtx, tmp_path):
    compiled = rtx.compile(testing.small_cnn(tmp_path / "m.onnx"), ADA)
    assert compiled.executed_precision == "fp32"
    assert compiled.properties["tf32"] == "False"
    assert int(compiled.properties["engine_bytes"]) > 1000
    with pytest.raises(BackendUnavailableError, match="compiled for sm_89 and cannot run here"):
        compiled.run({"x": np.zeros((2, 3, 8, 8), np.float32)})
    compiled.close()


@pytest.mark.optional
def test_a_free_batch_gets_an_optimisation_profile(rtx, tmp_path):
    compiled = rtx.compile(testing.small_cnn(tmp_path / "m.onnx", batch="batch"), ADA)
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


@pytest.mark.optional
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
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="this thread")

    def __init__(self, memory=10**6, captures=True):
        self.log, self.memory, self.blocks = [], memory, {}
        self.captures, self.capturing = captures, False
        self.events, self.graphs = {}, {}
        self.now_us, self.queued, self.deepest = 0.0, 0, 0

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

    def cudaSetDevice(self, index):
        self.log.append(f"device {index}")
        return (0,)

    # The GPU's clock: each inference takes 5 us more than the one before.

    def executed(self):
        if not self.capturing:
            self.queued += 1
            self.deepest = max(self.deepest, self.queued)
            self.now_us += 5 * sum(line.startswith(("execute", "replay")) for line in self.log)

    def cudaEventCreate(self):
        name = f"event {len(self.events)}"
        self.events[name] = None
        return 0, name

    def cudaEventDestroy(self, event):
        del self.events[event]
        return (0,)

    def cudaEventRecord(self, event, stream):
        self.events[event] = self.now_us
        return (0,)

    def cudaEventSynchronize(self, event):
        self.queued -= 1
        return (0,)

    def cudaEventElapsedTime(self, start, end):
        return 0, (self.events[end] - self.events[start]) / 1000

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == "this thread"
        self.capturing = True
        return (0,)

    def cudaStreamEndCapture(self, stream):
        self.capturing = False
        return (0, "graph") if self.captures else (901, None)

    def cudaGetLastError(self):
        self.log.append("clear error")
        return (901,)

    def cudaGraphInstantiate(self, graph, flags):
        self.graphs["replay"] = flags
        return 0, "replay"

    def cudaGraphDestroy(self, graph):
        return (0,)

    def cudaGraphExecDestroy(self, replay):
        del self.graphs[replay]
        return (0,)

    def cudaGraphLaunch(self, replay, stream):
        self.log.append(f"replay on {stream}")
        self.executed()
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
        self.cuda.log.append(f"capture on {stream}" if self.cuda.capturing else f"execute on {stream}")
        self.cuda.executed()
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


def test_a_thread_that_is_new_to_a_call_is_told_the_gpu(cuda):
    """CUDA's current GPU is the thread's: without this, the second GPU's stream would be used with the first."""
    outputs = (TensorSpec(name="y", shape=("batch", 3), dtype="float32"),)
    x = np.ones((2, 3), np.float32)
    call = trt_device.TrtCall(DoublingContext(cuda), {"x": x}, outputs, SimpleNamespace(last_error=""), 1)
    call()
    assert not any(line.startswith("device") for line in cuda.log)
    with ThreadPoolExecutor(1) as other:
        other.submit(call).result()
        other.submit(call).result()
    assert [line for line in cuda.log if line.startswith("device")] == ["device 1"]


# --- the device's own clock, against the same recording ------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_the_timer_gives_each_inference_its_own_time_and_keeps_some_in_flight(in_flight, cuda):
    call, _ = call_of(cuda)
    timer = trt_device.TrtTimer(call, in_flight)
    cuda.queued = cuda.deepest = 0
    before = len([line for line in cuda.log if line.startswith(("execute", "replay"))])
    samples = timer(5)
    assert samples.dtype == np.int64
    assert samples.tolist() == [5000 * (before + index) for index in range(1, 6)]
    assert cuda.deepest == in_flight
    assert cuda.queued == 0, "nothing is left running when the samples are there"
    assert timer(1).shape == (1,)


def test_the_timer_replays_a_graph_without_copies(cuda):
    call, _ = call_of(cuda)
    timer = trt_device.TrtTimer(call, 2)
    assert timer.replays_graph
    cuda.log.clear()
    timer(3)
    assert cuda.log == ["replay on 7"] * 3


def test_without_capture_the_timer_launches_and_says_so(cuda):
    cuda.captures = False
    call, _ = call_of(cuda)
    timer = trt_device.TrtTimer(call, 2)
    assert not timer.replays_graph
    assert cuda.log[-1] == "clear error"
    cuda.log.clear()
    timer(3)
    assert cuda.log == ["execute on 7"] * 3


def test_the_timer_gives_everything_back(cuda):
    call, _ = call_of(cuda)
    timer = trt_device.TrtTimer(call, 2)
    timer(4)
    timer.close()
    timer.close()
    assert (cuda.blocks, cuda.events, cuda.graphs) == ({}, {}, {})
    failing, _ = call_of(cuda, works=False)
    with pytest.raises(RunError, match="TensorRT failed: because"):
        trt_device.TrtTimer(failing, 2)
    assert (cuda.blocks, cuda.events, cuda.graphs) == ({}, {}, {})


# --- an engine that is kept ----------------------------------------------------------------------------------------


class FakeEngine:
    device_memory_size_v2 = 4096

    def __init__(self, plan):
        self.plan = plan

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda kind: json.dumps({"Layers": []}))

    def serialize(self):
        return self.plan

    def get_engine_stat(self, stat):
        assert stat == "total weights"
        return 1234


def fake_runtime():
    def open_engine(plan):
        return FakeEngine(plan) if plan.startswith(b"plan") else None

    class Logger:
        class Severity:
            ERROR, INTERNAL_ERROR = 1, 0

    return SimpleNamespace(
        ILogger=Logger,
        Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=open_engine),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        EngineStat=SimpleNamespace(TOTAL_WEIGHTS_SIZE="total weights"),
    )


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The backend on a machine with a GPU, with `fake_runtime` for TensorRT."""
    module = fake_runtime()
    dialect = trt._Dialect(module=module, typed_flag=0, capabilities=())
    monkeypatch.setattr(trt, "_installed", lambda: ("tensorrt",))
    monkeypatch.setattr(trt, "_gpus", lambda: ("cuda:0 (H200)",))
    monkeypatch.setattr(trt, "_has_cuda_bindings", lambda: True)
    monkeypatch.setattr(trt, "_checked", lambda model, options: (dialect, modelfile.read(model)))
    path = testing.small_cnn(tmp_path / "m.onnx")
    built = (b"plan of \n bytes", {"threads": "1", "streams": "1", "compute_threads": "1", "tf32": "False"})
    log = trt._logger(module)
    return path, trt._RunnableModel(dialect, modelfile.read(path), CompileOptions(device="cuda"), built, log)


def test_an_engine_is_kept_with_what_it_was_built_with(engine):
    path, compiled = engine
    loaded = create("trt").import_artefact(compiled.artefact(), path, CompileOptions(device="cuda"))
    assert loaded.properties == compiled.properties
    assert loaded.properties["tf32"] == "False"
    assert loaded.artefact() == compiled.artefact()


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (b"no artefact", "this is no artefact of backend 'trt'"),
        (b"[1]\nplan", "this is no artefact of backend 'trt'"),
        (b"{}\nfrom another version", "TensorRT cannot open the engine"),
    ],
)
def test_a_foreign_engine_is_refused(blob, said, engine):
    path, _ = engine
    with pytest.raises(ArtefactError, match=said):
        create("trt").import_artefact(blob, path, CompileOptions(device="cuda"))


def test_the_engine_tells_its_memory(engine):
    _, compiled = engine
    said = compiled.memory()
    assert (said.weights_bytes, said.arena_bytes) == (1234, 4096)
    assert compiled.properties["device_memory_bytes"] == "4096"


@pytest.mark.optional
def test_an_engine_for_another_machine_is_not_kept(rtx, tmp_path):
    path = testing.small_cnn(tmp_path / "m.onnx")
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
    compiled = backend.compile(testing.small_cnn(tmp_path / "m.onnx"), CompileOptions(device="cuda"))
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
    compiled = create("null").compile(testing.small_cnn(tmp_path / "m.onnx"))
    feeds = {"x": np.ones((2, 3, 8, 8), np.float32)}
    with pytest.raises(OptionError, match="no device with a clock of its own"):
        compiled.device_timer(feeds)
    with pytest.raises(OptionError, match="in_flight must be at least 1, got 0"):
        compiled.device_timer(feeds, in_flight=0)
