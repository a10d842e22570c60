"""TensorRT engines as `CompiledModel`: one that only lists its layers, and one that runs on a GPU."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from backends.base import BoundCall, CompiledModel, DeviceTimer
from backends.errors import ArtefactError, BackendUnavailableError, ModelLoadError, OptionError, RunError
from backends.modelfile import ModelFile, node_name
from backends.precision import COMPUTE_OPERATORS
from backends.records import Array, CompileOptions, LayerInfo, RuntimeMemory
from backends.trt.build import Dialect
from backends.trt.device import TrtCall, TrtTimer
from backends.trt.installed import NO_GPU_HINT, gpu_index
from backends.trt.layers import TYPES, EngineLayer, layers_of_inspector

__all__ = ["RunnableModel", "TrtModel"]


class TrtModel(CompiledModel):
    """A compiled engine that lists its layers; `RunnableModel` can also run it."""

    def __init__(self, file: ModelFile, layers: tuple[EngineLayer, ...], properties: dict[str, str]) -> None:
        self.inputs, self.outputs = file.inputs, file.outputs
        self.properties = properties
        # TensorRT names an unnamed node after its output.
        unnamed = {f"node_of_{node_name(node)}": node_name(node) for node in file.proto.graph.node if not node.name}
        self._layers = tuple(
            replace(layer, nodes=tuple(unnamed.get(name, name) for name in layer.nodes)) for layer in layers
        )
        self._times: dict[str, list[float]] = defaultdict(list)
        compute = {node_name(node) for node in file.proto.graph.node if node.op_type in COMPUTE_OPERATORS}
        types = {name for layer in self._layers if compute & set(layer.nodes) for name in layer.types}
        executed = {TYPES[name] for name in types if name in TYPES}
        if len(executed) > 1:
            raise OptionError(f"TensorRT executes {file.path} in {' and '.join(sorted(executed))}")
        self.executed_precision = executed.pop() if executed else file.precision

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:  # noqa: ARG002  the same answer for all feeds
        raise BackendUnavailableError(
            f"the engine was compiled for {self.properties['device']} and cannot run here; {NO_GPU_HINT}"
        )

    def artefact(self) -> bytes:
        """Refuse: the engine can only be opened on the GPU it was compiled for.

        Raises
        ------
        ArtefactError
            Always.
        """
        raise ArtefactError(f"the engine was compiled for {self.properties['device']} and cannot be loaded here")

    def layers(self) -> tuple[LayerInfo, ...]:
        """List the layers of the engine. Times leave out the first run if there are more."""
        infos = []
        for layer in self._layers:
            times = self._times[layer.name][1:] or self._times[layer.name]
            mean = round(sum(times) / len(times)) if times else None
            infos.append(LayerInfo(name=layer.name, kind=layer.kind, nodes=layer.nodes, time_ns=mean))
        return tuple(infos)

    def close(self) -> None:
        """Do nothing: no engine is open."""


class RunnableModel(TrtModel):
    """An engine opened on the current GPU."""

    def __init__(
        self, dialect: Dialect, file: ModelFile, options: CompileOptions, built: tuple[Any, dict[str, str]], log: Any
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
        super().__init__(file, layers_of_inspector(text), properties)
        self._profiled = options.profile
        self._index = gpu_index(options.device)
        self._open: list[TrtCall | TrtTimer] = []

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        return self._bound(feeds)

    def _bound(self, feeds: Mapping[str, Array]) -> TrtCall:
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
        if self._profiled:
            raise OptionError("a profiled model is not timed: its layers wait for each other; leave profile off")
        timer = TrtTimer(self._bound(feeds), in_flight)
        self._open.append(timer)
        return timer

    def memory(self) -> RuntimeMemory:
        """Return the engine's own figures: its weights and the memory of one execution context.

        Raises
        ------
        RunError
            The model is closed.
        """
        if self._engine is None:
            raise RunError("the model is closed")
        weights = None
        if hasattr(self._trt, "EngineStat"):
            weights = int(self._engine.get_engine_stat(self._trt.EngineStat.TOTAL_WEIGHTS_SIZE))
        arena = int(self._engine.device_memory_size_v2)
        return RuntimeMemory(weights_bytes=weights, arena_bytes=arena, source="engine: device memory")

    def artefact(self) -> bytes:
        """Return the properties as a line of JSON, followed by the serialised engine.

        Raises
        ------
        RunError
            The model is closed.
        ArtefactError
            TensorRT cannot serialise the engine.
        """
        if self._engine is None:
            raise RunError("the model is closed")
        plan = self._engine.serialize()
        if plan is None:
            raise ArtefactError(f"TensorRT cannot serialise the engine: {self._log.last_error}")
        return json.dumps(self._built).encode() + b"\n" + bytes(plan)

    def close(self) -> None:
        """Free the calls and timers, then the engine; a second call does nothing."""
        for item in reversed(self._open):
            item.close()
        self._open.clear()
        self._engine = None
        self._runtime = None


def _profiler(trt: ModuleType, times: dict[str, list[float]]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            times[name].append(1e6 * milliseconds)

    return Profiler()
