"""OpenVINO backend, on the CPU.

Settings, and why:

* ``INFERENCE_PRECISION_HINT`` is always explicit: by default, OpenVINO computes an fp32 model in bf16 on every CPU that
  can. The executed precision is read back, from the property and from the compute layers of the compiled model.
* ``NUM_STREAMS`` and ``INFERENCE_NUM_THREADS`` (``threads * streams``: each stream has its own threads) are always
  explicit and read back: OpenVINO silently caps both at the cores; this backend raises an error instead. Thread pinning
  stays at its default and is recorded. With both set, the performance hint has no effect; it stays at latency.
* Tensors are set once; the timed call is `InferRequest.infer`.

OpenVINO's threads (TBB) sleep within about a millisecond after a call and do not disturb the next measurement, so
nothing is switched off here. Its Python package reports each import to its vendor; that is switched off.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from io import BytesIO
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
    TensorSpec,
)
from backends.errors import ArtefactError, ModelLoadError, OptionError, RunError, one_line, shortened
from backends.installed import import_runtime, missing, version_of
from backends.precision import layer_counts
from prune_deploy import how_to_install

if TYPE_CHECKING:
    from backends.modelfile import ModelFile

__all__ = ["OpenVinoBackend"]

_INSTALL = how_to_install("openvino")
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32", "mixed": "f32"}
_CAPABILITIES: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8", "mixed": "FP32"}
_PRECISIONS: dict[str, Precision] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
_COMPUTE_LAYERS = frozenset(
    {"Convolution", "Deconvolution", "FullyConnected", "MatMul", "RNNCell", "RNNSeq", "ScaledDotProductAttention"}
)
_BF16 = "bfloat16"
_NOT_EXECUTED = frozenset({"Const", "Input", "Output"})
_RECORDED = (
    "INFERENCE_PRECISION_HINT",
    "PERFORMANCE_HINT",
    "EXECUTION_MODE_HINT",
    "ENABLE_CPU_PINNING",
    "ENABLE_HYPER_THREADING",
    "SCHEDULING_CORE_TYPE",
    "CPU_DENORMALS_OPTIMIZATION",
    "RUNTIME_REQUIREMENTS",
)


class _OpenVinoCall(BoundCall):
    def __init__(
        self, request: Any, feeds: Mapping[str, Array], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> None:
        import openvino

        # Without sharing, every call copies the outputs into arrays that nobody uses.
        self._infer = partial(request.infer, share_outputs=True)
        self._request = request
        self._outputs = outputs
        self._feeds = feeds  # shared memory: the tensors refer to it
        try:
            for name, port in inputs.items():
                request.set_tensor(port, _shared(openvino, feeds[name]))
        except RuntimeError as error:
            raise RunError(f"openvino refuses an input: {_cause(error)}") from error

    def __call__(self) -> None:
        try:
            self._infer()
        except RuntimeError as error:
            raise RunError(f"openvino failed: {_cause(error)}") from error

    def outputs(self) -> dict[str, Array]:
        return {name: _array(self._request.get_tensor(port)) for name, port in self._outputs.items()}


class _ProfiledCall(_OpenVinoCall):
    """A call that keeps the first run's counters, to exclude set-up: the runtime only reports means over all runs."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._runs = 0
        self._first: dict[str, int] = {}

    def __call__(self) -> None:
        super().__call__()
        self._runs += 1
        if self._runs == 1:
            self._first = self._means()

    def times(self) -> dict[str, int]:
        """Return the mean nanoseconds of each layer over all runs but the first, which counts only if alone."""
        means = self._means()
        if self._runs < 2:
            return means
        later = self._runs - 1
        return {name: max(0, self._runs * ns - self._first.get(name, 0)) // later for name, ns in means.items()}

    def _means(self) -> dict[str, int]:
        times: dict[str, int] = defaultdict(int)
        for entry in self._request.profiling_info if self._runs else ():
            times[entry.node_name] += round(1e9 * entry.real_time.total_seconds())
        return times


class _OpenVinoModel(CompiledModel):
    def __init__(self, file: ModelFile, options: CompileOptions, compiled: Any) -> None:
        self.inputs, self.outputs = file.inputs, file.outputs
        self._compiled = compiled
        self._latest: _ProfiledCall | None = None
        self._profiled = options.profile
        self._input_ports = _ports(compiled.inputs, self.inputs)
        self._output_ports = _ports(compiled.outputs, self.outputs)
        supported = set(compiled.get_property("SUPPORTED_PROPERTIES"))
        recorded = {name: _text(compiled.get_property(name)) for name in _RECORDED if name in supported}
        streams, threads = _streams_and_threads(compiled, options)
        found = Counter(
            _computed_in(info, weights_alone=file.precision != "int8")
            for info in self._layer_infos()
            if info["layerType"] in _COMPUTE_LAYERS
        )
        self.properties = {
            "threads": str(threads // streams),
            "streams": str(streams),
            "compute_threads": str(threads),
            **recorded,
            "compute_layers": ", ".join(f"{name}: {count}" for name, count in sorted(found.items())),
        }
        hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.executed_precision = _executed(file, found, _PRECISIONS.get(hint, hint))
        self._file = file

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        if self._compiled is None:
            raise RunError("the model is closed")
        request = self._compiled.create_infer_request()
        if not self._profiled:
            return _OpenVinoCall(request, feeds, self._input_ports, self._output_ports)
        self._latest = _ProfiledCall(request, feeds, self._input_ports, self._output_ports)
        return self._latest

    def artefact(self) -> bytes:
        """Return OpenVINO's own export, weights included."""
        if self._compiled is None:
            raise RunError("the model is closed")
        try:
            blob: bytes = self._compiled.export_model().getvalue()
        except RuntimeError as error:
            raise ArtefactError(f"openvino cannot export the compiled model: {_cause(error)}") from error
        return blob

    def _layer_infos(self) -> list[dict[str, str]]:
        nodes = self._compiled.get_runtime_model().get_ordered_ops()
        infos = [{"name": node.get_friendly_name(), **_rt_info(node)} for node in nodes]
        return sorted(infos, key=lambda info: int(info["execOrder"]))

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the executed layers; ``kind`` is OpenVINO's layer type and kernel, ``Reorder`` a layout conversion.

        Times are means over all runs but the first; OpenVINO's clock has a resolution of 1 us.
        """
        if self._compiled is None:
            raise RunError("the model is closed")
        # OpenVINO names an unnamed node after its output.
        named = {
            alias: modelfile.node_name(node)
            for node in self._file.proto.graph.node
            for alias in (node.name, *node.output)
            if alias
        }
        times = {} if self._latest is None else self._latest.times()
        return tuple(
            LayerInfo(
                name=info["name"],
                kind=f"{info['layerType']}/{info['primitiveType']}",
                nodes=tuple(
                    dict.fromkeys(named[part] for part in info["originalLayersNames"].split(",") if part in named)
                ),
                time_ns=times.get(info["name"]),
            )
            for info in self._layer_infos()
            if info["layerType"] not in _NOT_EXECUTED
        )

    def close(self) -> None:
        self._latest = None
        self._compiled = None


class OpenVinoBackend(Backend):
    """OpenVINO's CPU plugin. It converts weights itself, so any precision the CPU can compute in may be chosen."""

    name = "openvino"
    blocks_channels = True
    why_no_artefacts = ""

    def load_runtime(self) -> None:
        """Import openvino."""
        import onnx  # noqa: F401

        _openvino()

    def availability(self, device: str = "cpu") -> Availability:
        """Return whether openvino is installed; only the CPU is supported."""
        if absent := missing("openvino", _INSTALL):
            return absent
        version = version_of("openvino")
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
        """Reject a precision that the file's types do not allow."""
        _require_precision(modelfile.read(model), precision)

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        file = _read(model, options)
        core, settings = _core_and_settings(options)
        try:
            return _OpenVinoModel(file, options, core.compile_model(str(model), "CPU", settings))
        except RuntimeError as error:
            raise ModelLoadError(f"{model}: openvino cannot compile it: {_cause(error)}") from error

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        file = _read(model, options)
        core, settings = _core_and_settings(options)
        try:
            compiled = core.import_model(BytesIO(blob), "CPU", settings)
        except RuntimeError as error:
            raise ArtefactError(f"openvino cannot import the stored model of {model}: {_cause(error)}") from error
        return _OpenVinoModel(file, options, compiled)


def _read(model: Path, options: CompileOptions) -> ModelFile:
    file = modelfile.read(model)
    modelfile.require_numbers(file, "openvino")
    _require_precision(file, options.precision)
    return file


def _require_precision(file: ModelFile, precision: Precision) -> None:
    if file.precision == "int8" and precision not in {"int8", "mixed"}:
        raise OptionError(f"{file.path} is typed int8: it cannot be executed in {precision}; pass --precision int8")
    if precision == "int8" != file.precision:
        raise OptionError(f"{file.path} is typed {file.precision}, int8 was asked for; quantise the model first")


def _core_and_settings(options: CompileOptions) -> tuple[Any, dict[str, Any]]:
    core = _openvino().Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES.get(options.precision) not in capabilities:
        able = [name for name, word in _CAPABILITIES.items() if word in capabilities]
        raise OptionError(
            f"backend 'openvino' cannot compute in {options.precision} on this CPU; it can in {', '.join(able)}"
        )
    return core, {
        "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
        "INFERENCE_NUM_THREADS": options.threads * options.streams,
        "NUM_STREAMS": options.streams,
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": options.profile,
        # By default, it computes products with low-bit weights in 8-bit integers.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }


def _streams_and_threads(compiled: Any, options: CompileOptions) -> tuple[int, int]:
    """Read back the number of streams and the total number of threads."""
    streams = int(compiled.get_property("NUM_STREAMS"))
    threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    if threads != options.threads * options.streams or streams != options.streams:
        asked = f"{options.threads} were asked for"
        if options.streams > 1:
            asked = f"{options.threads} in each of {options.streams} streams were asked for"
        raise OptionError(
            f"openvino uses {threads} threads, {asked}; this machine lets it have at most {threads} in all: "
            f"pass --threads {max(1, threads // options.streams)}"
        )
    return streams, threads


def _computed_in(info: Mapping[str, str], *, weights_alone: bool) -> str:
    """Return a layer's precision; if at most its weights are low-bit, its kernel's name gives it."""
    word = info["runtimePrecision"]
    if weights_alone and info["layerType"] == "FullyConnected":
        word = info["primitiveType"].rpartition("_")[2]
    return _PRECISIONS.get(word, word)


def _executed(file: ModelFile, found: Counter[str], hint: str) -> Precision:
    """Return the precision of the compute layers; `hint` if the model has none."""
    if file.precision == "int8":
        _, left = layer_counts(file.proto.graph, executed=False)
        kinds = {"int8"} if found["int8"] and found["fp32"] <= left else {"int8", "fp32"}
        kinds |= set(found) - {"int8", "fp32"}
    else:
        kinds = set(found) - {"fp32"} or set(found) or {hint}
    return next((name for name in _HINTS if kinds == {name}), "mixed")


def _openvino() -> ModuleType:
    """Import openvino with its telemetry switched off."""
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:
        return import_runtime("openvino")
    # None in sys.modules makes the import of the telemetry client fail; openvino then uses its own empty stand-in.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        return import_runtime("openvino")
    finally:
        del sys.modules[name]


def _ports(ports: Any, specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
    """Return ports by name, without unused inputs, which OpenVINO drops."""
    by_name = {name: port for port in ports for name in port.get_names()}
    return {spec.name: by_name[spec.name] for spec in specs if spec.name in by_name}


def _shared(openvino: ModuleType, array: Array) -> Any:
    """Return a tensor that shares an array's memory; bfloat16, which NumPy lacks, is passed as 16 bits."""
    if array.dtype.name != _BF16:
        return openvino.Tensor(array, shared_memory=True)
    return openvino.Tensor(array.view(np.uint16), openvino.Shape(array.shape), openvino.Type.bf16)


def _array(tensor: Any) -> Array:
    copy: Array = tensor.data.copy()
    return copy.view(np.dtype(_BF16)) if tensor.element_type.get_type_name() == "bf16" else copy


def _rt_info(node: Any) -> dict[str, str]:
    return {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}


def _text(value: Any) -> str:
    return value.to_string() if hasattr(value, "to_string") else str(value)


def _cause(error: BaseException) -> str:
    """Return an error's message without the lines that give its place in OpenVINO's source."""
    lines = [line.strip(" -") for line in str(error).splitlines()]
    said = [
        line
        for line in lines
        if line and not line.startswith(("Exception from ", "Check '", "FrontEnd API failed", "Summary:"))
    ]
    return shortened(" ".join(said) or one_line(error), 300)
