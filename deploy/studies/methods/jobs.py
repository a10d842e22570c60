"""Jobs of a study: latency tables, dense networks, prunings, recoveries, exports, each keyed by its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Literal, TypeAlias

from benchmarks.records.base import Record
from deploy.errors import RecipeError
from deploy.files.validation_errors import suggestion
from deploy.recipe import Recipe
from deploy.run.run_stages import speed_backend, table_key, train_key
from deploy.run.stages import stage_key
from deploy.studies.methods.recipe import Budget, MethodSpec, Recovery, StudyRecipe
from pruners.registry import ENTRY_POINT_GROUP, create, method_class

__all__ = ["JOB", "MODEL", "Kind", "StudyJob", "StudyJobs", "cell_name", "jobs_of"]

Kind: TypeAlias = Literal["table", "dense", "prune", "recover", "export"]
JOB = "job.json"
"""Description of a job, in its folder."""
MODEL = "model.onnx"
"""Output of an export job."""
_SHOWN = 12


class StudyJob(Record):
    """One process of the study, fully described in one file.

    Parameters
    ----------
    kind : {"table", "dense", "prune", "recover", "export"}
        Kind of work.
    title : str
        For display only.
    key : str
        Hash of everything that decides the result, including the jobs it depends on.
    needs : tuple of str
        Folders of the jobs that it depends on, inside that of the study: the dense network, then the pruned one or,
        for a pruning to a speed, the latency table.
    recipe : Recipe
        Recipe of one method, budget and seed, as for `deploy run`.
    recovery : Recovery, optional
        Recovery of a job of that kind.
    finetune_epochs : int
        Epochs that "budget-matched" counts.
    """

    kind: Kind
    title: str
    key: str
    needs: tuple[str, ...] = ()
    recipe: Recipe
    recovery: Recovery | None = None
    finetune_epochs: int = 0

    @property
    def folder(self) -> str:
        """Name of its folder inside that of the study."""
        return f"jobs/{self.kind}-{self.key[:_SHOWN]}"

    @property
    def measures(self) -> bool:
        """Whether it measures times, on the machine of the study and with no other job running."""
        return self.kind == "table" or (self.kind == "prune" and self.recipe.prune.target.is_speed)


class StudyJobs(Record):
    """All jobs of a study by the cell of its tables they belong to.

    Parameters
    ----------
    tables : dict of str to StudyJob
        Latency tables of the dense network, needed by prunings to a speed; by folder.
    dense : dict of int to StudyJob
        Dense networks by seed.
    pruned : dict of str to StudyJob
        Prunings by `cell_name` of method, budget and seed; without budgets that a method cannot meet, and without
        methods whose library is not installed.
    recovered : dict of str to StudyJob
        Recoveries by `cell_name` with the recovery.
    exported : dict of str to StudyJob
        Exports of the measured networks, by `cell_name`, and ``"dense"``.
    chosen : frozenset of str
        Folders of the jobs to run; others are only read.
    """

    tables: dict[str, StudyJob]
    dense: dict[int, StudyJob]
    pruned: dict[str, StudyJob]
    recovered: dict[str, StudyJob]
    exported: dict[str, StudyJob]
    chosen: frozenset[str]

    @property
    def all(self) -> tuple[StudyJob, ...]:
        """Every job once, each after those that it needs."""
        kinds = (self.tables, self.dense, self.pruned, self.recovered, self.exported)
        return tuple({job.folder: job for kind in kinds for job in kind.values()}.values())


def cell_name(method: str, budget: Budget, seed: int, recovery: str = "") -> str:
    """Return the name of a cell: ``"l1/50 % flops/0/fine-tuned"``."""
    return "/".join(filter(None, (method, budget.title, str(seed), recovery)))


def jobs_of(recipe: StudyRecipe, *, only: Sequence[str] = (), measure: bool = True, processes: int = 1) -> StudyJobs:
    """Return the jobs of a study.

    Parameters
    ----------
    recipe : StudyRecipe
        Recipe of the study.
    only : sequence of str
        Names or patterns (``fnmatch``) of methods; jobs of the others are not chosen. Empty: all.
    measure : bool
        Whether networks are exported.
    processes : int
        Processes that share a training; each computes BatchNorm statistics on its own part of a batch, which changes
        the result.

    Raises
    ------
    RecipeError
        A pattern matches no method.
    SourceError
        The network is unknown.
    """
    names = [method.name for method in recipe.all_methods]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"no method of this study matches {pattern!r}{suggestion(pattern, names)}")
    wanted = {name for name in names if any(fnmatchcase(name, pattern) for pattern in only or ("*",))}
    make = _Maker(recipe, processes)
    dense = {seed: make.dense(seed) for seed in recipe.seeds}
    pruned, recovered, exported, chosen = {}, {}, {}, {job.folder for job in dense.values()}
    measured = recipe.seeds[: recipe.measure_seeds] if measure else ()
    if measured:
        exported["dense"] = make.export(dense[measured[0]], "dense")
    for method in recipe.all_methods:
        for budget in () if method_class(method.method).lacking() else recipe.budgets_of(method):
            for seed in recipe.seeds:
                name = cell_name(method.name, budget, seed)
                pruned[name] = make.prune(method, budget, dense[seed])
                for recovery in recipe.recoveries:
                    recovered[f"{name}/{recovery.title}"] = make.recover(recovery, dense[seed], pruned[name], name)
                if seed in measured:
                    exported[name] = make.export(pruned[name], name, dense[seed])
    for name, job in (*pruned.items(), *recovered.items(), *exported.items()):
        if name == "dense" or name.split("/")[0] in wanted:
            chosen |= {job.folder, *job.needs}
    return StudyJobs(
        tables={job.folder: job for job in make.tables.values()},
        dense=dense,
        pruned=pruned,
        recovered=recovered,
        exported=exported,
        chosen=frozenset(chosen),
    )


class _Maker:
    def __init__(self, recipe: StudyRecipe, processes: int) -> None:
        self.recipe = recipe
        self._shared = () if processes == 1 else (f"{processes} processes",)
        self._finetune_epochs = recipe.finetune_epochs
        self.tables: dict[tuple[str, str, tuple[str, ...], bool], StudyJob] = {}

    def dense(self, seed: int) -> StudyJob:
        method = self.recipe.all_methods[0]
        run = self._run(seed, method, self.recipe.budgets_of(method)[0])
        return StudyJob(
            kind="dense", title=f"dense network, seed {seed}", key=train_key(run, *self._shared), recipe=run
        )

    def prune(self, method: MethodSpec, budget: Budget, dense: StudyJob) -> StudyJob:
        run = self._run(dense.recipe.seed, method, budget)
        settings = create(method.method, **method.settings).settings.model_dump(mode="json")
        stands_on = (dense,) if not budget.is_speed else (dense, self._table(run))
        asked = run.prune.model_dump(mode="json")
        key = stage_key("prune", *(job.key for job in stands_on), asked, settings, _provider(method.method))
        title = f"prune by {method.name} to {budget.title}, seed {dense.recipe.seed}"
        needs = tuple(job.folder for job in stands_on)
        return StudyJob(kind="prune", title=title, key=key, needs=needs, recipe=run)

    def recover(self, recovery: Recovery, dense: StudyJob, pruned: StudyJob, name: str) -> StudyJob:
        epochs = self._finetune_epochs if recovery.kind == "budget-matched" else 0
        return StudyJob(
            kind="recover",
            title=f"{recovery.title} {name}",
            key=stage_key("recover", pruned.key, recovery.to_json(), epochs, *self._shared),
            needs=(dense.folder, pruned.folder),
            recipe=pruned.recipe,
            recovery=recovery,
            finetune_epochs=epochs,
        )

    def export(self, of: StudyJob, name: str, dense: StudyJob | None = None) -> StudyJob:
        needs = (of.folder,) if dense is None else (dense.folder, of.folder)
        key = stage_key("export", of.key, of.recipe.export.model_dump(mode="json"))
        return StudyJob(kind="export", title=f"export {name}", key=key, needs=needs, recipe=of.recipe)

    def _table(self, run: Recipe) -> StudyJob:
        """Return the job of the latency table of a pruning, shared by all methods, budgets and seeds."""
        backend, prune = speed_backend(run), run.prune
        blocks = create(prune.method, **prune.settings).removes_blocks
        decides = (backend, prune.attention, prune.outputs, blocks)
        if decides not in self.tables:
            own = run.model_copy(update={"seed": self.recipe.seeds[0]})
            title = f"latency table of {backend}{', with residual blocks' if blocks else ''}"
            self.tables[decides] = StudyJob(kind="table", title=title, key=table_key(own), recipe=own)
        return self.tables[decides]

    def _run(self, seed: int, method: MethodSpec, budget: Budget) -> Recipe:
        recipe = self.recipe
        return Recipe(
            name=recipe.name,
            seed=seed,
            network=recipe.network,
            data=recipe.data,
            train=recipe.train,
            prune=recipe.prune(method, budget),
            bench=recipe.bench,
        )


def _provider(method: str) -> str:
    """Return package and version of a third-party method; empty for ours."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=method):
        if point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return ""
