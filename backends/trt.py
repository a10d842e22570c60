"""TensorRT and TensorRT-RTX behind one adapter.

The Python packages ``tensorrt`` (10.x, 11.x) and ``tensorrt_rtx`` share an API family; what differs is looked up in
the module at hand (`_Dialect`), never by version number.

* Networks are always strongly typed: the precision is that of the ONNX file, on every version. For fp16 or bf16 the
  file itself must be typed so. (The per-layer precision flags of 10.x are gone in 11.x and are not used.)
* TF32, on by default, is off: fp32 means fp32.
* A free dimension is compiled for 1 to 64 and tuned for 1; `CompiledModel.properties` repeat it.
* ``device="sm_XY"`` compiles for that compute capability without a GPU (TensorRT-RTX) and lists the layers; the engine
  cannot run there. Without a driver an engine cannot even be opened, so its layers are read from the report that the
  builder logs; with a GPU they come from the engine inspector.
* Each call has an execution context and a CUDA stream of its own: calls of several host threads run at once.
* A compiled artefact is the serialised engine behind one line of JSON, the properties that it was built with.
* Quantised files are refused: nothing here reads back which of their layers were executed on integers.
* One call is: copy from pinned host memory, ``execute_async_v3``, copy back to pinned host memory, wait.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from backends import modelfile
from backends.base import (
    Array,
    Availability,
    Backend,
    BoundCall,
    CompiledModel,
    CompileOptions,
    DeviceTimer,
    LayerInfo,
    Precision,
    RuntimeMemory,
)
from backends.errors import ArtefactError, BackendUnavailableError, ModelLoadError, OptionError, RunError, one_line
from backends.installed import import_runtime, version_of
from backends.precision import COMPUTE_OPERATORS

if TYPE_CHECKING:
    from backends.modelfile import ModelFile
    from backends.trt_device import TrtCall, TrtTimer

__all__ = ["LARGEST_FREE_DIMENSION", "TrtBackend"]

LARGEST_FREE_DIMENSION = 64

_INSTALL = {"tensorrt": "'prune-deploy[tensorrt]'", "tensorrt_rtx": "'prune-deploy[tensorrt-rtx]'"}
_NO_GPU = "no NVIDIA GPU or driver found on this machine"
_NO_GPU_HINT = "run it on a machine with an NVIDIA GPU, or compile without running, for example with --device sm_89"
_TYPES: dict[str, Precision] = {
    "Float": "fp32",
    "FP32": "fp32",
    "Half": "fp16",
    "FP16": "fp16",
    "BFloat16": "bf16",
    "BF16": "bf16",
}


@dataclass(frozen=True)
class _Dialect:
    """What one version of the package can do.

    Parameters
    ----------
    module : ModuleType
        ``tensorrt`` or ``tensorrt_rtx``.
    typed_flag : int
        Flags of `create_network` for a strongly typed network; 0 where there is no other kind.
    capabilities : tuple of str
        Compute capabilities (``"sm_89"``) it compiles for without a GPU.
    """

    module: ModuleType
    typed_flag: int
    capabilities: tuple[str, ...]

    @classmethod
    def of(cls, module: ModuleType) -> _Dialect:
        members = module.NetworkDefinitionCreationFlag.__members__
        # 10.x has weakly typed networks as well and wants the flag; its bit has moved between versions.
        weak = hasattr(module.BuilderFlag, "FP16")
        named = getattr(module, "ComputeCapability", None)
        names = named.__members__ if named is not None else ()
        return cls(
            module=module,
            typed_flag=1 << int(members["STRONGLY_TYPED"]) if weak else 0,
            capabilities=tuple(f"sm_{name[2:]}" for name in names if name.startswith("SM")),
        )


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    nodes: tuple[str, ...]
    types: frozenset[str]


class _TrtModel(CompiledModel):
    """An engine; what can run it is a subclass."""

    def __init__(self, file: ModelFile, layers: tuple[_Layer, ...], properties: dict[str, str]) -> None:
        self.inputs, self.outputs = file.inputs, file.outputs
        self.properties = properties
        # TensorRT calls a node without a name after its output.
        unnamed = {f"node_of_{node.output[0]}": node.output[0] for node in file.proto.graph.node if not node.name}
        self._layers = tuple(
            replace(layer, nodes=tuple(unnamed.get(name, name) for name in layer.nodes)) for layer in layers
        )
        self._times: dict[str, list[float]] = defaultdict(list)
        compute = {node.name or node.output[0] for node in file.proto.graph.node if node.op_type in COMPUTE_OPERATORS}
        types = {name for layer in self._layers if compute & set(layer.nodes) for name in layer.types}
        found = {_TYPES[name] for name in types if name in _TYPES}
        if len(found) > 1:
            raise OptionError(f"TensorRT executes {file.path} in {' and '.join(sorted(found))}")
        self.executed_precision = found.pop() if found else file.precision

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:  # noqa: ARG002  the same answer for all feeds
        raise BackendUnavailableError(
            f"the engine was compiled for {self.properties['device']} and cannot run here; {_NO_GPU_HINT}"
        )

    def artefact(self) -> bytes:
        """Refuse: the engine can only be opened on the GPU that it is for."""
        raise ArtefactError(f"the engine was compiled for {self.properties['device']} and cannot be loaded here")

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the layers of the engine. Times leave out the first run where there are more."""
        infos = []
        for layer in self._layers:
            times = self._times[layer.name][1:] or self._times[layer.name]
            mean = round(sum(times) / len(times)) if times else None
            infos.append(LayerInfo(name=layer.name, kind=layer.kind, nodes=layer.nodes, time_ns=mean))
        return tuple(infos)

    def close(self) -> None:
        pass


