"""ONNX Runtime on the CPU.

What is set, and why:

* One session, sequential execution, all graph optimisations, the CPU execution provider and no other.
* ``session.force_spinning_stop``: the threads of one inference wait for each other by spinning, as ONNX Runtime does
  by default, but stop when the call returns. With the default they go on spinning and burn a core for tens of
  milliseconds after each call, into whatever is measured next. Switching spinning off altogether would charge ONNX
  Runtime a sleep and a wake-up between any two parallel operators, which its users do not pay. With the setting
  chosen, latencies are those of the default to within noise and nothing runs after the call.
* Inputs and outputs are bound once (`IOBinding`): no lookup by name and no NumPy conversion inside the timed call.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import modelfile
from backends.base import Array, Availability, Backend, BoundCall, CompiledModel, CompileOptions, LayerInfo
from backends.errors import ModelLoadError, OptionError, RunError, one_line
from backends.installed import import_runtime, missing, version_of

if TYPE_CHECKING:
    from backends.modelfile import ModelFile

__all__ = ["OrtBackend"]

_INSTALL = "onnxruntime"
_SEVERITY_ERROR = 3


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
                self._binding.bind_cpu_input(name, array)
            for name in outputs:
                self._binding.bind_output(name, "cpu")
        except failures as error:
            raise RunError(f"onnxruntime cannot bind the inputs: {one_line(error)}") from error

    def __call__(self) -> None:
        try:
            self._run(self._binding)
        except self._failures as error:
            raise RunError(f"onnxruntime failed: {one_line(error)}") from error

    def outputs(self) -> dict[str, Array]:
        values = self._binding.get_outputs()
        return {name: value.numpy().copy() for name, value in zip(self._names, values, strict=True)}


class _OrtModel(CompiledModel):
    def __init__(self, file: ModelFile, options: CompileOptions) -> None:
        self._file = file
        self._options = options
        self._failures = _failures()
        self._folder = tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") if options.profile else None
        self._layers: tuple[LayerInfo, ...] | None = None
        self.inputs, self.outputs = file.inputs, file.outputs
        profile = Path(self._folder.name) / "profile" if self._folder is not None else None
        self._session: Any = _session(file.path, options, profile=profile)
        # The CPU provider runs an fp32 graph in fp32. A half-precision graph it may well compute in fp32 between
        # casts of its own, so there the optimised graph is asked.
        self.executed_precision = file.precision
        if self.executed_precision != "fp32":
            self.executed_precision = self._optimised().precision
        settings = self._session.get_session_options()
        self.properties = {
            "threads": str(settings.intra_op_num_threads),
            "providers": ", ".join(self._session.get_providers()),
            "inter_op_num_threads": str(settings.inter_op_num_threads),
            "graph_optimization_level": settings.graph_optimization_level.name,
            "execution_mode": settings.execution_mode.name,
            "force_spinning_stop": settings.get_session_config_entry("session.force_spinning_stop"),
        }

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        if self._session is None:
            raise RunError("the model is closed")
        return _OrtCall(self._session, feeds, tuple(spec.name for spec in self.outputs), self._failures)

    def _optimised(self) -> ModelFile:
        with tempfile.TemporaryDirectory(prefix="prune-deploy-ort-") as folder:
            target = Path(folder) / "optimised.onnx"
            _session(self._file.path, self._options, optimised=target)
            return modelfile.read(target)

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the nodes of the optimised graph in execution order.

        With ``profile=True`` the first call after a run ends the profile: runs made later are not counted. The first
        execution of each node is left out where there are more. ONNX Runtime's clock has a resolution of 1 us.
        """
        from backends.ort_layers import trace_back

        if self._layers is None:
            optimised = self._optimised()
            self._layers = trace_back(self._file.proto.graph, optimised.proto.graph)
        if self._folder is not None and self._session is not None:
            times = _mean_times(Path(self._session.end_profiling()))
            if times:
                self._layers = tuple(
                    LayerInfo(name=layer.name, kind=layer.kind, nodes=layer.nodes, time_ns=times.get(layer.name))
                    for layer in self._layers
                )
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

    The precision is that of the ONNX file: ONNX Runtime does not lower it, so asking for another one is refused.
    """

    name = "ort"

    def load_runtime(self) -> None:
        """Import onnxruntime."""
        import onnx  # noqa: F401

        import_runtime("onnxruntime", _INSTALL)

    def availability(self, device: str = "cpu") -> Availability:
        """Tell whether onnxruntime is installed; only the CPU is served."""
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

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        self.load_runtime()
        file = modelfile.read(model)
        if file.precision != options.precision:
            raise OptionError(
                f"backend 'ort' computes in the types of the file: {model} is {file.precision}, "
                f"{options.precision} was asked for; export the model in {options.precision}"
            )
        return _OrtModel(file, options)


def _failures() -> tuple[type[Exception], ...]:
    """List the error classes of onnxruntime; they share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (getattr(state, name) for name in dir(state))
    return tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))


def _session(path: Path, options: CompileOptions, *, profile: Path | None = None, optimised: Path | None = None) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = _SEVERITY_ERROR
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile)
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    try:
        # Without enable_fallback=0 a failure prints to stdout and tries again with other providers.
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0)
    except _failures() as error:
        raise ModelLoadError(f"{path}: onnxruntime cannot load it: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """Strip what onnxruntime puts before the cause: ``[ONNXRuntimeError] : 1 : FAIL : Load model from x failed:``."""
    text = one_line(error, limit=2000)
    for marker in ("This is an invalid model. ", "failed:", "[ONNXRuntimeError] : "):
        _, found, rest = text.partition(marker)
        if found:
            text = rest
            break
    return text if len(text) <= 300 else f"{text[:297]}..."


def _mean_times(trace: Path) -> dict[str, int]:
    """Give the mean time of each node in nanoseconds from a profile; the first execution counts only when alone."""
    durations: dict[str, list[int]] = defaultdict(list)
    for event in json.loads(trace.read_text(encoding="utf-8")):
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            durations[name.removesuffix("_kernel_time")].append(int(event["dur"]))
    return {name: round(1000 * sum(us[1:] or us) / len(us[1:] or us)) for name, us in durations.items()}
