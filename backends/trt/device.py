"""Timed TensorRT inferences on a GPU, using only the CUDA runtime (cuda-bindings).

`TrtCall` is a whole request, with copies and waits, timed by the host's clock. `TrtTimer` times the device alone, with
events around each inference, on the GPU's clock.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Array, BoundCall, DeviceTimer, TensorSpec
from backends.errors import RunError

__all__ = ["TrtCall", "TrtTimer", "set_device"]


def set_device(index: int) -> None:
    """Make GPU number `index` the current one."""
    cudart = _cudart()
    _check(cudart.cudaSetDevice(index))


class TrtCall(BoundCall):
    """Copy in, execute, copy out, wait: from pinned host memory to pinned host memory.

    Parameters
    ----------
    context : IExecutionContext
        Used by this call alone.
    feeds : Mapping of str to ndarray
        Copied to pinned memory now.
    outputs : tuple of TensorSpec
        Their shapes must follow from the shapes of the feeds.
    log : ILogger
        Gives the reason when TensorRT refuses.
    index : int, default=0
        Number of the GPU. CUDA has a current GPU per host thread, so it is set when the calling thread changes.

    Raises
    ------
    RunError
        A shape is outside the range compiled for, or the GPU has no memory left.
    """

    def __init__(
        self, context: Any, feeds: Mapping[str, Array], outputs: tuple[TensorSpec, ...], log: Any, index: int = 0
    ) -> None:
        cudart = _cudart()
        self._index = index
        self._thread = threading.get_ident()
        self._cudart = cudart
        self._context = context
        self._log = log
        self._free: list[tuple[Callable[[int], Any], int]] = []
        self._host: dict[str, Array] = {}
        self._copies_in: list[tuple[int, int, int]] = []
        self._copies_out: list[tuple[int, int, int]] = []
        self._stream = _check(cudart.cudaStreamCreate())
        self._free.append((cudart.cudaStreamDestroy, self._stream))
        try:
            for name, array in feeds.items():
                self._require(context.set_input_shape(name, array.shape), f"shape {array.shape} of input {name!r}")
                host, device = self._allocate(name, array.shape, array.dtype)
                self._host[name][...] = array
                self._copies_in.append((device, host, array.nbytes))
            for spec in outputs:
                shape = tuple(context.get_tensor_shape(spec.name))
                self._require(min(shape, default=0) >= 0, f"output {spec.name!r}, whose shape depends on data")
                host, device = self._allocate(spec.name, shape, np.dtype(spec.dtype))
                self._copies_out.append((host, device, self._host[spec.name].nbytes))
        except RunError:
            self.close()
            raise
        self._outputs = tuple(spec.name for spec in outputs)

    def _require(self, accepted: bool, what: str) -> None:
        if not accepted:
            raise RunError(f"TensorRT refuses {what}: {self._log.last_error}")

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
        n_bytes = max(1, int(np.prod(shape)) * dtype.itemsize)
        host = int(_check(self._cudart.cudaMallocHost(n_bytes)))
        self._free.append((self._cudart.cudaFreeHost, host))
        device = int(_check(self._cudart.cudaMalloc(n_bytes)))
        self._free.append((self._cudart.cudaFree, device))
        self._require(self._context.set_tensor_address(name, device), f"the memory of {name!r}")
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(host))
        size = int(np.prod(shape)) * dtype.itemsize
        self._host[name] = memory[:size].view(dtype).reshape(shape)
        return host, device

    def __call__(self) -> None:
        """Run once and wait."""
        cudart, stream = self._cudart, self._stream
        self.enter_thread()
        to_device = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        to_host = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for device, host, n_bytes in self._copies_in:
            _check(cudart.cudaMemcpyAsync(device, host, n_bytes, to_device, stream))
        self.enqueue()
        for host, device, n_bytes in self._copies_out:
            _check(cudart.cudaMemcpyAsync(host, device, n_bytes, to_host, stream))
        _check(cudart.cudaStreamSynchronize(stream))

    @property
    def stream(self) -> Any:
        """The CUDA stream of this call."""
        return self._stream

    def enter_thread(self) -> None:
        """Make the call's GPU the current one when the calling thread has changed."""
        if (thread := threading.get_ident()) != self._thread:
            set_device(self._index)
            self._thread = thread

    def enqueue(self) -> None:
        """Enqueue one inference on the stream, without copies, and do not wait.

        Raises
        ------
        RunError
            TensorRT refuses.
        """
        if not self._context.execute_async_v3(int(self._stream)):
            raise RunError(f"TensorRT failed: {self._log.last_error}")

    def outputs(self) -> dict[str, Array]:
        """Copy the outputs out of pinned memory."""
        return {name: self._host[name].copy() for name in self._outputs}

    def close(self) -> None:
        """Free the memory and the stream; a second call does nothing."""
        self._host.clear()
        while self._free:
            release, handle = self._free.pop()
            _check(release(handle))