class _RunnableModel(_TrtModel):
    """An engine opened on the current GPU."""

    def __init__(
        self, dialect: _Dialect, file: ModelFile, options: CompileOptions, built: tuple[Any, dict[str, str]], log: Any
    ) -> None:
        plan, self._built = built
        trt = dialect.module
        self._trt = trt
        self._log = log
        self._runtime: Any = trt.Runtime(log)
        self._engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelLoadError(f"{file.path}: TensorRT cannot open the engine: {log.last_error}")
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        properties = {**self._built, "device_memory_bytes": str(self._engine.device_memory_size_v2)}
        super().__init__(file, _layers_of_inspector(text), properties)
        self._profiled = options.profile
        self._index = _index(options.device)
        self._open: list[TrtCall | TrtTimer] = []

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        return self._bound(feeds)

    def _bound(self, feeds: Mapping[str, Array]) -> TrtCall:
        from backends.trt_device import TrtCall

        if self._engine is None:
            raise RunError("the model is closed")
        context = self._engine.create_execution_context()
        profiler = _profiler(self._trt, self._times) if self._profiled else None
        if profiler is not None:
            context.profiler = profiler
        call = TrtCall(context, feeds, self.outputs, self._log, self._index)
        self._open.append(call)
        return call

    def _device_timer(self, feeds: Mapping[str, Array], in_flight: int) -> DeviceTimer:
        from backends.trt_device import TrtTimer

        if self._profiled:
            raise OptionError("a profiled model is not timed: its layers wait for each other; leave profile off")
        timer = TrtTimer(self._bound(feeds), in_flight)
        self._open.append(timer)
        return timer

    def memory(self) -> RuntimeMemory:
        """Give what the engine says: its weights, and the memory of one execution context."""
        if self._engine is None:
            raise RunError("the model is closed")
        weights = None
        if hasattr(self._trt, "EngineStat"):
            weights = int(self._engine.get_engine_stat(self._trt.EngineStat.TOTAL_WEIGHTS_SIZE))
        arena = int(self._engine.device_memory_size_v2)
        return RuntimeMemory(weights_bytes=weights, arena_bytes=arena, source="engine: device memory")

    def artefact(self) -> bytes:
        """Give the properties as a line of JSON, and the serialised engine."""
        if self._engine is None:
            raise RunError("the model is closed")
        plan = self._engine.serialize()
        if plan is None:
            raise ArtefactError(f"TensorRT cannot serialise the engine: {self._log.last_error}")
        return json.dumps(self._built).encode() + b"\n" + bytes(plan)

    def close(self) -> None:
        for item in reversed(self._open):
            item.close()
        self._open.clear()
        self._engine = None
        self._runtime = None


