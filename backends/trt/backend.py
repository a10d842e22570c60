"""`TrtBackend`, the adapter of TensorRT and TensorRT-RTX."""

from __future__ import annotations

import json
from pathlib import Path

from backends import modelfile
from backends.base import Backend, CompiledModel, Precision
from backends.errors import ArtefactError, ModelLoadError, OptionError
from backends.installed import import_runtime, version_of
from backends.modelfile import ModelFile
from backends.records import Availability, CompileOptions
from backends.trt.build import Dialect, build, make_logger
from backends.trt.device import set_device
from backends.trt.installed import INSTALL, NO_GPU, NO_GPU_HINT, gpu_index, gpus, has_cuda_bindings, installed
from backends.trt.layers import layers_of_report
from backends.trt.model import RunnableModel, TrtModel

__all__ = ["TrtBackend"]


class TrtBackend(Backend):
    """``tensorrt`` if installed, else ``tensorrt_rtx``; always the latter for ``device="sm_XY"``."""

    name = "trt"
    default_device = "cuda"
    default_threads = 1  # the CPU only submits the work
    why_no_artefacts = ""

    def load_runtime(self) -> None:
        """Import TensorRT."""
        import onnx  # noqa: F401

        for name in installed():
            import_runtime(name)

    def availability(self, device: str = "cpu") -> Availability:
        """Return whether TensorRT is installed and `device` exists; ``sm_XY`` needs no GPU."""
        packages = installed()
        version = ", ".join(f"{name} {version_of(name, f'{name}-cu13', f'{name}-cu12')}" for name in packages) or None
        if not packages:
            return Availability(
                ok=False,
                reason="neither tensorrt nor tensorrt_rtx is installed",
                hint=f"{INSTALL['tensorrt_rtx']} (or '.[tensorrt]')",
            )
        devices_here = gpus()
        devices = (*devices_here, *(["sm_XY (compile only)"] if "tensorrt_rtx" in packages else []))
        reason, hint = "", ""
        if device.startswith("sm_"):
            if "tensorrt_rtx" not in packages:
                reason = "only TensorRT-RTX compiles for a named compute capability, and it is not installed"
                hint = INSTALL["tensorrt_rtx"]
        elif not devices_here:
            reason, hint = NO_GPU, NO_GPU_HINT
        elif device == "cpu":
            reason, hint = "it runs on NVIDIA GPUs only", "pass --device cuda"
        elif gpu_index(device) >= len(devices_here):
            reason = f"there is no {device}; this machine has {len(devices_here)} GPU(s)"
            hint = f"pass --device cuda:0 to cuda:{len(devices_here) - 1}"
        elif not has_cuda_bindings():
            reason, hint = "cuda-bindings is not installed", INSTALL[packages[0]]
        return Availability(ok=not reason, version=version, devices=devices, reason=reason, hint=hint)

    def require_precision(self, model: Path, precision: Precision) -> None:
        """Reject quantised models, and a precision other than the file's."""
        _require_precision(modelfile.read(model), precision)

    def _compile(self, model: Path, options: CompileOptions) -> CompiledModel:
        dialect, file = _checked(model, options)
        log = make_logger(dialect.module)
        built = build(dialect, file, options, log)
        if options.device.startswith("sm_"):
            return TrtModel(file, layers_of_report(log.report), built[1])
        return RunnableModel(dialect, file, options, built, log)

    def _import_artefact(self, blob: bytes, model: Path, options: CompileOptions) -> CompiledModel:
        if options.device.startswith("sm_"):
            raise ArtefactError(f"an engine for {options.device} cannot be loaded here")
        dialect, file = _checked(model, options)
        head, _, plan = blob.partition(b"\n")
        try:
            properties = {str(key): str(value) for key, value in json.loads(head).items()}
        except (ValueError, AttributeError) as error:
            raise ArtefactError("this is not an artefact of backend 'trt'") from error
        try:
            return RunnableModel(dialect, file, options, (plan, properties), make_logger(dialect.module))
        except ModelLoadError as error:
            raise ArtefactError(str(error)) from error


def _checked(model: Path, options: CompileOptions) -> tuple[Dialect, ModelFile]:
    """Check the options, read the file and make the GPU the current one."""
    named = options.device.startswith("sm_")
    name = "tensorrt_rtx" if named else installed()[0]
    dialect = Dialect.of(import_runtime(name))
    if options.threads != 1:
        raise OptionError(f"backend 'trt' computes on a GPU: threads must be 1, got {options.threads}")
    if named and options.device not in dialect.capabilities:
        raise OptionError(
            f"{name} does not compile for {options.device}; it does for {', '.join(dialect.capabilities)}"
        )
    if named and options.profile:
        raise OptionError(f"{options.device} is compiled without running: layers have no times; leave profile off")
    file = modelfile.read(model)
    modelfile.require_numbers(file, "trt")
    _require_precision(file, options.precision)
    if not named:
        set_device(gpu_index(options.device))
    return dialect, file


def _require_precision(file: ModelFile, precision: Precision) -> None:
    if "int8" in (precision, file.precision):
        raise OptionError("backend 'trt' measures no quantised models; measure them on ort or openvino")
    modelfile.require_typed(file, precision, "trt")
