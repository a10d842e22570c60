"""Recipes: all settings of a run, read from YAML; unknown keys are errors. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

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

from backends.reading.files import read_text
from benchmarks.records.disk import read_errors
from deploy.errors import RecipeError
from deploy.files.strict_yaml import strict_yaml
from deploy.files.validation_errors import one_line
from deploy.sources.datasets.data import DataSpec
from deploy.sources.network_spec import NetworkSpec
from pruners.policy import Attention
from pruners.recover.settings import TrainSettings
from pruners.target import COSTS, Constraints, Cost, Target

__all__ = [
    "Bench",
    "Export",
    "Prune",
    "Recipe",
    "Section",
    "TargetSpec",
    "load_recipe",
    "read_yaml",
    "recipe_of",
    "with_data_root",
]


_MAX_BYTES = 1 << 20


class Section(BaseModel):
    """A part of a recipe: frozen, refuses unknown keys; without fields of its own it is an empty mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TargetSpec(Section):
    """Exactly one of: a kept share of one cost, the removed share of channels per layer pattern, or a speed."""

    flops: float | None = Field(None, gt=0, lt=1, description="share of the dense FLOPs that is kept, at most")
    macs: float | None = Field(None, gt=0, lt=1, description="the same for multiply-accumulates")
    params: float | None = Field(None, gt=0, lt=1, description="share of the dense parameters that is kept, at most")
    weight_bytes: float | None = Field(None, gt=0, lt=1, description="the same for the bytes of the saved tensors")
    activation_bytes: float | None = Field(
        None, gt=0, lt=1, description="the same for the bytes of the layers' outputs"
    )
    ratios: dict[str, float] | None = Field(None, description="share of channels removed, by pattern of layer names")
    speed_up: float | None = Field(None, gt=1, description="how many times faster than the dense network, measured")
    latency_ms: float | None = Field(None, gt=0, description="milliseconds per call, measured")
    on: str | None = Field(None, description="backend for a speed target; default: the first one measured")
    threads: PositiveInt | None = Field(
        None, description="threads of one inference, for a speed target; default: those of `bench`"
    )
    by: Cost | None = Field(
        None,
        description="for a speed target: decide by this cost; the share that gives the time is searched for, by "
        "methods that do not train",
    )
    tolerance: float = Field(
        0.01, gt=0, lt=1, description="for a speed target: how far off it may be, as a share of dense"
    )

    @model_validator(mode="after")
    def _one(self) -> TargetSpec:
        kinds = (*COSTS, "ratios", "speed_up", "latency_ms")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a target is one of {', '.join(kinds)}; got {' and '.join(given) or 'none'}")
        if not self.is_speed:
            of_speed = ("on", "threads", "by", "tolerance")
            if any(getattr(self, name) != type(self).model_fields[name].default for name in of_speed):
                raise ValueError(f"on, threads, by and tolerance belong to speed_up or latency_ms, not to {given[0]}")
            self.as_target()
        return self

    @property
    def is_speed(self) -> bool:
        """Whether the target is a speed, which needs a latency table."""
        return self.speed_up is not None or self.latency_ms is not None

    def at(self, reach: float, share: float) -> TargetSpec:
        """Return a milder or a stricter target.

        Parameters
        ----------
        reach : float
            0: the dense network, 1: this target, above 1: beyond it.
        share : float
            What this target asks for, as a share of the dense network's cost or time.
        """
        if self.is_speed:
            return self.model_copy(update={"latency_ms": None, "speed_up": share**-reach})
        return self.model_copy(update={self.as_target().of: share**reach})

    def as_target(self) -> Target:
        """Convert a target that is not a speed to the class that pruning methods take."""
        if self.ratios is not None:
            return Target(of="ratios", ratios=self.ratios)
        of = next(name for name in COSTS if getattr(self, name) is not None)
        return Target(of=of, kept_fraction=getattr(self, of))