class TrtBackend(Backend):
    """``tensorrt`` where it is installed, else ``tensorrt_rtx``; the latter for ``device="sm_XY"``."""

    name = "trt"
    default_device = "cuda"
    default_threads = 1  # of the CPU, which only hands the work over
    why_no_artefacts = ""

    def load_runtime(self) -> None:
        """Import TensorRT."""
        import onnx  # noqa: F401

        for name in _installed():
            import_runtime(name, _INSTALL[name])

    def availability(self, device: str = "cpu") -> Availability:
        """Tell whether TensorRT is installed and `device` is there; ``sm_XY`` needs no GPU."""
        installed = _installed()
        version = ", ".join(f"{name} {version_of(name, f'{name}-cu13', f'{name}-cu12')}" for name in installed) or None
        if not installed:
            return Availability(
                ok=False,
                reason="neither tensorrt nor tensorrt_rtx is installed",
                hint=f"pip install {_INSTALL['tensorrt_rtx']} (or {_INSTALL['tensorrt']})",
            )
        gpus = _gpus()
        devices = (*gpus, *(["sm_XY (compile only)"] if "tensorrt_rtx" in installed else []))
        reason, hint = "", ""
        if device.startswith("sm_"):
            if "tensorrt_rtx" not in installed:
                reason = "only TensorRT-RTX compiles for a named compute capability, and it is not installed"
                hint = f"pip install {_INSTALL['tensorrt_rtx']}"
        elif not gpus:
            reason, hint = _NO_GPU, _NO_GPU_HINT
        elif device == "cpu":
            reason, hint = "it runs on NVIDIA GPUs only", "pass --device cuda"
        elif _index(device) >= len(gpus):
            reason = f"there is no {device}; this machine has {len(gpus)} GPU(s)"
            hint = f"pass --device cuda:0 to cuda:{len(gpus) - 1}"
        elif not _has_cuda_bindings():
            reason, hint = "cuda-bindings is not installed", f"pip install {_INSTALL[installed[0]]}"
        return Availability(ok=not reason, version=version, devices=devices, reason=reason, hint=hint)

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        dialect, file = _checked(model, options)
        log = _logger(dialect.module)
        built = _build(dialect, file, options, log)
        if options.device.startswith("sm_"):
            return _TrtModel(file, _layers_of_report(log.report), built[1])
        return _RunnableModel(dialect, file, options, built, log)

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        if options.device.startswith("sm_"):
            raise ArtefactError(f"an engine for {options.device} cannot be loaded here")
        dialect, file = _checked(model, options)
        head, _, plan = blob.partition(b"\n")
        try:
            properties = {str(key): str(value) for key, value in json.loads(head).items()}
        except (ValueError, AttributeError) as error:
            raise ArtefactError("this is no artefact of backend 'trt'") from error
        try:
            return _RunnableModel(dialect, file, options, (plan, properties), _logger(dialect.module))
        except ModelLoadError as error:
            raise ArtefactError(str(error)) from error


def _checked(model: Path, options: CompileOptions) -> tuple[_Dialect, ModelFile]:
    """Check the options, make the GPU the current one, and read the file."""
    named = options.device.startswith("sm_")
    name = "tensorrt_rtx" if named else _installed()[0]
    dialect = _Dialect.of(import_runtime(name, _INSTALL[name]))
    if options.threads != 1:
        raise OptionError(f"backend 'trt' computes on a GPU: threads must be 1, got {options.threads}")
    if named and options.device not in dialect.capabilities:
        raise OptionError(
            f"{name} does not compile for {options.device}; it does for {', '.join(dialect.capabilities)}"
        )
    if named and options.profile:
        raise OptionError(f"{options.device} is compiled without running: layers have no times; leave profile off")
    if options.precision == "int8":
        raise OptionError("backend 'trt' measures no quantised models; measure them on ort or openvino")
    file = modelfile.read(model)
    modelfile.require_numbers(file, "trt")
    if file.precision != options.precision:
        raise OptionError(
            f"backend 'trt' computes in the types of the file: {model} is {file.precision}, "
            f"{options.precision} was asked for; export the model in {options.precision}"
        )
    if not named:
        from backends.trt_device import set_device

        set_device(_index(options.device))
    return dialect, file