class TrtTimer(DeviceTimer):
    """Timer with events before and after each inference on one stream, with some inferences queued ahead.

    The inference is captured as a CUDA graph and replayed if TensorRT allows it. Times have the resolution of CUDA's
    events, about half a microsecond.

    Parameters
    ----------
    call : TrtCall
        Owned by the timer from now on. It is run once, to put the inputs on the GPU and load lazy kernels.
    in_flight : int
        Inferences queued at once.

    Raises
    ------
    RunError
        The first run fails, or CUDA has no events left.
    """

    def __init__(self, call: TrtCall, in_flight: int) -> None:
        self.in_flight = in_flight
        self._cudart = _cudart()
        self._call = call
        self._graph: Any = None
        self._events: list[tuple[Any, Any]] = []
        self._free: list[tuple[Callable[[Any], Any], Any]] = []
        try:
            call()
            for _ in range(in_flight):
                self._events.append((self._event(), self._event()))
            self._graph = self._captured()
        except RunError:
            self.close()
            raise
        self.replays_graph = self._graph is not None

    def _event(self) -> Any:
        event = _check(self._cudart.cudaEventCreate())
        self._free.append((self._cudart.cudaEventDestroy, event))
        return event

    def _captured(self) -> Any:
        """Capture one inference; return None if TensorRT or CUDA does not allow it."""
        cudart, stream = self._cudart, self._call.stream
        _check(cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
        try:
            self._call.enqueue()
            is_accepted = True
        except RunError:
            is_accepted = False
        error, graph = cudart.cudaStreamEndCapture(stream)  # always: the stream is unusable until then
        if not is_accepted or int(error) != 0:
            cudart.cudaGetLastError()  # clears the error, which the next call would report
            return None
        replay = _check(cudart.cudaGraphInstantiate(graph, 0))
        self._free.append((cudart.cudaGraphExecDestroy, replay))
        _check(cudart.cudaGraphDestroy(graph))
        return replay

    def __call__(self, n_calls: int) -> npt.NDArray[np.int64]:
        """Run `n_calls` inferences; return the nanoseconds of each on the GPU."""
        self._call.enter_thread()
        samples = np.zeros(n_calls, np.int64)
        for index in range(n_calls + self.in_flight):
            start, end = self._events[index % self.in_flight]
            if index >= self.in_flight and (done := index - self.in_flight) < n_calls:
                _check(self._cudart.cudaEventSynchronize(end))
                samples[done] = round(1e6 * _check(self._cudart.cudaEventElapsedTime(start, end)))
            if index < n_calls:
                self._launch(start, end)
        return samples

    def _launch(self, start: Any, end: Any) -> None:
        cudart, stream = self._cudart, self._call.stream
        _check(cudart.cudaEventRecord(start, stream))
        if self._graph is not None:
            _check(cudart.cudaGraphLaunch(self._graph, stream))
        else:
            self._call.enqueue()
        _check(cudart.cudaEventRecord(end, stream))

    def close(self) -> None:
        """Free the events, the graph and the call; a second call does nothing."""
        while self._free:
            release, handle = self._free.pop()
            _check(release(handle))
        self._call.close()


def _cudart() -> Any:
    return import_module("cuda.bindings.runtime")


def _check(result: tuple[Any, ...]) -> Any:
    """Unpack the (error, value) of a CUDA call.

    Raises
    ------
    RunError
        The call failed; the message is CUDA's.
    """
    error, *values = result
    if int(error) != 0:
        _, text = _cudart().cudaGetErrorString(error)
        raise RunError(f"CUDA: {text.decode()}")
    return values[0] if values else None