class Prune(Section):
    """How the network is made smaller."""

    method: str = Field("taylor", description="one of `deploy list`")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the method")
    target: TargetSpec
    also: tuple[TargetSpec, ...] = Field(
        (), description="other speeds to meet as well; `target: [first, second]` is equivalent"
    )
    multiple_of: PositiveInt | Literal["auto"] = Field(
        1,
        description="kept channel counts are a multiple of this; auto, the default for a speed target: as its table "
        "shows",
    )
    min_units: PositiveInt = 1
    min_fraction: float = Field(0.0, ge=0, le=1)
    exclude: tuple[str, ...] = Field(
        (), description="layers, or modules with everything in them, that stay whole (patterns)"
    )
    bounds: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="minimum and maximum share of channels kept, by pattern of layer names"
    )
    max_units_per_step: PositiveInt | None = Field(None, description="maximum number of channels per removal")
    max_fraction_per_step: float | None = Field(None, gt=0, le=1, description="the same as a share of all channels")
    exact_only: bool = Field(False, description="leave channels whole where removing differs from masking")
    attention: Attention = Field("heads", description="remove whole heads, or one position of every head")
    form: Literal["auto", "module", "graph"] = Field("auto", description="the network's own module, or its graph")
    outputs: tuple[str, ...] = Field((), description="outputs whose channels stay (patterns of names); empty: all")
    batch_size: PositiveInt = Field(64, description="batch size for scoring and fine-tuning by the method")
    lr: float = Field(1e-3, gt=0, description="learning rate of the updates between two removals (iterative methods)")

    @model_validator(mode="before")
    @classmethod
    def _aligned_for_a_speed(cls, given: Any) -> Any:
        target = given.get("target") if isinstance(given, dict) else None
        if isinstance(target, list) and target:
            if given.get("also"):
                raise ValueError("write all speeds in the list of `target`, or the others in `also`, not both")
            target, *also = target
            given = {**given, "target": target, "also": also}
        speeds = ("speed_up", "latency_ms")
        if isinstance(target, dict) and any(target.get(name) is not None for name in speeds):
            return {"multiple_of": "auto", **given}
        return given

    @model_validator(mode="after")
    def _together(self) -> Prune:
        where = [(target.on, target.threads) for target in self.targets]
        if self.also and not all(target.is_speed for target in self.targets):
            raise ValueError("several targets are met together only where each is a speed_up or a latency_ms")
        if len(set(where)) < len(where):
            twice = next(place[0] for place in where if where.count(place) > 1)
            raise ValueError(f"two targets contradict each other, both on {twice or 'the first backend'}: keep one")
        if len({target.by for target in self.targets}) > 1:
            raise ValueError("one cost decides for all targets that are met together: give each the same `by`, or none")
        return self

    @property
    def targets(self) -> tuple[TargetSpec, ...]:
        """All targets; they are met together."""
        return (self.target, *self.also)

    @field_validator("bounds")
    @classmethod
    def _shares(cls, bounds: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        Constraints(bounds=bounds)
        return bounds

    def constraints(self, block: int = 1) -> Constraints:
        """Convert to the class that pruning methods take; `block` is the value of ``multiple_of: auto``."""
        return Constraints(
            multiple_of=block if self.multiple_of == "auto" else self.multiple_of,
            min_units=self.min_units,
            min_fraction=self.min_fraction,
            exclude=self.exclude,
            bounds=self.bounds,
            max_units_per_step=self.max_units_per_step,
            max_fraction_per_step=self.max_fraction_per_step,
            exact_only=self.exact_only,
            form=self.form,
            attention=self.attention,
            outputs=self.outputs,
        )


class Export(Section):
    """How the networks become ONNX."""

    opset: PositiveInt = 20
    dynamic_batch: bool = Field(True, description="False bakes `bench.batch` into the file")


class Bench(Section):
    """What is measured."""

    backends: tuple[str, ...] = Field(("ort", "openvino", "torch"), min_length=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: PositiveInt | None = Field(None, description="default: every core this process may use")
    device: str | None = Field(None, description="default: cpu, cuda for trt")
    batch: PositiveInt = 1
    trials: int | None = Field(None, ge=2, description="pairs of fresh processes; default: until the verdict is clear")
    budget_s: float = Field(60.0, gt=0, description="seconds for each backend; no process is started after that")
    margin: float = Field(0.03, gt=0, lt=1, description="smallest effect that counts, as a share")

    @field_validator("backends")
    @classmethod
    def _once(cls, backends: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(backends)) < len(backends):
            raise ValueError("a backend is named twice")
        return backends


class Recipe(Section):
    """One run of `deploy run`."""

    version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: NonNegativeInt = 0
    network: NetworkSpec
    data: DataSpec
    train: TrainSettings | None = Field(None, description="omit for a network that is already trained")
    prune: Prune
    finetune: TrainSettings | None = Field(None, description="omit to keep the weights that pruning left")
    max_drop: float | None = Field(
        None,
        ge=0,
        description="points of accuracy (dB of PSNR) that the network may lose on the validation images: where it "
        "loses more, milder targets are tried, and the smallest network within it is kept",
    )
    beyond_target: bool = Field(
        False, description="with max_drop: also try smaller networks than the target, as long as they are within it"
    )
    export: Export = Export()
    bench: Bench = Bench()

    @model_validator(mode="after")
    def _drop_of_one_number(self) -> Recipe:
        if self.beyond_target and self.max_drop is None:
            raise ValueError("beyond_target says how far to go within max_drop: give max_drop too, or leave it out")
        if self.max_drop is not None and self.prune.target.ratios is not None:
            raise ValueError(
                "max_drop tries milder targets, and ratios have none: ask for a speed or a share of a cost"
            )
        return self


_Recipe = TypeVar("_Recipe", bound=Section)
"""One of `deploy run`, or of `deploy study`."""


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from YAML.

    Relative paths inside it (a network's file, weights, an image folder) are relative to the working directory.

    Raises
    ------
    RecipeError
        The file is missing, is not YAML, or has an unknown, missing or illegal key.
    """
    return recipe_of(read_yaml(path), str(path))


def recipe_of(document: dict[str, Any], where: str) -> Recipe:
    """Validate a recipe given as a mapping; `where` is the prefix of error messages.

    Raises
    ------
    RecipeError
        A key is illegal.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"{where}: {one_line(error, Recipe)}") from error


def with_data_root(recipe: _Recipe, root: Path | None) -> _Recipe:
    """Return the recipe with its data sets in another directory; unchanged if none is given."""
    if root is None:
        return recipe
    data: DataSpec = recipe.data  # type: ignore[attr-defined]  # both kinds of recipes have it
    return recipe.model_copy(update={"data": data.model_copy(update={"root": root.resolve()})})


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    RecipeError
        It is missing, is not YAML, or holds something else.
    """
    with read_errors(path, RecipeError, folder="a recipe is a YAML file"):
        try:
            document = strict_yaml(read_text(path, max_bytes=_MAX_BYTES))
        except ValueError as error:
            raise RecipeError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, got {type(document).__name__}")
    return document
