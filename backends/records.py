"""Records passed to and returned by a backend: compile options, tensor specs, availability, layers and memory."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.errors import OptionError

__all__ = [
    "PRECISIONS",
    "Array",
    "Availability",
    "CompileOptions",
    "Kind",
    "LayerInfo",
    "Precision",
    "RuntimeMemory",
    "TensorSpec",
]

Kind: TypeAlias = Literal["tensor", "sequence", "optional", "optional sequence", "other"]
Array: TypeAlias = npt.NDArray[np.generic]
Precision: TypeAlias = Literal["fp32", "bf16", "fp16", "int8", "fp64", "mixed"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16", "int8", "fp64", "mixed")
_DEVICE = re.compile(r"cpu|cuda(:\d+)?|sm_\d{2,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and type of one input or output.

    Parameters
    ----------
    name : str
        Name in the ONNX graph.
    shape : tuple of int or str
        A string names a free dimension (``"batch"``).
    dtype : str
        NumPy name, for example ``"float32"`` or ``"int64"``; ``"object"`` means text.
    kind : {"tensor", "sequence", "optional", "optional sequence", "other"}
        Kind of value. `shape` and `dtype` are those of the tensors in it; only outputs can be ``"other"`` (maps).
    ranked : bool
        False if the file gives no shape, not even the number of axes; `shape` is meaningless then.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    kind: Kind = "tensor"
    ranked: bool = True

    def entries(self, names: Container[str]) -> tuple[str, ...]:
        """Return which of `names` are tensors of this input: ``x``, or ``x[0]``, ``x[1]``, ... for a sequence.

        A tensor is always included; a sequence may be empty, and an optional value may be absent.
        """
        if self.kind.endswith("sequence"):
            elements = (f"{self.name}[{index}]" for index in count())
            return tuple(takewhile(lambda name: name in names, elements))
        return (self.name,) if self.kind == "tensor" or self.name in names else ()

    def accepts(self, array: Array) -> bool:
        """Return whether `array` has this type and fits this shape."""
        return (
            array.dtype.name == self.dtype
            and (array.ndim == len(self.shape) or not self.ranked)
            and all(isinstance(want, str) or want == got for want, got in zip(self.shape, array.shape, strict=False))
        )

    def __str__(self) -> str:
        tensor = f"{self.dtype}({', '.join(map(str, self.shape)) if self.ranked else '?'})"
        return tensor if self.kind == "tensor" else f"{self.kind} of {tensor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """Compile options, with the same meaning on every backend.

    A backend that cannot honour an option raises `OptionError`: it never picks another value itself.

    Parameters
    ----------
    precision : {"fp32", "bf16", "fp16", "int8", "fp64", "mixed"}
        Arithmetic of the compute layers. ``"fp32"`` is IEEE single precision: TF32 and a runtime's own
        lower-precision default are switched off. ``"int8"``: all layers that the file quantises multiply integers; the
        layers it leaves in floating point are counted in `CompiledModel.properties`. ``"mixed"``: some layers compute
        in one floating-point type and some in another, as the file says.
    threads : int
        Threads per inference, at least 1: the calling thread and its helpers.
    streams : int
        Inferences that may be in flight at once, at least 1, each with its own `BoundCall` and thread. The number of
        threads that may then compute at once is read back in ``properties["compute_threads"]``: ``threads * streams``
        if each stream has its own helpers, fewer if the streams share them.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"sm_XY"``: compile for that NVIDIA compute capability without
        running (backends that can).
    profile : bool
        Collect per-layer times. This slows the run down, so it is never set while latency is measured.
    """

    precision: Precision = "fp32"
    threads: int = 1
    streams: int = 1
    device: str = "cpu"
    profile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.threads < 1:
            raise OptionError(f"threads must be at least 1, got {self.threads}")
        if self.streams < 1:
            raise OptionError(f"streams must be at least 1, got {self.streams}")
        if not _DEVICE.fullmatch(self.device):
            raise OptionError(f"device {self.device!r} is not one of cpu, cuda, cuda:N, sm_XY (for example sm_89)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a backend can be used here, and if not, why and what to do about it.

    Parameters
    ----------
    ok : bool
        True if a model can be compiled for the device and run on it; for ``"sm_XY"``, compiled only.
    version : str or None
        Version of the runtime, None if it is not installed.
    devices : tuple of str
        Devices it can run on, in words.
    reason : str
        Why it is not usable; empty when `ok`.
    hint : str
        What the user can do; empty when `ok`.
    """

    ok: bool
    version: str | None = None
    devices: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInfo:
    """One layer of the compiled model, as the runtime reports it.

    Parameters
    ----------
    name : str
        The runtime's name.
    kind : str
        The runtime's own layer or kernel type.
    nodes : tuple of str
        Names of the ONNX nodes fused into it; empty for layers the runtime inserted (layout conversions, casts).
    time_ns : int or None
        Mean time of one execution in nanoseconds, if profiled.
    """

    name: str
    kind: str
    nodes: tuple[str, ...] = ()
    time_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMemory:
    """Memory use as reported by a runtime; None where it does not report it.

    Parameters
    ----------
    weights_bytes : int or None
        Weights as the runtime holds them.
    arena_bytes : int or None
        Memory kept for activations and scratch, for one inference in flight.
    source : str
        Where the numbers come from, in the runtime's words; empty if it reports nothing.
    """

    weights_bytes: int | None = None
    arena_bytes: int | None = None
    source: str = ""
