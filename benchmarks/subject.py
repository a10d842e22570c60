"""What is to be measured: said by the caller as a `SubjectSpec`, pinned down as a `Subject` with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backends import modelfile
from backends.base import CompileOptions
from benchmarks.records import Subject

if TYPE_CHECKING:
    import onnx

__all__ = ["SubjectSpec", "content_sha256", "external_files", "identify", "subgraphs"]


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
    """

    model: Path
    label: str = ""
    backend: str = "ort"
    options: CompileOptions = field(default_factory=CompileOptions)
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def identify(spec: SubjectSpec, batch: int) -> Subject:
    """Pin down what `spec` names; `batch` is the number of examples in one call."""
    return Subject(
        label=spec.label or spec.model.stem,
        model=str(spec.model),
        sha256=content_sha256(spec.model),
        backend=spec.backend,
        precision=spec.options.precision,
        threads=spec.options.threads,
        device=spec.options.device,
        batch=batch,
        streams=spec.options.streams,
        shapes=dict(spec.shapes),
    )


def content_sha256(model: Path) -> str:
    """Hash an ONNX file and, in the order of their names, the files that hold its external data.

    Raises
    ------
    ModelLoadError
        The file is missing or broken, or its external data is.
    """
    names = external_files(modelfile.read(model).proto)
    digest = hashlib.sha256()
    for path in (model, *(model.parent / name for name in names)):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def external_files(proto: onnx.ModelProto) -> tuple[str, ...]:
    """List the files, relative to the model's folder, that hold weights of the model."""
    found = {
        entry.value
        for graph in subgraphs(proto.graph)
        for tensor in _tensors(graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(sorted(found))


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from subgraphs(attribute.g)
            for inner in attribute.graphs:
                yield from subgraphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
