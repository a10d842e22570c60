"""The check file: which models ``deploy check`` measures, where, and the limits that they must keep.

``deploy-check.yaml``, or the table ``[tool.deploy.check]`` of ``pyproject.toml``. Paths are relative to the folder of
the file. docs/ci.md explains each key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from backends.reading.files import read_text
from benchmarks.records.disk import read_errors
from deploy.ci.quantities import Count, Share
from deploy.errors import CheckFileError
from deploy.files.strict_yaml import strict_yaml
from deploy.files.validation_errors import one_line, suggestion
from deploy.sources.datasets.data_spec import DataSpec

__all__ = [
    "AccuracyLimit",
    "CheckFile",
    "CheckedModel",
    "Limits",
    "Policy",
    "find_check_file",
    "load_check_file",
    "schema",
]

Policy = Literal["fail", "warn", "retry"]
"""How the job treats a row without a verdict; ``"retry"``: give it as much time again, once, then fail."""

_NAMES = ("deploy-check.yaml", "deploy-check.yml", "pyproject.toml")
_MAX_BYTES = 1 << 20
_DEFAULT_SLOWER, _DEFAULT_MEMORY, _DEFAULT_FILE = 0.03, 0.03, 0.0


class _Section(BaseModel):
    """A part of the check file: frozen, closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


_Numbers: TypeAlias = Annotated[tuple[PositiveInt, ...], BeforeValidator(_listed), Field(min_length=1)]
_Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class AccuracyLimit(_Section):
    """How many examples the compiled model must classify right."""

    data: str | DataSpec = Field(
        description="an .npz file with the model's input and an array 'labels'; or a data set as in a recipe, whose "
        "test images are used"
    )
    at_least: Share | None = Field(None, le=1, description="top-1 accuracy in [0, 1], or per cent")
    max_drop: Share | None = Field(
        None, le=1, description="largest drop below the baseline's accuracy, such as 0.005 or 0.5 %"
    )

    @model_validator(mode="after")
    def _limits_something(self) -> AccuracyLimit:
        if self.at_least is None and self.max_drop is None:
            raise ValueError("give at_least, or max_drop, or both")
        return self


class Limits(_Section):
    """What must hold. A limit that is relative to the baseline is null where it is not asked for."""

    slower: Share | None = Field(
        None, gt=0, lt=1, description="at most this much slower than the baseline, such as 3 %; measured alternately"
    )
    more_memory: Share | None = Field(
        None, description="at most this much more peak memory of the process than the baseline"
    )
    larger_file: Share | None = Field(
        None, description="at most this much larger than the baseline, external data included"
    )
    answers: Literal["same", "any"] = Field(
        "any", description="'same': those of the baseline for the same inputs, within the tolerance of the precision"
    )
    p50_ms: PositiveFloat | None = Field(None, description="median latency, at most")
    p90_ms: PositiveFloat | None = Field(None, description="90th percentile of the latency, at most; needs 64 calls")
    p99_ms: PositiveFloat | None = Field(None, description="99th percentile of the latency, at most; needs 662 calls")
    p999_ms: PositiveFloat | None = Field(
        None, description="99.9th percentile of the latency, at most; needs 6636 calls"
    )
    throughput_per_s: PositiveFloat | None = Field(None, description="examples per second of one caller, at least")
    load_ms: PositiveFloat | None = Field(None, description="time from the ONNX file to the compiled model, at most")
    memory_mb: PositiveFloat | None = Field(None, description="peak memory of the process in 10^6 bytes, at most")
    file_mb: PositiveFloat | None = Field(None, description="ONNX file with external data in 10^6 bytes, at most")
    macs: Count | None = Field(None, description="multiply-accumulates per example, at most, such as 300M")
    parameters: Count | None = Field(None, description="number of parameters, at most, such as 5M")
    accuracy: AccuracyLimit | None = None


class CheckedModel(_Section):
    """One model, where it runs, and what must hold."""

    name: str | None = Field(
        None, min_length=1, max_length=200, description="name in reports; default: that of the file"
    )
    model: str = Field(min_length=1, description="ONNX file, or the folder of a bundle")
    baseline: str | None = Field(
        None,
        min_length=1,
        description="an ONNX file, the folder of a bundle, or git:REF or git:REF:PATH: as it was at that commit",
    )
    backends: _Names = ("ort",)
    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    device: str | None = None
    threads: _Numbers | None = Field(None, description="threads of one inference; default: all usable cores")
    batch: _Numbers | None = Field(None, description="size of a free batch dimension; default: 1")
    shapes: dict[str, tuple[PositiveInt, ...]] = Field(
        default_factory=dict, description="sizes of free dimensions, by input"
    )
    inputs: str | None = Field(None, description=".npz file with inputs by name; other inputs are generated")
    limits: Limits = Field(default_factory=Limits)

    @field_validator("backends", "threads", "batch", mode="after")
    @classmethod
    def _each_once(cls, values: Sequence[Any] | None) -> Any:
        return values if values is None else tuple(dict.fromkeys(values))


