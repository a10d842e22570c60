"""The manifest of a bundle: the records of ``bundle.json``, and the file names of a bundle.

Versions of the format
----------------------
1   the first
2   `scores` with a metric replaces `accuracy`, which was top-1 accuracy
3   `pruning`: what was removed and how it was checked
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from backends.base import TensorSpec
from benchmarks.records.base import Record
from benchmarks.records.measurement import Agreement
from deploy.bundles.pruning import PruningRecord
from deploy.exporting.export_info import ExportInfo
from deploy.sources.metric import Metric, require_legal

__all__ = [
    "DATA",
    "KNOWN_FILES",
    "MANIFEST",
    "MODEL",
    "PLAN",
    "REFERENCE",
    "SCHEMA_VERSION",
    "WEIGHTS",
    "FileRecord",
    "Manifest",
    "NetworkOrigin",
    "NetworkScores",
    "NominalCost",
    "Provenance",
]

SCHEMA_VERSION = 3
MANIFEST, MODEL, DATA = "bundle.json", "model.onnx", "model.onnx.data"
WEIGHTS, PLAN, REFERENCE = "weights.safetensors", "plan.json", "reference.npz"
_REQUIRED = frozenset({MODEL, WEIGHTS, REFERENCE})
KNOWN_FILES = _REQUIRED | {MANIFEST, DATA, PLAN}


class FileRecord(Record):
    """One file of a bundle as it was written."""

    size_bytes: NonNegativeInt
    sha256: str


class NetworkScores(Record):
    """Scores of the network in torch; None if not measured."""

    metric: Metric = Field("accuracy", description="top-1 accuracy in [0, 1], or mean PSNR in dB")
    validation: float | None = None
    test: float | None = None
    n_validation: NonNegativeInt = 0
    n_test: NonNegativeInt = 0

    @model_validator(mode="after")
    def _legal(self) -> NetworkScores:
        require_legal(self.metric, self.validation, self.test)
        return self


class NominalCost(Record):
    """Nominal cost of the network for one example, counted on the torch graph."""

    macs: NonNegativeInt
    parameters: NonNegativeInt
    zeros: NonNegativeInt = Field(0, description="parameters that a method set to zero; both counts include them")


class NetworkOrigin(Record):
    """What `deploy.sources.network.build` needs to rebuild the original network."""

    spec: dict[str, JsonValue] = Field(description="as returned by deploy.sources.network.provenance")
    n_classes: PositiveInt | None
    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="channels, height, width")
    target_shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="the same for the images it restores; None: it outputs class scores"
    )


class Provenance(Record):
    """Where a network comes from; fields that do not apply are None or empty."""

    network: NetworkOrigin | None = Field(None, description="None: it was not built from a specification")
    data: dict[str, JsonValue] | None = Field(None, description="specification, split and normalisation")
    method: str | None = Field(None, description="pruning method; None for a dense network")
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    parent_sha256: str | None = Field(None, description="hash of the weights that the work started from")


class Manifest(Record):
    """``bundle.json``."""

    schema_version: Literal[3] = 3
    name: str = Field(min_length=1)
    created_utc: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    export: ExportInfo
    agreement: Agreement = Field(description="of the ONNX file with torch, on ONNX Runtime")
    scores: NetworkScores
    cost: NominalCost
    provenance: Provenance
    pruning: PruningRecord | None = Field(None, description="None: a dense network, or written by an older version")
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        if missing := sorted(_REQUIRED - self.files.keys()):
            raise ValueError(f"it does not list {missing[0]}")
        if strange := sorted(self.files.keys() - KNOWN_FILES):
            raise ValueError(f"it lists {strange[0]!r}, which does not belong to a bundle")
        return self
