"""Roofline of a machine under one runtime, from a matrix product and a copy that the runtime itself runs and profiles.

Peak arithmetic is that of one large matrix product, peak memory bandwidth that of one elementwise operation on tensors
too large for any cache (bytes read plus bytes written). Both come from the runtime's own layer times, like the times
they are compared with; these exclude the runtime's copies of inputs and outputs. A layer can beat its roofline: if its
data stays in a cache, or if a convolution needs fewer multiplications than it has MACs (Winograd).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from backends.base import Array, CompileOptions, Precision
from benchmarks.layers.process import RunSessions, run_in_process
from benchmarks.records.base import Record
from benchmarks.subject.dtypes import numpy_type

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Roofline",
    "Shortest",
    "last_level_cache_bytes",
    "measure_layer_overhead",
    "measure_roofline",
    "roofline_of_this_process",
]

_TYPES: dict[Precision, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_GEMM_SESSIONS, _GEMM_CALLS = 12, 10
_COPY_SESSIONS, _COPY_CALLS = 6, 40
_BUDGET_S, _TOTAL_S = 0.3, 5.0
_GEMM_SIZE = 512
_LEAST_CHANNELS = 16
_GEMM_SIZE_GPU = 4096
_UNKNOWN_CACHE_BYTES = 32 << 20
_LEAST_BYTES, _MOST_BYTES = 8 << 20, 512 << 20
_OPSET, _IR_VERSION = 17, 8


class Shortest(NamedTuple):
    """The shortest time that a roofline allows, in seconds, and what limits it."""

    seconds: float
    bound: Literal["compute", "memory"]


class Roofline(Record):
    """Measured peaks of one backend with its options; an unmeasured peak is None."""

    backend: str
    precision: str
    threads: PositiveInt
    device: str
    peak_flops: PositiveFloat | None = None
    """FLOPs per second, 2 per MAC."""
    peak_bytes_per_s: PositiveFloat | None = None
    """Bytes read plus bytes written per second."""
    gemm_size: PositiveInt
    """Rows and columns of each matrix."""
    copied_bytes: PositiveInt
    """Bytes of the tensor read; as many are written."""
    last_level_cache_bytes: PositiveInt | None = None

    def shortest(self, macs: int, moved_bytes: int | None) -> Shortest | None:
        """Return the shortest time for the given work.

        Returns
        -------
        Shortest or None
            None if a needed peak was not measured or there is no work. Unknown bytes are ignored.
        """
        compute = memory = 0.0
        if macs:
            if self.peak_flops is None:
                return None
            compute = 2 * macs / self.peak_flops
        if moved_bytes:
            if self.peak_bytes_per_s is None:
                return None
            memory = moved_bytes / self.peak_bytes_per_s
        if not compute and not memory:
            return None
        return Shortest(compute, "compute") if compute >= memory else Shortest(memory, "memory")


def measure_roofline(
    backend: str,
    options: CompileOptions,
    *,
    typed: Precision | None = None,
    run: RunSessions = run_in_process,
    cache_bytes: int | None = None,
) -> Roofline:
    """Run both probes, each in a separate process, and take their best sessions.

    Parameters
    ----------
    backend : str
        Name in `backends.registry`.
    options : CompileOptions
        Options of the model; the copy always runs in fp32.
    typed : {"fp32", "bf16", "fp16", "int8"}, optional
        Type of the matrices in the file; by default the precision of `options`. No matrix product is measured for
        ``"int8"``.
    run : callable
        Runs a probe.
    cache_bytes : int, optional
        Size of the last-level cache, which decides how much is copied; None if unknown.

    Raises
    ------
    WorkerError
        The backend refuses a probe, or its process died.
    """
    profiled = replace(options, profile=True)
    # The work per thread is the same for any number of threads.
    size = _GEMM_SIZE << math.ceil(math.log2(options.threads) / 3) if options.device == "cpu" else _GEMM_SIZE_GPU
    copied = min(max(2 * (cache_bytes or _UNKNOWN_CACHE_BYTES), _LEAST_BYTES), _MOST_BYTES)
    kind = _TYPES.get(typed or options.precision)

    gemm_ns = None
    with tempfile.TemporaryDirectory(prefix="prune-deploy-roofline-") as folder:
        if kind is not None:
            path = Path(folder) / "gemm.onnx"
            feeds = _gemm(path, size, kind)
            gemm_ns = _best_ns(backend, path, profiled, feeds, _GEMM_SESSIONS, _GEMM_CALLS, run)
        path = Path(folder) / "copy.onnx"
        in_fp32, feeds = replace(profiled, precision="fp32"), _copy(path, copied)
        copy_ns = _best_ns(backend, path, in_fp32, feeds, _COPY_SESSIONS, _COPY_CALLS, run)
    return Roofline(
        backend=backend,
        precision=options.precision,
        threads=options.threads,
        device=options.device,
        peak_flops=None if gemm_ns is None else 2e9 * size**3 / gemm_ns,
        peak_bytes_per_s=2e9 * copied / copy_ns,
        gemm_size=size,
        copied_bytes=copied,
        last_level_cache_bytes=cache_bytes,
    )


def measure_layer_overhead(backend: str, options: CompileOptions, *, run: RunSessions = run_in_process) -> float:
    """Return the nanoseconds of a layer that computes next to nothing: a convolution of one pixel.

    Parameters
    ----------
    backend : str
        Name in `backends.registry`.
    options : CompileOptions
        Options of the model; the layer runs in fp32.
    run : callable
        Runs the layer.

    Raises
    ------
    WorkerError
        The backend refuses the layer, or its process died.
    """
    pixel = np.ones((1, _LEAST_CHANNELS, 1, 1), np.float32)
    with tempfile.TemporaryDirectory(prefix="prune-deploy-overhead-") as folder:
        path = Path(folder) / "pixel.onnx"
        return float(
            _best_ns(
                backend,
                path,
                replace(options, profile=True, precision="fp32"),
                _convolution(path, pixel),
                _COPY_SESSIONS,
                _COPY_CALLS,
                run,
            )
        )


@cache
def roofline_of_this_process(backend: str, options: CompileOptions, typed: Precision) -> Roofline:
    """Measure a roofline once per process, see `measure_roofline`."""
    return measure_roofline(backend, options, typed=typed, cache_bytes=last_level_cache_bytes())


def last_level_cache_bytes(root: Path = Path("/")) -> int | None:
    """Read the size of the largest cache of the first core; None if the system does not report it.

    Parameters
    ----------
    root : Path, default="/"
        Where ``sys`` is.
    """
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = []
    for file in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text(encoding="ascii").strip()
            sizes.append(int(text.rstrip("KMG")) * units.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(sizes, default=0) or None


def _best_ns(
    backend: str,
    path: Path,
    options: CompileOptions,
    feeds: Mapping[str, Array],
    sessions: int,
    calls: int,
    run: RunSessions,
) -> int:
    """Return the time of the layer that does the work, in the best session."""
    ran = run(backend, path, options, feeds, sessions=sessions, most_calls=calls, budget_s=_BUDGET_S, total_s=_TOTAL_S)
    return min(max(layer.time_ns or 0 for layer in layers) for layers in ran.layers)


def _gemm(path: Path, size: int, kind: str) -> dict[str, Array]:
    import onnx

    random = np.random.default_rng(0)
    left, right = ((random.standard_normal((size, size)) / math.sqrt(size)).astype(numpy_type(kind)) for _ in "ab")
    weight = onnx.numpy_helper.from_array(right, "weight")
    _save(path, onnx.helper.make_node("MatMul", ["x", "weight"], ["y"], name="gemm"), left, [weight])
    return {"x": left}


def _copy(path: Path, copied: int) -> dict[str, Array]:
    import onnx

    array = np.ones((16, copied // 64), np.float32)
    one = onnx.numpy_helper.from_array(np.array([1.5], np.float32), "one")
    _save(path, onnx.helper.make_node("Add", ["x", "one"], ["y"], name="copy"), array, [one])
    return {"x": array}


def _convolution(path: Path, pixel: Array) -> dict[str, Array]:
    import onnx

    channels = pixel.shape[1]
    weight = onnx.numpy_helper.from_array(np.ones((channels, channels, 1, 1), np.float32), "weight")
    _save(path, onnx.helper.make_node("Conv", ["x", "weight"], ["y"], name="pixel"), pixel, [weight])
    return {"x": pixel}


def _save(path: Path, node: onnx.NodeProto, like: Array, weights: list[onnx.TensorProto]) -> None:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(like.dtype)
    ends = [helper.make_tensor_value_info(name, kind, like.shape) for name in "xy"]
    graph = helper.make_graph([node], "probe", ends[:1], ends[1:], weights)
    opset = helper.make_opsetid("", _OPSET)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION).SerializeToString())
