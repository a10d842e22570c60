"""The call on a device and its timer, against a recording of CUDA."""

# ruff: noqa: N802, N815  (the stand-in for CUDA carries CUDA's names)

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from backends import TensorSpec
from backends.errors import RunError
from backends.trt import device
from backends.trt.installed import gpus


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
    monkeypatch.setattr(device, "_cudart", lambda: fake)
    return fake


def test_cuda_s_own_words_reach_the_user():
    """Against the real cuda-bindings: without a driver every call fails."""
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    if gpus():
        pytest.skip("there is a GPU here")
    with pytest.raises(RunError, match=r"CUDA: CUDA driver version is insufficient|CUDA: no CUDA-capable device"):
        device.set_device(0)


def call_of(cuda, batch=2, works=True):
    x = np.arange(batch * 3, dtype=np.float32).reshape(batch, 3)
    outputs = (TensorSpec(name="y", shape=("batch", 3), dtype="float32"),)
    log = SimpleNamespace(last_error="because")
    return device.TrtCall(DoublingContext(cuda, works), {"x": x}, outputs, log), x


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
    call = device.TrtCall(DoublingContext(cuda), {"x": x}, outputs, SimpleNamespace(last_error=""), 1)
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
    timer = device.TrtTimer(call, in_flight)
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
    timer = device.TrtTimer(call, 2)
    assert timer.replays_graph
    cuda.log.clear()
    timer(3)
    assert cuda.log == ["replay on 7"] * 3


def test_without_capture_the_timer_launches_and_says_so(cuda):
    cuda.captures = False
    call, _ = call_of(cuda)
    timer = device.TrtTimer(call, 2)
    assert not timer.replays_graph
    assert cuda.log[-1] == "clear error"
    cuda.log.clear()
    timer(3)
    assert cuda.log == ["execute on 7"] * 3


def test_the_timer_gives_everything_back(cuda):
    call, _ = call_of(cuda)
    timer = device.TrtTimer(call, 2)
    timer(4)
    timer.close()
    timer.close()
    assert (cuda.blocks, cuda.events, cuda.graphs) == ({}, {}, {})
    failing, _ = call_of(cuda, works=False)
    with pytest.raises(RunError, match="TensorRT failed: because"):
        device.TrtTimer(failing, 2)
    assert (cuda.blocks, cuda.events, cuda.graphs) == ({}, {}, {})
