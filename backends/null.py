"""A backend that computes nothing: it measures the harness's own cost and stands in for a runtime in tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backends.base import (
    Array,
    Availability,
    Backend,
    BoundCall,
    CompiledModel,
    CompileOptions,
    LayerInfo,
    RuntimeMemory,
    TensorSpec,
)
from backends.errors import ArtefactError, OptionError, RunError

__all__ = ["NullBackend"]


_ARTEFACT = b"null"


class _NullCall(BoundCall):
    def __init__(self, outputs: dict[str, Array]) -> None:
        self._outputs = outputs

    def __call__(self) -> None:
        pass

    def outputs(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._outputs.items()}


class _NullModel(CompiledModel):
    def __init__(
        self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], options: CompileOptions
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.executed_precision = options.precision
        self.properties = {
            "threads": str(options.threads),
            "streams": str(options.streams),
            "compute_threads": str(options.threads * options.streams),
        }

    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        sizes = {
            dimension: size
            for spec in self.inputs
            for dimension, size in zip(spec.shape, feeds[spec.name].shape, strict=True)
        }
        outputs: dict[str, Array] = {}
        for spec in self.outputs:
            for dimension in spec.shape:
                if isinstance(dimension, str) and dimension not in sizes:
                    raise RunError(f"the size of output {spec.name!r} {spec} does not follow from the inputs' names")
            shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
            outputs[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
        return _NullCall(outputs)

    def artefact(self) -> bytes:
        return _ARTEFACT

    def memory(self) -> RuntimeMemory:
        return RuntimeMemory(weights_bytes=0, arena_bytes=0, source="there is nothing")

    def layers(self) -> tuple[LayerInfo, ...]:
        return ()

    def close(self) -> None:
        pass


class NullBackend(Backend):
    """Backend that returns zeros of the right shape at once, for any precision, threads and streams."""

    name = "null"
    why_no_artefacts = ""
    why_no_layers = "backend 'null' has no layers to profile"

    def load_runtime(self) -> None:
        """Import the ONNX reader; there is no runtime."""
        import onnx  # noqa: F401

    def availability(self, device: str = "cpu") -> Availability:
        """Report availability: on every machine, for device ``"cpu"``."""
        if device != "cpu":
            return Availability(ok=False, reason=f"it has no device {device!r}", hint="pass --device cpu")
        return Availability(ok=True, version="1", devices=("none",))

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        from backends import modelfile

        if options.profile:
            raise OptionError(self.why_no_layers)
        file = modelfile.read(model)
        modelfile.require_numbers(file, "null")
        return _NullModel(file.inputs, file.outputs, options)

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        if blob != _ARTEFACT:
            raise ArtefactError("this is not an artefact of backend 'null'")
        return self._compile(model, options)
