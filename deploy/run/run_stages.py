"""The stages of one run, each keyed by everything that affects its result."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from backends import registry
from benchmarks.machine.environment import identity
from benchmarks.records.file import version_of
from benchmarks.subject.backend_options import compile_options
from benchmarks.tables.plan_space import PlanSpace
from benchmarks.tables.table import LatencyTable
from deploy.recipe import Bench, Recipe, TargetSpec
from deploy.run.stages import Stage, StageStore, stage_key
from deploy.sources.network import fingerprint
from pruners.registry import create

__all__ = ["RunStages", "speed_backend", "stages_of", "table_key", "train_key"]


@dataclass(frozen=True, slots=True)
class RunStages:
    """The stages of one run, in order of execution."""

    train: Stage
    prune: Stage
    finetune: Stage
    export: Stage
    check: dict[str, Stage]
    bench: dict[str, Stage]


def train_key(recipe: Recipe, *more: str) -> str:
    """Return the key of the dense network's training; `more` is whatever else affects its result."""
    part = recipe.model_dump(mode="json")
    part["data"].pop("root")  # the location of the data set does not change the result
    return stage_key(
        version("prune-deploy"),
        part["seed"],
        part["network"],
        fingerprint(recipe.network),
        part["data"],
        part["train"],
        *more,
    )


def speed_backend(recipe: Recipe, target: TargetSpec | None = None) -> str:
    """Return the backend of a recipe's speed target; `target` is one of several, default the first."""
    return (target or recipe.prune.target).on or recipe.bench.backends[0]


def table_key(recipe: Recipe) -> str:
    """Return the key of a latency table of the dense network: independent of its weights, but not of this machine.

    Raises
    ------
    MethodError
        The method or a setting is unknown.
    """
    part = recipe.model_dump(mode="json")
    part["data"].pop("root")
    backend, bench = speed_backend(recipe), recipe.bench
    method = create(recipe.prune.method, **recipe.prune.settings)
    policy = [part["prune"]["attention"], part["prune"]["outputs"], method.removes_blocks]
    threads = recipe.prune.target.threads or bench.threads
    here = _here(backend, bench.model_copy(update={"threads": threads}))
    return stage_key(
        "table",
        version("prune-deploy"),
        part["seed"],
        part["network"],
        fingerprint(recipe.network),
        part["data"],
        policy,
        [version_of(kind) for kind in (LatencyTable, PlanSpace)],
        part["export"],
        [backend, bench.precision, bench.batch],
        here,
    )


def stages_of(recipe: Recipe, store: StageStore) -> RunStages:
    """Derive the stages from the recipe alone: no data or network is loaded."""
    part = recipe.model_dump(mode="json")
    train = train_key(recipe)
    prune = stage_key(train, part["prune"], *_speed_conditions(recipe))
    finetune = stage_key(prune, part["finetune"])
    search = [] if recipe.max_drop is None else [recipe.max_drop, recipe.beyond_target]
    fixed_batch = None if recipe.export.dynamic_batch else recipe.bench.batch
    export = stage_key(finetune, part["export"], fixed_batch, *search)
    options = {key: value for key, value in part["bench"].items() if key != "backends"}
    measured = {name: stage_key(export, options, name, _here(name, recipe.bench)) for name in recipe.bench.backends}
    return RunStages(
        train=store.stage("train", train),
        prune=store.stage("prune", prune),
        finetune=store.stage("finetune", finetune),
        export=store.stage("export", export),
        check={name: store.stage(f"check-{name}", key) for name, key in measured.items()},
        bench={name: store.stage(f"bench-{name}", key) for name, key in measured.items()},
    )


def _speed_conditions(recipe: Recipe) -> list[Any]:
    """Return what a speed depends on besides its target, without the machine: a finished pruning stays valid."""
    if not recipe.prune.target.is_speed:
        return []
    bench = recipe.bench
    where = [[speed_backend(recipe, target), target.threads or bench.threads] for target in recipe.prune.targets]
    return [where, bench.precision, bench.batch, recipe.export.model_dump(mode="json")]


def _here(backend: str, bench: Bench) -> list[str | int | None]:
    """Return what a measurement depends on besides the recipe: machine, runtime, resolved options."""
    options = compile_options(backend, precision=bench.precision, threads=bench.threads, device=bench.device)
    return [identity(), registry.probe(backend, bench.device).version, options.threads, options.device]
