"""Runtimes behind one protocol: compile an ONNX file, run it, say what was really executed."""

from backends.base import (
    Availability,
    Backend,
    BoundCall,
    CompiledModel,
    CompileOptions,
    DeviceTimer,
    LayerInfo,
    Precision,
    RuntimeMemory,
    TensorSpec,
)
from backends.errors import BackendError

__all__ = [
    "Availability",
    "Backend",
    "BackendError",
    "BoundCall",
    "CompileOptions",
    "CompiledModel",
    "DeviceTimer",
    "LayerInfo",
    "Precision",
    "RuntimeMemory",
    "TensorSpec",
]