class CheckFile(_Section):
    """All of it."""

    title: str | None = Field(None, min_length=1, description="title of the report; default: 'deploy check'")
    budget: PositiveFloat | None = Field(
        None, description="seconds for the whole job; default: 60 for each measurement; --budget takes precedence"
    )
    inconclusive: Policy = "retry"
    unfit: Policy = "retry"
    seed: int = Field(0, ge=0, description="seed of generated inputs and of the order of measurements")
    limits: Limits = Field(
        default_factory=Limits, description="limits for every model; a model's own limits take precedence"
    )
    models: tuple[CheckedModel, ...] = Field(min_length=1)

    def limits_of(self, model: CheckedModel) -> Limits:
        """Return the limits of a model: its own, then the shared ones, then the defaults that a baseline brings.

        A model with a baseline that sets no relative limit must not be more than 3 % slower, take more than 3 % more
        memory or be a larger file.
        """
        own = {name: getattr(model.limits, name) for name in model.limits.model_fields_set}
        shared = {name: getattr(self.limits, name) for name in self.limits.model_fields_set}
        if model.baseline is None:
            relative = ("slower", "more_memory", "larger_file", "answers")
            shared = {name: value for name, value in shared.items() if name not in relative}
            return Limits.model_construct(**(Limits().model_dump() | shared | own))
        usual = {"slower": _DEFAULT_SLOWER, "more_memory": _DEFAULT_MEMORY, "larger_file": _DEFAULT_FILE}
        return Limits.model_construct(**(Limits().model_dump() | usual | shared | own))

    def names(self) -> tuple[str, ...]:
        """Return the name of each model: its own, else its file or folder name, else its path."""
        stems = ["" if one.name else _stem(Path(one.model)) for one in self.models]
        return tuple(
            one.name or (stem if stems.count(stem) == 1 else one.model)
            for one, stem in zip(self.models, stems, strict=True)
        )

    def only(self, patterns: Sequence[str]) -> CheckFile:
        """Return the check file reduced to the models whose name matches one of the patterns.

        Raises
        ------
        CheckFileError
            A pattern matches no model.
        """
        names = self.names()
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise CheckFileError(f"--only {pattern!r} matches no model{suggestion(pattern, names)}")
        kept = tuple(
            model.model_copy(update={"name": name})
            for model, name in zip(self.models, names, strict=True)
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        )
        return self.model_copy(update={"models": kept})

    @model_validator(mode="after")
    def _makes_sense(self) -> CheckFile:
        names = self.names()
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two models are called {twice!r}: give them different names")
        for name, model in zip(names, self.models, strict=True):
            limits = self.limits_of(model)
            if model.baseline is None:
                asked = [
                    key for key in ("slower", "more_memory", "larger_file") if getattr(model.limits, key) is not None
                ]
                asked += ["answers"] if limits.answers == "same" else []
                drop = limits.accuracy is not None and limits.accuracy.max_drop is not None
                asked += ["accuracy.max_drop"] if drop else []
                if asked:
                    raise ValueError(f"model {name!r}: the limit {asked[0]!r} is relative to a baseline: give one")
            if not any(value not in (None, "any") for _, value in limits):
                raise ValueError(f"model {name!r} has no limit: give limits, or a baseline")
        return self


def find_check_file(folder: Path) -> Path:
    """Return the check file of a folder.

    Raises
    ------
    CheckFileError
        There is none.
    """
    for name in _NAMES:
        path = folder / name
        if path.is_file() and (path.suffix != ".toml" or _table(path) is not None):
            return path
    raise CheckFileError(
        f"there is no {_NAMES[0]} here, and no [tool.deploy.check] in pyproject.toml: write one, or name the check file"
    )


def load_check_file(path: Path) -> CheckFile:
    """Read a check file: YAML, or TOML with a table ``[tool.deploy.check]``.

    Raises
    ------
    CheckFileError
        The file is missing, neither YAML nor TOML, or has an unknown, missing or illegal key.
    """
    is_toml = path.suffix == ".toml"
    document = _table(path) if is_toml else _read(path, strict_yaml)
    if document is None and is_toml:
        raise CheckFileError(f"{path} has no table [tool.deploy.check]")
    if not isinstance(document, dict):
        got = "an empty file" if document is None else type(document).__name__
        raise CheckFileError(f"{path}: a check file is a mapping of keys to values, got {got}")
    try:
        return CheckFile.model_validate(document)
    except ValidationError as error:
        raise CheckFileError(f"{path}: {one_line(error, CheckFile)}") from error


def schema() -> str:
    """Return the JSON schema of check files, for editors: ``deploy-check.schema.json`` beside this module."""
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **CheckFile.model_json_schema()}
    return json.dumps({**described, "title": "deploy check"}, indent=2)


def _table(path: Path) -> Any:
    document = _read(path, tomllib.loads)
    for key in ("tool", "deploy", "check"):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _read(path: Path, parse: Any) -> Any:
    with read_errors(path, CheckFileError, folder="name the check file in it"):
        try:
            return parse(read_text(path, max_bytes=_MAX_BYTES))
        except ValueError as error:
            raise CheckFileError(f"{path}: {' '.join(str(error).split())}") from error


def _stem(path: Path) -> str:
    """Return the file stem, or the folder name for a bundle, whose file always has the same name."""
    return (path.parent.name if path.name == "model.onnx" and path.parent.name else path.stem) or "model"
