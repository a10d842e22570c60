"""The timed call of TensorRT on a GPU, with nothing of CUDA but its runtime (cuda-bindings)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from backends.base import Array, BoundCall, TensorSpec
from backends.errors import RunError

__all__ = ["TrtCall", "set_device"]


def set_device(index: int) -> None:
    """Make GPU number `index` the one this process works on."""
    cudart = _cudart()
    _check(cudart.cudaSetDevice(index))


class TrtCall(BoundCall):
    """Copy in, execute, copy out, wait: from pinned host memory to pinned host memory.

    Parameters
    ----------
    context : IExecutionContext
        Belongs to this call alone.
    feeds : Mapping of str to ndarray
        Copied to pinned memory now.
    outputs : tuple of TensorSpec
        Their shapes must follow from the shapes of the feeds.
    log : ILogger
        Asked for the reason when TensorRT refuses.

    Raises
    ------
    RunError
        A shape is outside the range compiled for, or the GPU has no memory left.
    """

    def __init__(self, context: Any, feeds: Mapping[str, Array], outputs: tuple[TensorSpec, ...], log: Any) -> None:
        cudart = _cudart()
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
        to_device = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        to_host = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for device, host, n_bytes in self._copies_in:
            _check(cudart.cudaMemcpyAsync(device, host, n_bytes, to_device, stream))
        if not self._context.execute_async_v3(int(stream)):
            raise RunError(f"TensorRT failed: {self._log.last_error}")
        for host, device, n_bytes in self._copies_out:
            _check(cudart.cudaMemcpyAsync(host, device, n_bytes, to_host, stream))
        _check(cudart.cudaStreamSynchronize(stream))

    def outputs(self) -> dict[str, Array]:
        """Copy the outputs out of pinned memory."""
        return {name: self._host[name].copy() for name in self._outputs}

    def close(self) -> None:
        """Give the memory and the stream back; a second call does nothing."""
        self._host.clear()
        while self._free:
            release, handle = self._free.pop()
            _check(release(handle))


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
