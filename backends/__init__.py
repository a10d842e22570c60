"""Inference runtimes behind one interface: compile an ONNX file, run it, report what was really executed.

`base` defines the interface and `registry` finds its implementations: `ort`, `ov`, `trt`, `pytorch` (through
`onnx_to_torch`) and `null`, which computes nothing. `testing` holds the checks that every backend must pass.
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

# ONNX Runtime reads this at import, whoever imports it; otherwise it keeps an identifier and a store of events in the
# home folder and sends them. Child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
