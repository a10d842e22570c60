"""Runtimes behind one protocol: compile an ONNX file, run it, say what was really executed.

`base` is the protocol and `registry` finds who follows it: `ort`, `ov`, `trt`, `pytorch` (over `onnx_to_torch`) and
`null`, which computes nothing. `testing` holds what every backend promises.
"""

import os

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

# It reads this when it is imported, by whomever; without it, it keeps an identifier and a store of events in the home
# folder and sends them. The children of this process inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
