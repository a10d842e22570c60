"""Which TensorRT and CUDA packages and which GPUs are present, without importing any of them."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

from prune_deploy import how_to_install

__all__ = ["INSTALL", "NO_GPU", "NO_GPU_HINT", "gpu_index", "gpus", "has_cuda_bindings", "installed"]

INSTALL = {"tensorrt": how_to_install("tensorrt"), "tensorrt_rtx": how_to_install("tensorrt-rtx")}
NO_GPU = "no NVIDIA GPU or driver found on this machine"
NO_GPU_HINT = "run it on a machine with an NVIDIA GPU, or compile without running, for example with --device sm_89"


def installed() -> tuple[str, ...]:
    """Return which of ``tensorrt`` and ``tensorrt_rtx`` are installed."""
    return tuple(name for name in ("tensorrt", "tensorrt_rtx") if find_spec(name) is not None)


def has_cuda_bindings() -> bool:
    """Return whether ``cuda.bindings`` is installed."""
    return find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def gpu_index(device: str) -> int:
    """Return the number of the GPU in ``"cuda"`` or ``"cuda:N"``."""
    return int(device.partition(":")[2] or 0)


def gpus() -> tuple[str, ...]:
    """Return the names of the GPUs from the driver alone: no context is created and no runtime loaded."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for index in range(count.value):
        text = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(text, len(text), index)
        names.append(f"cuda:{index} ({text.value.decode(errors='replace')})")
    return tuple(names)
