"""A recipe: everything that decides a run, read from YAML, closed against misspelt keys. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from deploy.did_you_mean import one_line
from deploy.errors import RecipeError
from deploy.sources.data import DataSpec
from deploy.sources.network import NetworkSpec
from pruners.recover.settings import TrainSettings
from pruners.task import Constraints, Target

__all__ = ["Bench", "Export", "Prune", "Recipe", "TargetSpec", "load_recipe"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TargetSpec(_Section):
    """Exactly one of: kept fraction of FLOPs, kept fraction of parameters, removed fraction per layer pattern."""

    flops: float | None = Field(None, gt=0, lt=1, description="share of the dense FLOPs that is kept, at most")
    params: float | None = Field(None, gt=0, lt=1, description="share of the dense parameters that is kept, at most")
    ratios: dict[str, float] | None = Field(None, description="share of channels removed, by pattern of layer names")

    @model_validator(mode="after")
    def _one(self) -> TargetSpec:
        given = [name for name in ("flops", "params", "ratios") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a target is one of flops, params, ratios; got {' and '.join(given) or 'none'}")
        return self

    def as_target(self) -> Target:
        """Convert to the noun that pruning methods know."""
        if self.ratios is not None:
            return Target(of="ratios", ratios=self.ratios)
        if self.flops is not None:
            return Target(of="flops", kept_fraction=self.flops)
        assert self.params is not None
        return Target(of="params", kept_fraction=self.params)


class Prune(_Section):
    """How the network is made smaller."""

    method: str = Field("taylor", description="one of `deploy list`")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the method")
    target: TargetSpec
    multiple_of: PositiveInt = Field(1, description="kept channel counts are a multiple of this")
    min_units: PositiveInt = 1
    min_fraction: float = Field(0.0, ge=0, le=1)
    exclude: tuple[str, ...] = Field((), description="patterns of layer names that stay whole")
    batch_size: PositiveInt = Field(64, description="of the batches that methods score and fine-tune on")
    lr: float = Field(1e-3, gt=0, description="of the updates between two removals (iterative methods)")

    def constraints(self) -> Constraints:
        """Convert to the noun that pruning methods know."""
        return Constraints(
            multiple_of=self.multiple_of,
            min_units=self.min_units,
            min_fraction=self.min_fraction,
            exclude=self.exclude,
        )


class Export(_Section):
    """How the networks become ONNX."""

    opset: PositiveInt = 20
    dynamic_batch: bool = Field(True, description="False bakes `bench.batch` into the file")


class Bench(_Section):
    """What is measured."""

    backends: tuple[str, ...] = Field(("ort", "openvino", "torch"), min_length=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: PositiveInt | None = Field(None, description="default: every core this process may use")
    device: str | None = Field(None, description="default: cpu, cuda for trt")
    batch: PositiveInt = 1
    trials: int | None = Field(None, ge=2, description="pairs of fresh processes; default: until the verdict is clear")
    budget_s: float = Field(60.0, gt=0, description="seconds for each backend; no process is started after them")
    margin: float = Field(0.03, gt=0, lt=1, description="smallest effect that counts, as a share")

    @field_validator("backends")
    @classmethod
    def _once(cls, backends: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(backends)) < len(backends):
            raise ValueError("a backend is named twice")
        return backends


class Recipe(_Section):
    """One run of `deploy run`."""

    version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: NonNegativeInt = 0
    network: NetworkSpec
    data: DataSpec
    train: TrainSettings | None = Field(None, description="leave out for a network that comes trained")
    prune: Prune
    finetune: TrainSettings | None = Field(None, description="leave out to keep the weights that pruning left")
    export: Export = Export()
    bench: Bench = Bench()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Relative paths inside it (a network's file, weights, an image folder) are relative to the working directory.

    Raises
    ------
    RecipeError
        The file is missing, is not YAML, or has an unknown, missing or illegal key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{path} is a folder; a recipe is a YAML file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{path} is not YAML{where}: {getattr(error, 'problem', None) or 'malformed'}") from error
    except ValueError as error:  # YAML knows dates, and some that are none look like one
        raise RecipeError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, got {type(document).__name__}")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{path}: {one_line(error, Recipe)}") from error
