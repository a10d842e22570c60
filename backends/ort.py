"""ONNX Runtime backend, on the CPU.

Settings, and why:

* One session, sequential execution, all graph optimisations, only the CPU execution provider.
* ``session.force_spinning_stop``: the threads of one inference wait for each other by spinning, as ONNX Runtime does
  by default, but stop when the call returns. By default they keep spinning and burn a core for tens of milliseconds
  after each call, disturbing whatever is measured next. Disabling spinning altogether would charge ONNX Runtime a sleep
  and a wake-up between any two parallel operators, which its users do not pay. With this setting, latencies match the
  default to within noise and nothing runs after the call.
* Inputs and outputs are bound once (`IOBinding`): no lookup by name and no NumPy conversion inside the timed call.
* Streams are concurrent runs of the one session: each uses its caller's thread, and all share the session's
  ``threads - 1`` helpers.

A compiled artefact is the optimised graph, loaded with all optimisations off: the stored graph is executed node for
node. It contains kernel layouts of one CPU, so it is valid only for that CPU and runtime version.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from backends.errors import ArtefactError, ModelLoadError, RunError
from backends.installed import import_runtime, missing, version_of
from backends.ort_errors import cause, failures, run_error
from backends.ort_profile import node_events, node_times, trace_back
from backends.ort_values import array_of, arrays_of, value_of, values_of
from backends.precision import is_quantised, layer_counts

if TYPE_CHECKING:
    import onnx

    from backends.modelfile import ModelFile

__all__ = ["OrtBackend"]

_INSTALL = "pip install onnxruntime"
_OPTIMISED = "optimised.onnx"
_SEVERITY_ERROR = 3
_READ_BACK: Mapping[Precision, frozenset[Precision]] = {
    "fp16": frozenset({"fp32"}),
    "bf16": frozenset({"fp32"}),
    "mixed": frozenset({"fp64", "fp32", "fp16", "bf16"}),
    "int8": frozenset({"mixed"}),
}
"""Other precisions a file may be executed in, by its own precision; only the optimised graph tells which one is."""


class _OrtCall(BoundCall):
    def __init__(
        self,
        session: Any,
        feeds: Mapping[str, Array],
        outputs: tuple[str, ...],
        failures: tuple[type[Exception], ...],
    ) -> None:
        self._run = session.run_with_iobinding
        self._names = outputs
        self._failures = failures
        self._feeds = feeds  # the binding refers to their memory without owning it
        self._binding = session.io_binding()
        try:
            for name, array in feeds.items():
                value = value_of(array)
                if value is array:
                    self._binding.bind_cpu_input(name, array)
                else:
                    self._binding.bind_ortvalue_input(name, value)
            for name in outputs:
                self._binding.bind_output(name, "cpu")
        except failures as error:
            raise RunError(f"onnxruntime cannot bind the inputs: {cause(error)}") from error

    def __call__(self) -> None:
        try:
            self._run(self._binding)
        except self._failures as error:
            raise run_error(error, "onnxruntime failed") from error

    def outputs(self) -> dict[str, Array]:
        values = self._binding.get_outputs()
        return {name: array_of(value) for name, value in zip(self._names, values, strict=True)}


class _OrtUnboundCall(BoundCall):
    """A call with text, sequences or maps among its inputs or outputs, which ONNX Runtime cannot bind.

    Each call converts text again.
    """

    def __init__(
        self,
        session: Any,
        feeds: Mapping[str, Any],
        outputs: tuple[str, ...],
        failures: tuple[type[Exception], ...],
    ) -> None:
        self._run = session.run
        self._names = list(outputs)
        self._feeds = dict(feeds)
        self._failures = failures
        self._answers: list[Any] = []

    def __call__(self) -> None:
        try:
            self._answers = self._run(self._names, self._feeds)
        except self._failures as error:
            raise run_error(error, "onnxruntime failed") from error

    def outputs(self) -> dict[str, Array]:
        answers = zip(self._names, self._answers, strict=True)
        return {name: array for output, value in answers for name, array in arrays_of(output, value)}


class _OrtModel(CompiledModel):
    def __init__(self, file: ModelFile, options: CompileOptions, artefact: bytes | None = None) -> None:
        self._file = file
        self._options = options
        self._failures = failures()
        self._folder = tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") if options.profile else None
        self._layers: tuple[LayerInfo, ...] | None = None
        self._executed_graph: onnx.GraphProto
        self._memory = RuntimeMemory()
        self.inputs, self.outputs = file.inputs, file.outputs
        profile = Path(self._folder.name) / "profile" if self._folder is not None else None
        if artefact is None:
            # Profiling needs the optimised graph of the very session that runs, so that session writes it.
            optimised = None if profile is None else profile.with_name(_OPTIMISED)
            self._session: Any = _session(file.path, options, profile=profile, optimised=optimised, own_weights=True)
        else:
            self._session = _session_of_artefact(artefact, file.path, options, profile)
        settings = self._session.get_session_options()
        threads = settings.intra_op_num_threads
        self.properties = {
            "threads": str(threads),
            "streams": str(options.streams),
            "compute_threads": str(threads - 1 + options.streams),
            "providers": ", ".join(self._session.get_providers()),
            "inter_op_num_threads": str(settings.inter_op_num_threads),
            "graph_optimization_level": settings.graph_optimization_level.name,
            "execution_mode": settings.execution_mode.name,
            "force_spinning_stop": settings.get_session_config_entry("session.force_spinning_stop"),
        }
        self.executed_precision = self._executed()

    def _executed(self) -> Precision:
        """Return the executed precision, read from the optimised graph unless the file is plain fp32.

        The CPU provider runs an fp32 graph in fp32. It may compute a half-precision graph in fp32 between casts of its
        own, and a quantised layer that it cannot fuse in fp32 on the dequantised factors.
        """
        typed = self._file.precision
        if typed == "fp32" and not is_quantised(self._file.proto.graph):
            return typed
        optimised = self._optimised()
        integers, in_float = layer_counts(optimised.proto.graph, executed=True)
        if typed != "int8":
            return "int8" if integers else optimised.precision
        _, left = layer_counts(self._file.proto.graph, executed=False)
        self.properties = {**self.properties, "compute_layers": f"fp32: {in_float}, int8: {integers}"}
        return "mixed" if in_float > left else "int8"

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        if self._session is None:
            raise RunError("the model is closed")
        names = tuple(spec.name for spec in self.outputs)
        if all(spec.kind == "tensor" and spec.dtype != "object" for spec in (*self.inputs, *self.outputs)):
            return _OrtCall(self._session, feeds, names, self._failures)
        return _OrtUnboundCall(self._session, values_of(self.inputs, feeds), names, self._failures)

    def _optimised(self) -> ModelFile:
        if self._folder is not None and (written := Path(self._folder.name) / _OPTIMISED).is_file():
            return modelfile.read(written)
        with tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") as folder:
            target = Path(folder) / _OPTIMISED
            _session(self._file.path, self._options, optimised=target, own_weights=True)
            return modelfile.read(target)

    def artefact(self) -> bytes:
        """Return the optimised graph, weights included, as ONNX."""
        with tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") as folder:
            target = Path(folder) / _OPTIMISED
            try:
                _session(self._file.path, self._options, optimised=target)
            except ModelLoadError as error:
                raise ArtefactError(f"onnxruntime cannot write its optimised graph: {error}") from error
            return target.read_bytes()

    def memory(self) -> RuntimeMemory:
        """Return the profiled memory: set only with ``profile=True``, after a run and after `layers`."""
        return self._memory

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the nodes of the optimised graph in execution order.

        With ``profile=True``, the first call after a run ends the profile: later runs are not counted. The first
        execution of each node is left out if there are more. ONNX Runtime's clock has a resolution of 1 us.
        """
        if self._layers is None:
            self._executed_graph = self._optimised().proto.graph
            self._layers = trace_back(self._file.proto.graph, self._executed_graph)
        if self._folder is not None and self._session is not None:
            events = node_events(json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8")))
            self._memory = _memory(events)
            if events:
                times = node_times(self._executed_graph, events)
                self._layers = tuple(replace(layer, time_ns=ns) for layer, ns in zip(self._layers, times, strict=True))
            self._folder.cleanup()
            self._folder = None
        return self._layers

    def close(self) -> None:
        if self._folder is not None:
            self._session.end_profiling()
            self._folder.cleanup()
            self._folder = None
        self._session = None


class OrtBackend(Backend):
    """ONNX Runtime, CPU execution provider.

    The precision is that of the ONNX file: ONNX Runtime does not lower it, so a request for another is rejected. Types
    without CPU kernels are computed in fp32, and measured under that name.
    """

    name = "ort"
    blocks_channels = True
    why_no_artefacts = ""

    def load_runtime(self) -> None:
        """Import onnxruntime."""
        import onnx  # noqa: F401

        import_runtime("onnxruntime")

    def availability(self, device: str = "cpu") -> Availability:
        """Return whether onnxruntime is installed; only the CPU is supported."""
        if absent := missing("onnxruntime", _INSTALL):
            return absent
        version = version_of("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
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
        """Reject a precision that is neither the file's nor one it may be executed in instead."""
        _require_precision(modelfile.read(model), precision)

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        return _OrtModel(self._read(model, options), options)

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        return _OrtModel(self._read(model, options), options, blob)

    def _read(self, model: Path, options: CompileOptions) -> ModelFile:
        self.load_runtime()
        file = modelfile.read(model)
        _require_precision(file, options.precision)
        return file


def _require_precision(file: ModelFile, precision: Precision) -> None:
    if precision not in _READ_BACK.get(file.precision, ()):
        modelfile.require_typed(file, precision, OrtBackend.name)


def _session(
    path: Path,
    options: CompileOptions,
    *,
    profile: Path | None = None,
    optimised: Path | None = None,
    is_optimised: bool = False,
    own_weights: bool = False,
) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    settings.graph_optimization_level = levels.ORT_DISABLE_ALL if is_optimised else levels.ORT_ENABLE_ALL
    settings.log_severity_level = _SEVERITY_ERROR
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    # By default, it computes products with 4-bit weights in 8-bit integers.
    settings.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    if optimised is not None and own_weights:
        # Otherwise the graph would refer to the model's own data file, which is in another folder.
        settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        settings.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "0")
    try:
        # Without enable_fallback=0, a failure prints to stdout and retries with other providers.
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except failures() as error:
        raise ModelLoadError(f"{path}: onnxruntime cannot load it: {cause(error)}") from error


def _session_of_artefact(artefact: bytes, path: Path, options: CompileOptions, profile: Path | None) -> Any:
    # Through a file: a session created from bytes keeps them in memory for its lifetime.
    with tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") as folder:
        optimised = Path(folder) / _OPTIMISED
        optimised.write_bytes(artefact)
        try:
            return _session(optimised, options, profile=profile, is_optimised=True)
        except ModelLoadError as error:
            reason = cause(error.__cause__ or error)
            raise ArtefactError(f"onnxruntime cannot load the stored graph of {path}: {reason}") from error


def _memory(nodes: list[dict[str, Any]]) -> RuntimeMemory:
    """Read the arena size from a profile: before the first node runs, only the weights are in use."""
    facts = [event["args"] for event in nodes if "mem_arena_held" in event.get("args", {})]
    if not facts:
        return RuntimeMemory()
    weights = int(facts[0]["mem_bytes_in_use"]) - int(facts[0]["mem_in_use_delta"])
    held = max(int(fact["mem_arena_held"]) for fact in facts)
    return RuntimeMemory(weights_bytes=weights, arena_bytes=max(0, held - weights), source="profile: arena of the CPU")
