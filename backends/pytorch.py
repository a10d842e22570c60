"""PyTorch backends on the CPU, eager and compiled: the baseline people have before they deploy.

The ONNX file is converted to torch code (`backends.onnx_to_torch.convert`) and run under `torch.inference_mode`,
contiguous (NCHW), in a process whose intra-op threads are set. Two things differ from the network as trained and affect
how its latency should be read: an exporter folds BatchNorm into the convolutions, and attention that the exporter
decomposed runs as separate operators.

After a call with more than one thread, torch's OpenMP threads keep spinning for about ten milliseconds, and every
setting that stops them also slows the call itself: wait that long before measuring another model.

Streams are concurrent calls from separate threads, each with its own team of OpenMP threads. Between two operators
Python runs one of them at a time: with small operators, fewer are in flight than requested.

``torch-compile`` is `torch.compile` in its default mode, for the exact shapes, with neither graph breaks nor a fallback
to eager allowed. If all shapes are fixed, compilation is part of loading; with a free dimension it can only happen in
the first call with each new shape, and is counted there. Inductor caches its output on disk: `properties` say whether
it was found. The cache entries are pickled, and an AOTInductor package is a different program (no guards, a wrapper in
C++) from the one `torch.compile` runs: neither is offered as an artefact.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from backends import modelfile
from backends.base import (
    Array,
    Availability,
    Backend,
    BoundCall,
    CompiledModel,
    CompileOptions,
    LayerInfo,
    Precision,
    RuntimeMemory,
)
from backends.errors import ModelLoadError, OptionError, RunError, one_line
from backends.installed import import_runtime, missing, version_of
from backends.layer_times import undisturbed_mean
from prune_deploy import how_to_install

if TYPE_CHECKING:
    from backends.modelfile import ModelFile

__all__ = ["TorchBackend", "TorchCompileBackend"]

_INSTALL = how_to_install("prune")
_DTYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)
_COMPILERS = ("g++", "clang++", "c++")


class _TorchCall(BoundCall):
    def __init__(self, module: Callable[..., Any], feeds: Mapping[str, Array], outputs: tuple[str, ...]) -> None:
        import torch

        self._module = module
        self._names = outputs
        self._inputs = tuple(_to_torch(array) for array in feeds.values())
        self._inference_mode = torch.inference_mode
        self._results: tuple[Any, ...] | None = None

    def __call__(self) -> None:
        try:
            with self._inference_mode():
                self._results = self._module(*self._inputs)
        except _FAILURES as error:
            raise RunError(f"torch failed: {one_line(error)}") from error

    def outputs(self) -> dict[str, Array]:
        if self._results is None:
            raise RunError("there are no outputs before the first call")
        return {name: _to_numpy(value) for name, value in zip(self._names, self._results, strict=True)}


class _TorchModel(CompiledModel):
    def __init__(self, file: ModelFile, options: CompileOptions, *, compiled: bool) -> None:
        import torch

        from backends.onnx_to_torch.convert import convert

        torch.set_num_threads(options.threads)
        torch.set_float32_matmul_precision("highest")
        self.inputs, self.outputs = file.inputs, file.outputs
        weights = dict(modelfile.initializers(file.path))
        graph = convert(file, weights, getattr(torch, _DTYPES.get(options.precision, "float32")))
        del weights
        self._weights_bytes = sum({t.data_ptr(): t.nbytes for t in graph.buffers()}.values())
        self._graph: Any = graph
        self._times: dict[str, list[int]] = defaultdict(list)
        self._call: Callable[..., Any] | None = graph
        self.properties = {
            "threads": str(torch.get_num_threads()),
            "streams": str(options.streams),
            "compute_threads": str(torch.get_num_threads() * options.streams),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "memory_format": "contiguous",
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mode": "compiled (inductor, default mode)" if compiled else "eager",
        }
        if torch.get_num_threads() != options.threads:
            raise OptionError(f"torch uses {torch.get_num_threads()} threads, {options.threads} were asked for")
        self.executed_precision = _executed(graph, options.precision)
        if options.profile:
            self._call = _timed(graph, self._times)
        if compiled:
            self._call = _compiled(graph)
            if all(isinstance(size, int) for spec in self.inputs for size in spec.shape):
                self._compile_now(file.path)

    def _compile_now(self, path: Path) -> None:
        from torch._dynamo.utils import counters

        zeros = {spec.name: np.zeros([int(size) for size in spec.shape], np.dtype(spec.dtype)) for spec in self.inputs}
        try:
            self._bind(zeros)()
        except RunError as error:
            raise ModelLoadError(f"{path}: torch.compile cannot compile it: {error}") from error
        hits, misses = (counters["inductor"][f"fxgraph_cache_{kind}"] for kind in ("hit", "miss"))
        self.properties = {**self.properties, "inductor_cache": f"{hits} found, {misses} compiled"}

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        if self._call is None:
            raise RunError("the model is closed")
        return _TorchCall(self._call, feeds, tuple(spec.name for spec in self.outputs))

    def memory(self) -> RuntimeMemory:
        """Sum the tensors that the code refers to; torch does not report its allocator's memory for activations."""
        return RuntimeMemory(weights_bytes=self._weights_bytes, source="buffers of the module")

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the torch calls in execution order; ``kind`` is the function.

        Under ``torch-compile`` these are the calls passed to the compiler, which fuses them further. Times leave out
        the first run if there are more.
        """
        if self._graph is None:
            raise RunError("the model is closed")
        layers = []
        for node in self._graph.graph.nodes:
            if node.op in ("call_function", "call_method"):
                kind = node.target if isinstance(node.target, str) else node.target.__name__
                times = self._times[node.name]
                mean = undisturbed_mean(times) if times else None
                nodes = (node.meta["onnx"],) if "onnx" in node.meta else ()
                layers.append(LayerInfo(name=node.name, kind=kind, nodes=nodes, time_ns=mean))
        return tuple(layers)

    def close(self) -> None:
        self._graph = None
        self._call = None


class TorchBackend(Backend):
    """PyTorch, eager. For bf16 and fp16, weights and inputs are converted internally."""

    name = "torch"
    blocks_channels = True
    why_no_artefacts = "torch runs the code as it is: there is nothing compiled to keep"

    def load_runtime(self) -> None:
        """Import torch."""
        import onnx  # noqa: F401

        import_runtime("torch")

    def availability(self, device: str = "cpu") -> Availability:
        """Return whether torch is installed; only the CPU is supported."""
        if absent := missing("torch", _INSTALL):
            return absent
        version = version_of("torch")
        if device != "cpu":
            return Availability(
                ok=False,
                version=version,
                devices=("cpu",),
                reason=f"it runs on the CPU only, not on {device!r}",
                hint="pass --device cpu",
            )
        return Availability(ok=True, version=version, devices=("cpu",))

    def require_precision(self, model: Path, precision: Precision) -> None:
        """Reject quantised models, and a half precision other than the file's."""
        _require_precision(model, precision)

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        self.load_runtime()
        return _TorchModel(_read(model, options), options, compiled=False)


