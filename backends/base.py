"""Base classes of every backend: `Backend`, `CompiledModel`, `BoundCall` and `DeviceTimer`.

No runtime is imported here, nor when a backend module is imported: only inside the methods.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt

from backends.errors import ArtefactError, BackendUnavailableError, FeedError, ModelLoadError, OptionError
from backends.records import (
    PRECISIONS,
    Array,
    Availability,
    CompileOptions,
    LayerInfo,
    Precision,
    RuntimeMemory,
    TensorSpec,
)

__all__ = [
    "PRECISIONS",
    "Array",
    "Availability",
    "Backend",
    "BoundCall",
    "CompileOptions",
    "CompiledModel",
    "DeviceTimer",
    "LayerInfo",
    "Precision",
    "RuntimeMemory",
    "TensorSpec",
]

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector a kernel loads


def _aligned_copy(array: Array) -> Array:
    if array.dtype.hasobject:  # text: no kernel loads it
        return array.copy()
    native = array.dtype.newbyteorder("=")
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy: Array = memory[start : start + array.nbytes].view(native).reshape(array.shape)
    copy[...] = array
    return copy


class BoundCall(ABC):
    """One inference with its inputs already in place: the call that is timed.

    ``call()`` runs synchronously from inputs in host memory to outputs in host memory. One `BoundCall` belongs to one
    thread at a time; different ones of the same model may run at once, up to `CompileOptions.streams` of them.
    """

    @abstractmethod
    def __call__(self) -> None:
        """Run once and wait for the outputs."""

    @abstractmethod
    def outputs(self) -> dict[str, Array]:
        """Copy the outputs of the latest call.

        Returns
        -------
        dict of str to ndarray
            By output name; the arrays are owned by the caller.
        """


class DeviceTimer(ABC):
    """Inferences timed by the device's own clock, several in flight, with the inputs already on the device.

    Attributes
    ----------
    in_flight : int
        Inferences queued at once.
    replays_graph : bool
        True when the launches were captured once and are replayed; False when the runtime did not allow that.
    """

    in_flight: int
    replays_graph: bool

    @abstractmethod
    def __call__(self, n_calls: int) -> npt.NDArray[np.int64]:
        """Run `n_calls` inferences.

        Returns
        -------
        ndarray of shape (n_calls,), dtype int64
            Nanoseconds from start to end of each inference on the device, without copies to and from the host.

        Raises
        ------
        RunError
            The device failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Free its device memory; a second call does nothing."""


class CompiledModel(ABC):
    """A model compiled by one backend.

    Calls bound to it must not be used after `close`.

    Attributes
    ----------
    inputs, outputs : tuple of TensorSpec
        As in the ONNX file.
    executed_precision : Precision
        Read back from the runtime after compilation, not copied from the request.
    properties : Mapping of str to str
        What the runtime reports (pinning, kernel choices). Always present, as read back: ``"threads"``, ``"streams"``
        and ``"compute_threads"`` (host threads that may compute at once, including the callers').
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    executed_precision: Precision
    properties: Mapping[str, str]

    @final
    def bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        """Check `feeds` once and return the argument-free call that is timed.

        The feeds are copied to aligned memory owned by the call: later changes to the caller's arrays have no effect,
        and every backend starts from the same memory layout.

        Parameters
        ----------
        feeds : Mapping of str to ndarray
            One array for each input.

        Raises
        ------
        FeedError
            A name is missing or unknown, an array does not fit its `TensorSpec` (both sides are named), or one free
            dimension is given two sizes.
        RunError
            The runtime refuses to prepare the call.
        """
        return self._bind(self._checked(feeds))

    def _checked(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Check `feeds` as `bind` documents; return aligned copies in the order of the inputs."""
        wanted = {name: spec for spec in self.inputs for name in spec.entries(feeds)}
        if unknown := sorted(feeds.keys() - wanted.keys()):
            names = ", ".join(repr(spec.name) for spec in self.inputs)
            raise FeedError(f"unknown input {unknown[0]!r}; the model has {names}")
        sizes: dict[str, tuple[int, str]] = {}
        for name, spec in wanted.items():
            if name not in feeds:
                raise FeedError(f"input {name!r} is missing; it must be {spec}")
            array = feeds[name]
            if not isinstance(array, np.ndarray | np.generic):
                raise FeedError(f"input {name!r} must be a numpy array {spec}, got {type(array).__name__}")
            if not spec.accepts(array):
                got = f"{array.dtype.name}({', '.join(map(str, array.shape))})"
                raise FeedError(f"input {name!r} must be {spec}, got {got}")
            for dimension, size in zip(spec.shape, array.shape, strict=False):
                if isinstance(dimension, str) and spec.ranked and spec.kind == "tensor":
                    known, owner = sizes.setdefault(dimension, (size, name))
                    if known != size:
                        raise FeedError(
                            f"free dimension {dimension!r} is {known} in input {owner!r} and {size} in input {name!r}"
                        )
        return {name: _aligned_copy(feeds[name]) for name in wanted}

    @final
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once: `bind`, call, copy the outputs.

        Raises
        ------
        FeedError
            See `bind`.
        RunError
            The runtime failed.
        """
        call = self.bind(feeds)
        call()
        return call.outputs()

    @abstractmethod
    def _bind(self, feeds: Mapping[str, Array]) -> BoundCall:
        """Prepare a call; `feeds` are complete, checked, C-contiguous, aligned and owned by the call."""

    @final
    def device_timer(self, feeds: Mapping[str, Array], *, in_flight: int = 2) -> DeviceTimer:
        """Prepare inferences timed by the device's own clock.

        Parameters
        ----------
        feeds : Mapping of str to ndarray
            One array for each input; copied to the device now.
        in_flight : int
            Inferences queued at once, at least 1. With two, the device does not wait for the host in between.

        Raises
        ------
        OptionError
            The model does not run on a device with its own clock, or `in_flight` is less than 1.
        FeedError, RunError
            See `bind`.
        """
        if in_flight < 1:
            raise OptionError(f"in_flight must be at least 1, got {in_flight}")
        return self._device_timer(self._checked(feeds), in_flight)

    def _device_timer(self, feeds: Mapping[str, Array], in_flight: int) -> DeviceTimer:  # noqa: ARG002
        """Prepare the timer; `feeds` are as in `_bind`."""
        raise OptionError("it computes on the host: there is no device with a clock of its own")

    def memory(self) -> RuntimeMemory:
        """Return the runtime's own memory figures; every field is None if it reports nothing."""
        return RuntimeMemory()

    def artefact(self) -> bytes:
        """Return the compiled model as bytes that `Backend.import_artefact` accepts.

        They are valid only for the same file, options, runtime version and device; the caller must ensure that.

        Raises
        ------
        ArtefactError
            The runtime cannot export it; the message says why.
        """
        raise ArtefactError("this backend keeps no compiled artefacts")

    @abstractmethod
    def layers(self) -> tuple[LayerInfo, ...]:
        """List the compiled layers in execution order.

        ``time_ns`` is set if the model was compiled with ``profile=True`` and has run.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the runtime's resources; a second call does nothing."""


class Backend(ABC):
    """One runtime."""

    name: ClassVar[str]
    default_device: ClassVar[str] = "cpu"
    """Device used when the caller names none."""
    default_threads: ClassVar[int | None] = None
    """Threads per inference when the caller gives none; None: as many as there are cores."""
    blocks_channels: ClassVar[bool] = False
    """Whether its CPU kernels compute channels in blocks, so that a partly filled block costs as much as a full one."""
    why_no_layers: ClassVar[str] = ""
    """Why it cannot be profiled by layer; empty if it can."""
    why_no_artefacts: ClassVar[str] = "this backend keeps no compiled artefacts"
    """Why compiled models cannot be stored and loaded again; empty if they can."""

    @abstractmethod
    def load_runtime(self) -> None:
        """Import the runtime now, so that its import is not timed with the first `compile`; a second call does nothing.

        Raises
        ------
        BackendUnavailableError
            The runtime is installed but cannot be imported.
        """

    @abstractmethod
    def availability(self, device: str = "cpu") -> Availability:
        """Return whether this backend is usable on `device`; never raises."""

    def require_precision(self, model: Path, precision: Precision) -> None:  # noqa: B027  # by default none is refused
        """Reject a precision that the model cannot run in, from the file alone; the runtime is not needed.

        Raises
        ------
        OptionError
            The file has another precision or mixes several, or the backend never computes in this one.
        ModelLoadError
            The file is missing or broken.
        """

    @final
    def compile(self, model: Path, options: CompileOptions | None = None) -> CompiledModel:
        """Compile an ONNX file.

        Parameters
        ----------
        model : Path
            An ONNX file; its external data is read from the same folder.
        options : CompileOptions, optional
            Defaults to fp32, one thread, CPU.

        Raises
        ------
        BackendUnavailableError
            The runtime or the device is missing; the message says what to do.
        OptionError
            An option cannot be honoured, or was not: the precision read back differs from the one asked for.
        ModelLoadError
            The file is missing or broken, or has an operator that the runtime does not know.
        """
        options = options or CompileOptions()
        self._require(model, options)
        return self._verified(self._compile(model, options), options)

    @final
    def import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        """Load the bytes from `CompiledModel.artefact`, without compiling again.

        Parameters
        ----------
        blob : bytes
            Pass only artefacts stored by this machine: a runtime trusts its own artefacts.
        model : Path
            The ONNX file it was compiled from.
        options : CompileOptions
            The options it was compiled with.

        Raises
        ------
        ArtefactError
            This backend has no artefacts, or the runtime rejects this one.
        BackendUnavailableError, OptionError, ModelLoadError
            See `compile`.
        """
        if self.why_no_artefacts:
            raise ArtefactError(self.why_no_artefacts)
        self._require(model, options)
        return self._verified(self._import_artefact(blob, model, options), options)

    def _require(self, model: Path, options: CompileOptions) -> None:
        if not os.path.lexists(model):  # folders and pipes, which do exist, are reported later
            raise ModelLoadError(f"{model}: no such file")
        state = self.availability(options.device)
        if not state.ok:
            raise BackendUnavailableError(f"backend {self.name!r} cannot run here: {state.reason}; {state.hint}")

    def _verified(self, compiled: CompiledModel, options: CompileOptions) -> CompiledModel:
        if compiled.executed_precision != options.precision:
            executed = compiled.executed_precision
            hint = f"; pass --precision {executed}"
            layers = compiled.properties.get("compute_layers")
            said = f"{executed} (layers in {layers})" if layers else executed
            compiled.close()
            raise OptionError(f"backend {self.name!r} executes {said}, not the {options.precision} asked for{hint}")
        return compiled

    @abstractmethod
    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        """Compile; the file exists and the backend is available. Map the runtime's errors here, with ``from``."""

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:  # noqa: ARG002
        """Load an artefact; the file exists and the backend is available."""
        raise ArtefactError(self.why_no_artefacts)
