"""The jobs of a study: latency tables, dense networks, prunings, recoveries, exports; each named by what decides it."""

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
"""What to do, in the folder of a job."""
MODEL = "model.onnx"
"""What a job that exports leaves."""
_SHOWN = 12


class StudyJob(Record):
    """One process of the study: all that it needs to know, in one file.

    Parameters
    ----------
    kind : {"table", "dense", "prune", "recover", "export"}
        What it does.
    title : str
        For people; decides nothing.
    key : str
        Hash of all that decides the result, jobs that it stands on included.
    needs : tuple of str
        Folders of the jobs that it stands on, inside that of the study: the dense network, then the pruned one or,
        of a pruning to a speed, the latency table.
    recipe : Recipe
        Of one method, budget and seed, as `deploy run` has it.
    recovery : Recovery, optional
        Of a job that recovers.
    finetune_epochs : int
        That "budget-matched" counts.
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
        """Whether it measures times: on the machine of the study, while no other job runs."""
        return self.kind == "table" or (self.kind == "prune" and self.recipe.prune.target.is_speed)


class StudyJobs(Record):
    """All jobs of a study, and which cell of its tables each belongs to.

    Parameters
    ----------
    tables : dict of str to StudyJob
        Latency tables of the dense network that prunings to a speed stand on, by folder.
    dense : dict of int to StudyJob
        By seed.
    pruned : dict of str to StudyJob
        By `cell_name` of method, budget and seed; without budgets that a method cannot keep to, and without methods
        whose library is not installed.
    recovered : dict of str to StudyJob
        By `cell_name` with the recovery.
    exported : dict of str to StudyJob
        Of the networks that are measured: by `cell_name`, and ``"dense"``.
    chosen : frozenset of str
        Folders of the jobs that are to be done; others are only read.
    """

    tables: dict[str, StudyJob]
    dense: dict[int, StudyJob]
    pruned: dict[str, StudyJob]
    recovered: dict[str, StudyJob]
    exported: dict[str, StudyJob]
    chosen: frozenset[str]

    @property
    def all(self) -> tuple[StudyJob, ...]:
        """Every job once; a job stands behind those that it needs."""
        kinds = (self.tables, self.dense, self.pruned, self.recovered, self.exported)
        return tuple({job.folder: job for kind in kinds for job in kind.values()}.values())


def cell_name(method: str, budget: Budget, seed: int, recovery: str = "") -> str:
    """Name a cell of the study: ``"l1/50 % flops/0/fine-tuned"``."""
    return "/".join(filter(None, (method, budget.title, str(seed), recovery)))


def jobs_of(recipe: StudyRecipe, *, only: Sequence[str] = (), measure: bool = True, processes: int = 1) -> StudyJobs:
    """List the jobs of a study.

    Parameters
    ----------
    recipe : StudyRecipe
        What is compared.
    only : sequence of str
        Names or patterns (``fnmatch``) of methods; jobs of the others are not chosen. Empty: all.
    measure : bool
        Whether networks are exported.
    processes : int
        That share a training: each takes the statistics of BatchNorm from its own part of a batch, so that the result
        is another one.

    Raises
    ------
    RecipeError
        No method matches one of them.
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
        """Return the job of the latency table that a pruning is decided by: one for all methods, budgets and seeds."""
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
    """Name the package that brings a method of somebody else's, with its version; empty for ours."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=method):
        if point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return ""
