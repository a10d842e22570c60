"""What is to be measured: requested as a `SubjectSpec`, recorded as a `Subject` with its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends import modelfile
from backends.base import CompileOptions
from benchmarks.records.disk import file_sha256
from benchmarks.records.measurement import Subject
from benchmarks.subject.given import GivenInputs

__all__ = ["SubjectSpec", "content_sha256", "identify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSpec:
    """One ONNX file under one backend.

    Parameters
    ----------
    model : Path
        The file; its external data lies beside it.
    label : str, optional
        Short name for tables; the file's stem by default.
    backend : str, default="ort"
        Name in `backends.registry`.
    options : CompileOptions
        Defaults to fp32, one thread, CPU.
    batch : int, optional
        Size of the free batch dimension. Defaults to the size the file fixes, else 1.
    shapes : Mapping of str to tuple of int
        Full shapes of inputs with free dimensions other than the batch.
    cores : tuple of int, optional
        Logical cores to pin its process to.
    given : GivenInputs
        Inputs given by the user instead of generated.
    """

    model: Path
    label: str = ""
    backend: str = "ort"
    options: CompileOptions = field(default_factory=CompileOptions)
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cores: tuple[int, ...] | None = None
    given: GivenInputs = field(default_factory=GivenInputs)


def identify(spec: SubjectSpec, batch: int, inputs: int = 1) -> Subject:
    """Return the record of what `spec` names; `batch` is examples per call, `inputs` the number of different calls."""
    return Subject(
        label=spec.label or spec.model.stem,
        model=spec.model.name,
        sha256=content_sha256(spec.model),
        backend=spec.backend,
        precision=spec.options.precision,
        threads=spec.options.threads,
        device=spec.options.device,
        batch=batch,
        inputs=inputs,
        streams=spec.options.streams,
        shapes=dict(spec.shapes),
        cores=spec.cores,
    )


def content_sha256(model: Path) -> str:
    """Hash an ONNX file and its external data files, in order of their names.

    Raises
    ------
    ModelLoadError
        The file or its external data is missing or broken.
    """
    names = modelfile.external_files(modelfile.read(model).proto)
    # External data lies beside the target of a link, not beside the link.
    folder = model.resolve().parent
    return file_sha256(model, *(folder / name for name in names))
