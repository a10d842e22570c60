"""Build a serialised TensorRT engine from an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from backends.errors import ModelLoadError, one_line
from backends.modelfile import ModelFile
from backends.records import CompileOptions

__all__ = ["LARGEST_FREE_DIMENSION", "Dialect", "build", "make_logger"]

LARGEST_FREE_DIMENSION = 64


@dataclass(frozen=True)
class Dialect:
    """Features of one version of the package.

    Parameters
    ----------
    module : ModuleType
        ``tensorrt`` or ``tensorrt_rtx``.
    typed_flag : int
        Flags of `create_network` for a strongly typed network; 0 if there is no other kind.
    capabilities : tuple of str
        Compute capabilities (``"sm_89"``) it compiles for without a GPU.
    """

    module: ModuleType
    typed_flag: int
    capabilities: tuple[str, ...]

    @classmethod
    def of(cls, module: ModuleType) -> Dialect:
        """Return the dialect of an imported package."""
        members = module.NetworkDefinitionCreationFlag.__members__
        # 10.x also has weakly typed networks and needs the flag; its bit has moved between versions.
        weak = hasattr(module.BuilderFlag, "FP16")
        named = getattr(module, "ComputeCapability", None)
        names = named.__members__ if named is not None else ()
        return cls(
            module=module,
            typed_flag=1 << int(members["STRONGLY_TYPED"]) if weak else 0,
            capabilities=tuple(f"sm_{name[2:]}" for name in names if name.startswith("SM")),
        )


def build(dialect: Dialect, file: ModelFile, options: CompileOptions, log: Any) -> tuple[Any, dict[str, str]]:
    """Build an engine.

    Returns
    -------
    plan : IHostMemory
        The serialised engine.
    properties : dict of str to str
        What it was built with.

    Raises
    ------
    ModelLoadError
        TensorRT cannot read the file or build an engine from it.
    """
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
    """Set the range of the free dimensions; return their names."""
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
        # TensorRT looks up an unknown node among the plugins.
        is_unknown = "Plugin not found" in error.desc()
        text = "it is not supported" if is_unknown else one_line(RuntimeError(error.desc()), 200)
        errors.append(where + text)
    return "; ".join(errors) or "no reason given"


def make_logger(trt: ModuleType) -> Any:
    """Return an ``ILogger`` that keeps the last error (`last_error`) and the layer report (`report`)."""

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        """Logger that keeps the last error and the builder's layer report and prints nothing."""

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