def _build(dialect: _Dialect, file: ModelFile, options: CompileOptions, log: Any) -> tuple[Any, dict[str, str]]:
    trt = dialect.module
    builder = trt.Builder(log)
    network = builder.create_network(dialect.typed_flag)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(file.path)):
        raise ModelLoadError(f"{file.path}: TensorRT cannot read it: {_parser_errors(parser)}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.device.startswith("sm_"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{options.device[3:]}"), 0)
    free = _add_profile(builder, config, network, file)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelLoadError(f"{file.path}: TensorRT cannot build an engine: {log.last_error}")
    properties = {
        "runtime": f"{trt.__name__} {trt.__version__}",
        "device": options.device,
        "threads": "1",
        "streams": str(options.streams),
        "compute_threads": str(options.streams),
        "strongly_typed": "True",
        "tf32": str(config.get_flag(trt.BuilderFlag.TF32)),
        "builder_optimization_level": str(config.builder_optimization_level),
        "engine_bytes": str(plan.nbytes),
    }
    if free:
        properties["free_dimensions"] = f"{', '.join(free)}: 1 to {LARGEST_FREE_DIMENSION}, tuned for 1"
    return plan, properties


def _add_profile(builder: Any, config: Any, network: Any, file: ModelFile) -> list[str]:
    """Give the free dimensions their range; return their names."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    if shape_tensor := next((tensor.name for tensor in tensors if tensor.is_shape_tensor), None):
        raise ModelLoadError(f"{file.path}: input {shape_tensor!r} decides shapes; TensorRT needs fixed ones")
    free = [spec for spec in file.inputs if any(isinstance(size, str) for size in spec.shape)]
    if not free:
        return []
    profile = builder.create_optimization_profile()
    for spec in free:
        smallest = [size if isinstance(size, int) else 1 for size in spec.shape]
        largest = [size if isinstance(size, int) else LARGEST_FREE_DIMENSION for size in spec.shape]
        profile.set_shape(spec.name, smallest, smallest, largest)
    config.add_optimization_profile(profile)
    return list(dict.fromkeys(size for spec in free for size in spec.shape if isinstance(size, str)))


def _parser_errors(parser: Any) -> str:
    errors = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        where = f"operator {error.node_operator()!r} (node {error.node_name()!r}): " if error.node_operator() else ""
        # A node that no importer knows is looked for among the plugins.
        text = "it is not known" if "Plugin not found" in error.desc() else one_line(RuntimeError(error.desc()), 200)
        errors.append(where + text)
    return "; ".join(errors) or "no reason given"


def _logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        """Keeps the last error and the builder's report of the layers; prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "no reason given"
            self.report = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last_error = one_line(RuntimeError(message), 300)
            elif message.startswith("Layers:\n"):
                self.report = message

    return Logger()


def _profiler(trt: ModuleType, times: dict[str, list[float]]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            times[name].append(1e6 * milliseconds)

    return Profiler()


def _onnx_nodes(metadata: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[ONNX Layer: (.*?)\]", metadata))


def _layers_of_report(report: str) -> tuple[_Layer, ...]:
    """Read the builder's report: one layer a line, ``Name: .., LayerType: .., .., Outputs: [..], .., Metadata: ..``."""
    layers = []
    for line in report.splitlines():
        if match := re.match(r"Name: (.*?), LayerType: (.*?), Inputs: .*?, Outputs: \[(.*)\], TacticName: (.*)", line):
            name, kind, outputs, rest = match.groups()
            types = frozenset(re.findall(r"Datatype: (\w+)", outputs))
            layers.append(_Layer(name, kind, _onnx_nodes(rest.partition("Metadata:")[2]), types))
    return tuple(layers)


def _layers_of_inspector(text: str) -> tuple[_Layer, ...]:
    """Read the inspector's JSON; types are ``Datatype: Float`` (11.x, RTX) or the last word of a format (10.x)."""
    layers = []
    for entry in json.loads(text)["Layers"]:
        said = " ".join(str(output.get("Datatype") or output.get("Format/Datatype", "")) for output in entry["Outputs"])
        types = frozenset(word for word in re.findall(r"\w+", said) if word in _TYPES)
        layers.append(_Layer(entry["Name"], entry["LayerType"], _onnx_nodes(entry.get("Metadata", "")), types))
    return tuple(layers)


def _installed() -> tuple[str, ...]:
    return tuple(name for name in ("tensorrt", "tensorrt_rtx") if find_spec(name) is not None)


def _has_cuda_bindings() -> bool:
    return find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def _gpus() -> tuple[str, ...]:
    """Name the GPUs, asking the driver alone: no context is made and no runtime loaded."""
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
