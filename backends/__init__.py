"""Runtimes behind one protocol: compile an ONNX file, run it, say what was really executed.

`base` is the protocol and `registry` finds who follows it: `ort`, `ov`, `trt`, `pytorch` (over `onnx_to_torch`) and
`null`, which computes nothing. `testing` holds what every backend promises.
"""

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
