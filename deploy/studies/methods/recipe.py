"""Recipe of a study: the network, and the methods, budgets, recoveries and seeds compared on it. No torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, field_validator, model_validator

from deploy.errors import RecipeError
from deploy.files.validation_errors import one_line, suggestion
from deploy.recipe import Bench, Prune, Section, TargetSpec, read_yaml
from deploy.run.loss_check import require_losses, require_repeatable
from deploy.sources.datasets.data import DataSpec, metric_of
from deploy.sources.network_spec import NetworkSpec
from pruners.errors import PruneError
from pruners.recover.settings import TrainSettings
from pruners.registry import create, method_class
from pruners.target import COSTS, Cost

__all__ = ["BASELINES", "Budget", "Mending", "MethodSpec", "Recovery", "RecoveryKind", "StudyRecipe", "load_study"]

RecoveryKind: TypeAlias = Literal["fine-tune", "scratch-e", "scratch-b", "budget-matched", "distil", "mend"]
Mending: TypeAlias = Literal["fold_bias", "reconstruct", "recalibrate"]
"""Step that repairs a pruned network before training."""
BASELINES = ("uniform", "random")
"""Methods that every study compares with: the same share of every layer, and random choice."""
_KINDS: dict[RecoveryKind, str] = {
    "fine-tune": "fine_tune",
    "scratch-e": "scratch_e",
    "scratch-b": "scratch_b",
    "budget-matched": "budget_matched",
    "distil": "distil",
    "mend": "mend",
}
_OF_WEIGHTS_TOO = ("exclude", "batch_size", "lr")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_TITLES: dict[RecoveryKind, str] = {
    "fine-tune": "fine-tuned",
    "scratch-e": "Scratch-E",
    "scratch-b": "Scratch-B",
    "budget-matched": "budget-matched",
    "distil": "distilled",
    "mend": "no training",
}


class MethodSpec(Section):
    """One pruning method with its settings."""

    name: str = Field(pattern=_NAME, description="name in the tables; default: that of the method")
    method: str = Field(description="one of `deploy list`")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the method")
    constraints: dict[str, Any] = Field(default_factory=dict, description="override those of the study")
    decide_by: Cost | None = Field(
        None,
        description="for a speed target: decide by a share of this cost; the share that gives it is searched for, by "
        "methods that do not train",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        given = {"method": value} if isinstance(value, str) else value
        if isinstance(given, dict) and "method" in given:
            return {"name": given["method"], **given}
        return given


class ScratchB(Section):
    """The same computation as the training of the dense network."""

    rule: Literal["cifar", "imagenet"] = Field("cifar", description="rule for the number of epochs")


class Distil(Section):
    """Fine-tuning on the labels and on the outputs of the dense network."""

    training: TrainSettings
    temperature: float = Field(4.0, gt=0)
    weight: float = Field(0.9, ge=0, le=1, description="weight of the dense network; the labels get the rest")


class Recovery(Section):
    """Recovery of a pruned network: exactly one of six kinds."""

    model_config = ConfigDict(populate_by_name=True)

    fine_tune: TrainSettings | None = Field(None, alias="fine-tune", description="from the weights that pruning left")
    scratch_e: Section | None = Field(
        None, alias="scratch-e", description="from new weights, trained like the dense network"
    )
    scratch_b: ScratchB | None = Field(
        None, alias="scratch-b", description="from new weights, for the same amount of computation"
    )
    budget_matched: Section | None = Field(
        None, alias="budget-matched", description="as scratch-b, with the epochs of the first fine-tuning on top"
    )
    distil: Distil | None = Field(None, description="fine-tuning with the dense network as the teacher")
    mend: Section | None = Field(None, description="only the steps below, without training")
    name: str = Field("", description="name in the tables; default: that of the kind")
    fold_bias: bool = Field(
        False, description="first add the mean contribution of removed channels to the biases behind them"
    )
    recalibrate: bool = Field(False, description="first re-estimate the statistics of BatchNorm")
    reconstruct: bool = Field(False, description="first fit layers that lost inputs to their previous outputs")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        given = {value: {}} if isinstance(value, str) else value
        if isinstance(given, dict) and len(kinds := given.keys() & _KINDS.keys()) == 1:  # "- scratch-e:" is enough
            return {key: {} if item is None and key in kinds else item for key, item in given.items()}
        return given

    @model_validator(mode="after")
    def _one(self) -> Recovery:
        given = [kind for kind, field in _KINDS.items() if getattr(self, field) is not None]
        if len(given) != 1:
            raise ValueError(f"a recovery is one of {', '.join(_KINDS)}; got {' and '.join(given) or 'none'}")
        if self.from_scratch and self.before:
            raise ValueError(f"{given[0]} starts from new weights: there is nothing to {' or '.join(self.before)}")
        if self.fold_bias and self.reconstruct:
            raise ValueError("reconstruct fits layers to what fold_bias would add to them: take one of the two")
        if self.mend is not None and not self.before:
            raise ValueError(f"mend needs one of {', '.join(get_args(Mending))}: true")
        return self

    @property
    def kind(self) -> RecoveryKind:
        """Which of the six kinds it is."""
        return next(kind for kind, field in _KINDS.items() if getattr(self, field) is not None)

    @property
    def title(self) -> str:
        """Name in the tables."""
        return self.name or " + ".join([*(word.replace("_", " ") for word in self.before), _TITLES[self.kind]])

    @property
    def before(self) -> tuple[Mending, ...]:
        """Steps that repair the network before training, in order."""
        return tuple(word for word in get_args(Mending) if getattr(self, word))

    @property
    def from_scratch(self) -> bool:
        """Whether the weights left by pruning are discarded."""
        return self.kind in ("scratch-e", "scratch-b", "budget-matched")

    def to_json(self) -> dict[str, Any]:
        """Return everything that decides the result, in JSON types: all but the name."""
        return self.model_dump(mode="json", by_alias=True, exclude={"name"}, exclude_none=True)


class Budget(TargetSpec):
    """Target of every method: a share of one cost, or a speed."""

    @model_validator(mode="after")
    def _shared(self) -> Budget:
        if self.ratios is not None:
            raise ValueError(f"a budget is one of {', '.join(COSTS)}, speed_up, latency_ms: ratios fit one network")
        if self.threads is not None:
            raise ValueError("a study measures with the threads of `bench`: give them there")
        if self.by is not None:
            raise ValueError(f"which cost decides is said of a method: decide_by: {self.by}")
        return self

    @property
    def title(self) -> str:
        """Name in the tables: ``"50 % flops"``, ``"2x on ort"``."""
        if self.is_speed:
            amount = f"{self.speed_up:g}x" if self.speed_up is not None else f"{self.latency_ms:g} ms"
            return f"{amount} on {self.on}" if self.on else amount
        target = self.as_target()
        return f"{100 * target.kept_fraction:g} % {target.of}"

    def refusal(self, removes: Literal["channels", "weights"]) -> str:
        """Return why methods of this kind cannot meet it; empty if they can."""
        return "single weights set to zero make no network faster" if self.is_speed and removes == "weights" else ""

    def target(self, removes: Literal["channels", "weights"]) -> dict[str, Any]:
        """Return the target of a method; methods that set weights to zero keep the same share of the weights."""
        if removes == "weights":
            return {"params": self.as_target().kept_fraction}
        return self.model_dump(exclude_none=True, exclude_defaults=True)


class StudyRecipe(Section):
    """One study of `deploy study`."""

    version: Literal[1] = 1
    name: str = Field(pattern=_NAME)
    network: NetworkSpec
    data: DataSpec
    train: TrainSettings = Field(description="training of the dense network, and every training from scratch")
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="the whole study is done with each")
    budgets: tuple[Budget, ...] = Field(
        min_length=1, description="each a kept share of one cost, or a speed; {flops: [0.5, 0.25]} for shares"
    )
    methods: tuple[MethodSpec, ...] = Field(min_length=1, description="names, or name, method, settings, constraints")
    baselines: bool = Field(True, description=f"add {' and '.join(BASELINES)}")
    constraints: dict[str, Any] = Field(default_factory=dict, description="for all methods, as in `prune` of a run")
    recoveries: tuple[Recovery, ...] = Field(min_length=1, description="each is applied to every pruned network")
    bench: Bench = Bench()
    measure_seeds: PositiveInt = Field(1, description="number of seeds, from the first, whose networks are measured")

    @field_validator("budgets", mode="before")
    @classmethod
    def _by_cost(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for of, shares in given.items():
            if of not in COSTS:
                raise ValueError(f"unknown key 'budgets.{of}'{suggestion(str(of), COSTS)}")
            if not isinstance(shares, list | tuple) or not shares:
                raise ValueError(f"{of} takes a list of shares that are kept; got {shares!r}")
        return [{of: share} for of in COSTS for share in given.get(of, ())]

    @model_validator(mode="after")
    def _consistent(self) -> StudyRecipe:
        for what, names in (
            ("seed", [str(seed) for seed in self.seeds]),
            ("budget", [budget.title for budget in self.all_budgets]),
            ("method", [method.name for method in self.methods]),
            ("recovery", [recovery.title for recovery in self.recoveries]),
        ):
            name, times = Counter(names).most_common(1)[0]
            if times > 1:
                raise ValueError(f"{what} {name!r} is there twice; give them different names")
        kinds = [recovery.kind for recovery in self.recoveries]
        if "budget-matched" in kinds and "fine-tune" not in kinds:
            raise ValueError("budget-matched adds the epochs of a fine-tuning; there is no fine-tune")
        for budget in self.all_budgets:
            if budget.is_speed and budget.on not in self.bench.backends:
                raise ValueError(f"bench.backends lacks {budget.on!r}, on which a speed is asked for")
        for method in self.all_methods:
            own = [self.prune(method, budget) for budget in self.budgets_of(method)]
            if not own:
                reason = self.all_budgets[0].refusal(method_class(method.method).removes)
                raise ValueError(f"no budget is for method {method.name!r}: {reason}; add one of {', '.join(COSTS)}")
        return self

    @property
    def all_budgets(self) -> tuple[Budget, ...]:
        """Every budget, in the order of the recipe; a speed names its backend."""
        on = {"on": self.bench.backends[0]}
        return tuple(b.model_copy(update=on) if b.is_speed and b.on is None else b for b in self.budgets)

    @property
    def all_methods(self) -> tuple[MethodSpec, ...]:
        """The methods, plus the baselines that are not among them."""
        named = {method.name for method in self.methods}
        added = BASELINES if self.baselines else ()
        return (*self.methods, *(MethodSpec.model_validate(name) for name in added if name not in named))

    @property
    def finetune_epochs(self) -> int:
        """Epochs of the first fine-tuning; 0 without any."""
        return next((one.fine_tune.epochs for one in self.recoveries if one.fine_tune is not None), 0)

    def budgets_of(self, method: MethodSpec) -> tuple[Budget, ...]:
        """Return the budgets that a method can meet."""
        removes = method_class(method.method).removes
        return tuple(budget for budget in self.all_budgets if not budget.refusal(removes))

    def prune(self, method: MethodSpec, budget: Budget) -> Prune:
        """Return the `prune` section of a `deploy run` recipe for one method and budget.

        Raises
        ------
        ValueError
            The constraints have an unknown or illegal key.
        """
        removes = method_class(method.method).removes
        by = {"by": method.decide_by} if budget.is_speed and method.decide_by else {}
        target = {**budget.target(removes), **by}
        asked = {"method": method.method, "settings": method.settings, "target": target}
        # Constraints on channels do not apply to methods that remove none.
        common = {
            key: value for key, value in self.constraints.items() if removes == "channels" or key in _OF_WEIGHTS_TOO
        }
        constraints = {**common, **method.constraints}
        if own := constraints.keys() & asked.keys():
            raise ValueError(f"constraints: {min(own)!r} is not a constraint of a method")
        try:
            return Prune.model_validate({**constraints, **asked})
        except ValidationError as error:
            raise ValueError(f"constraints of {method.name}: {one_line(error, Prune)}") from error


def load_study(path: Path) -> StudyRecipe:
    """Read the recipe of a study from YAML.

    Raises
    ------
    RecipeError
        The file is missing, is not YAML, or has an unknown, missing or illegal key; an unknown method or setting.
    """
    document = read_yaml(path)
    try:
        recipe = StudyRecipe.model_validate(document)
        for method in recipe.all_methods:
            created = create(method.method, **method.settings)
            require_losses(recipe.data, created.settings)
            if any(budget.is_speed for budget in recipe.budgets_of(method)):
                require_repeatable(created, method.decide_by)
        require_losses(recipe.data, recipe.train, *recipe.recoveries)
        if any(one.distil is not None for one in recipe.recoveries) and metric_of(recipe.data) != "accuracy":
            raise RecipeError(f"{path}: distil softens class scores; {recipe.data.name} has none: fine-tune instead")
    except ValidationError as error:
        raise RecipeError(f"{path}: {one_line(error, StudyRecipe)}") from error
    except PruneError as error:
        raise RecipeError(f"{path}: {error}") from error
    return recipe