class TorchCompileBackend(TorchBackend):
    """PyTorch through `torch.compile`, default mode."""

    name = "torch-compile"
    why_no_layers = "backend 'torch-compile' cannot be profiled by layer: its kernels keep no ONNX node names"
    why_no_artefacts = (
        "torch.compile keeps a cache of its own, which is pickled; an AOTInductor package is another program than the "
        "one it runs"
    )

    def load_runtime(self) -> None:
        """Import torch and its compiler."""
        super().load_runtime()
        import_runtime("torch._inductor.compile_fx")

    def availability(self, device: str = "cpu") -> Availability:
        """Return whether torch and a C++ compiler are installed; only the CPU is supported."""
        state = super().availability(device)
        if state.ok and not any(shutil.which(name) for name in _COMPILERS):
            return Availability(
                ok=False,
                version=state.version,
                devices=state.devices,
                reason=f"torch.compile needs a C++ compiler and none of {', '.join(_COMPILERS)} is on the PATH",
                hint="install one (on Debian: apt-get install g++)",
            )
        return state

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        if options.profile:
            raise OptionError(self.why_no_layers)
        self.load_runtime()
        return _TorchModel(_read(model, options), options, compiled=True)


def _read(model: Path, options: CompileOptions) -> ModelFile:
    _require_precision(model, options.precision)
    file = modelfile.read(model)
    modelfile.require_numbers(file, "torch")
    return file


def _require_precision(model: Path, precision: Precision) -> None:
    if precision == "int8":
        raise OptionError("torch computes no int8 model here; measure it on ort or openvino")
    typed = modelfile.read(model).precision
    if typed == "int8":
        raise OptionError(f"{model} is typed int8: torch computes no such model here; measure it on ort or openvino")
    if typed not in ("fp32", precision):
        raise OptionError(f"{model} is typed {typed}: it cannot be executed in {precision}; pass --precision {typed}")


def _compiled(graph: Any) -> Callable[..., Any]:
    import torch
    import torch._dynamo.config
    import torch._inductor.config

    # Compile in this process only: no pool of compiler processes remains to disturb the measurement.
    torch._inductor.config.compile_threads = 1
    # Each new shape is compiled separately; dynamo keeps up to 64 of them.
    torch._dynamo.config.recompile_limit = 64
    function: Callable[..., Any] = torch.compile(graph, fullgraph=True, dynamic=False)
    return function


def _timed(graph: Any, times: dict[str, list[int]]) -> Callable[..., Any]:
    from torch import fx

    class Timer(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            start = time.perf_counter_ns()
            result = super().run_node(n)
            times[n.name].append(time.perf_counter_ns() - start)
            return result

    run: Callable[..., Any] = Timer(graph).run
    return run


def _executed(graph: Any, asked: Precision) -> Precision:
    """Return the precision of the weights that the code really uses."""
    names = {dtype: precision for precision, dtype in _DTYPES.items()}
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in graph.buffers() if tensor.is_floating_point()}
    if not dtypes or asked == "mixed":
        return asked
    if len(dtypes) > 1 or not dtypes <= names.keys():
        raise OptionError(f"torch would compute in {' and '.join(sorted(dtypes))}, {asked} was asked for")
    return names[dtypes.pop()]


def _to_torch(array: Array) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _to_numpy(tensor: Any) -> Array:
    torch: ModuleType = import_runtime("torch")
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.contiguous().view(torch.int16).numpy().view(np.dtype("bfloat16")).copy()
        return bits
    values: Array = tensor.contiguous().numpy().copy()
    return values
