"""What is to be measured: said by the caller as a `SubjectSpec`, pinned down as a `Subject` with its hash."""

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
        The file; external data is found beside it.
    label : str, optional
        Short name for tables; the file's stem by default.
    backend : str, default="ort"
        Name in `backends.registry`.
    options : CompileOptions
        Defaults to fp32, one thread, CPU.
    batch : int, optional
        Size of the free batch dimension. Left out, it is 1, or what the file has fixed.
    shapes : Mapping of str to tuple of int
        Whole shapes of inputs that have other free dimensions than the batch.
    cores : tuple of int, optional
        Logical cores that its process is bound to.
    given : GivenInputs
        Inputs that are not to be made up.
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
    """Pin down what `spec` names; `batch` is the number of examples in one call, `inputs` how many calls differ."""
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
    """Hash an ONNX file and, in the order of their names, the files that hold its external data.

    Raises
    ------
    ModelLoadError
        The file is missing or broken, or its external data is.
    """
    names = modelfile.external_files(modelfile.read(model).proto)
    # What a link leads to has its data beside it, not beside the link.
    folder = model.resolve().parent
    return file_sha256(model, *(folder / name for name in names))
