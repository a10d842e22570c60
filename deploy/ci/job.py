"""One model of a check file: its files, the measurements its limits need, and its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from backends.errors import BackendError
from backends.errors import one_line as reason_of
from benchmarks.answers.counted import counted
from benchmarks.errors import BenchmarkError, InputError
from benchmarks.records.measurement import Comparison, Cost, Measurement
from benchmarks.runner import Progress
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.inputs import model_specs, resolve_sizes
from benchmarks.subject.subject import SubjectSpec
from deploy.ci.accuracy import Examples, Scored, judge_accuracy, read_examples, scored_or_why
from deploy.ci.answers import answers_beside
from deploy.ci.baseline import GIT, baseline_of, model_file
from deploy.ci.check_file import CheckedModel, CheckFile, Limits
from deploy.ci.check_report import CheckRow
from deploy.ci.finding import Asked, Finding, not_judged
from deploy.ci.judging import judge_answers, judge_cost, outcome_of, wrong_answers
from deploy.ci.measuring import ALONE, FROM_ANY, RELATIVE, AloneTask, PairTask, Terms
from deploy.report.answer.explain_command import explain_command
from deploy.results.bench_grid import Grid, label_models, reference_of
from deploy.results.gather import results_of_bench
from deploy.results.results import Results

__all__ = ["Job"]

_NOT_YET = "the job ended before this was measured"


class Files(NamedTuple):
    """The models of a job by label, the baseline first."""

    paths: dict[str, Path]
    baseline: str | None
    candidate: str


@dataclass(eq=False, kw_only=True)
class Job:
    """One model of the check file."""

    name: str
    model: CheckedModel
    limits: Limits
    files: Files
    folder: Path
    given: GivenInputs
    examples: Examples | None
    costs: dict[str, Cost] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    tasks: list[PairTask | AloneTask] = field(default_factory=list)
    found: list[tuple[Asked, Finding]] = field(default_factory=list)

    @classmethod
    def of(cls, file: CheckFile, model: CheckedModel, name: str, folder: Path) -> Job:
        """Find every file of a model before anything is measured."""
        candidate = model_file(folder, model.model, f"model {name!r}")
        baseline = None
        if model.baseline is not None:
            baseline = baseline_of(folder, model.baseline, model.model, f"baseline of {name!r}")
        paths = label_models(candidate, baseline)
        labels = list(paths)
        limits = file.limits_of(model)
        return cls(
            name=name,
            model=model,
            limits=limits,
            files=Files(paths, None if baseline is None else labels[0], labels[-1]),
            folder=folder,
            given=GivenInputs.read(None if model.inputs is None else [folder / model.inputs]),
            examples=None if limits.accuracy is None else read_examples(limits.accuracy, folder),
        )

    @property
    def n_tasks(self) -> int:
        """Number of measurements its limits need."""
        return (self._wants_pair + self._wants_alone) * len(self._specs)

    @property
    def n_limits(self) -> int:
        """Number of estimated limits, over all backends."""
        asked = sum(getattr(self.limits, limit) is not None for limit in (*RELATIVE, *ALONE, *FROM_ANY))
        return asked * len(self._specs)

    def prepare(self, terms: Terms) -> None:
        """Judge the limits that need no measurement, and set up the measurements for the others."""
        static = self._asked()
        try:
            for label, path in self.files.paths.items():
                self.costs[label] = counted(
                    path,
                    shapes=self.model.shapes,
                    reference=reference_of(path),
                    given=self.given,
                    seed=terms.settings.seed,
                )
            batches = [self._batch(each[-1]) for each in self._specs]
        except (BackendError, InputError) as error:
            self.found += [(static, one) for one in not_judged(self.limits, reason_of(error, limit=500))]
            return
        before = None if self.files.baseline is None else self.costs[self.files.baseline]
        self.found += [(static, one) for one in judge_cost(self.limits, self.costs[self.files.candidate], before)]
        self._score(terms.say)
        for each, batch in zip(self._specs, batches, strict=True):
            self._set_up(each, batch, terms)

    def rows(self, file: CheckFile) -> Iterator[CheckRow]:
        """Yield the rows in the order of backends."""
        found, places = list(self.found), set()
        for task in self.tasks:
            wrong = wrong_answers(_sides(task.measured))
            if wrong is not None and task.asked.place not in places:
                places.add(task.asked.place)  # reported once if measured both in a pair and alone
                found.append((task.asked, wrong))
            findings = task.findings or not_judged(task.asked.limits, _NOT_YET, task.names)
            found += [(task.asked, one) for one in findings]
        for asked, one in found:
            yield one.row(asked, outcome_of(one.verdict, inconclusive=file.inconclusive, unfit=file.unfit))

    def results(self, *, accept_unfit: bool) -> Results | None:
        """Return what was measured; None if nothing was."""
        pairs = [task.measured for task in self.tasks if isinstance(task.measured, Comparison)]
        alone = [task.measured for task in self.tasks if isinstance(task.measured, Measurement)]
        if not pairs and not alone:
            return None
        labels = {side.subject.label for task in self.tasks for side in _sides(task.measured)}
        models = {label: path for label, path in self.files.paths.items() if label in labels}
        results = results_of_bench(pairs, alone, self.costs, models, accepts_unfit=accept_unfit)
        # A bundle has its own score, on other examples.
        rows = tuple(
            row.model_copy(update={"backend_scores": self.scores.get(row.label, {})}) if row.score_test is None else row
            for row in results.models
        )
        return results.model_copy(update={"models": rows})

    @property
    def _wants_pair(self) -> bool:
        return any(getattr(self.limits, limit) is not None for limit in RELATIVE)

    @property
    def _wants_alone(self) -> bool:
        wanted = ALONE if self._wants_pair else (*ALONE, *FROM_ANY)
        return any(getattr(self.limits, limit) is not None for limit in wanted)

    @cached_property
    def _specs(self) -> list[list[SubjectSpec]]:
        """Subjects to measure, the baseline first: each backend with each number of threads and each batch."""
        grid = Grid(
            backends=self.model.backends,
            precision=self.model.precision,
            device=self.model.device,
            threads=self.model.threads or (None,),
            batches=self.model.batch or (None,),
            shapes=self.model.shapes,
            given=self.given,
        )
        return list(grid.specs(self.files.paths))

    def _asked(self, spec: SubjectSpec | None = None, **without: None) -> Asked:
        file = self.model.model
        limits = self.limits.model_copy(update=without)
        if spec is None:
            return Asked(self.name, file, limits)
        threads = spec.options.threads
        place = f"{spec.backend}, {threads} thread{'' if threads == 1 else 's'}"
        place += f", batch {spec.batch}" if spec.batch is not None else ""
        return Asked(self.name, file, limits, spec.backend, place, self._explain(spec))

    def _explain(self, spec: SubjectSpec) -> str:
        """Return the command that explains why a model became slower, with paths relative to the current folder."""
        baseline = self.model.baseline
        if baseline is None:
            return ""
        if not baseline.startswith(GIT):
            baseline = self._from_here(baseline)
        elif (parts := baseline.removeprefix(GIT).partition(":"))[2]:
            baseline = f"{GIT}{parts[0]}:{self._from_here(parts[2])}"
        return explain_command(
            self._from_here(self.model.model),
            baseline,
            backend=spec.backend,
            threads=spec.options.threads,
            precision=spec.options.precision,
            device=spec.options.device,
            batch=spec.batch,
            shapes=spec.shapes,
            inputs=None if self.model.inputs is None else self._from_here(self.model.inputs),
        )

    def _from_here(self, path: str) -> str:
        return os.path.relpath(self.folder / path)

    def _batch(self, spec: SubjectSpec) -> int:
        specs, reference = model_specs(spec.model), reference_of(spec.model)
        shapes = {**self.given.shapes(specs.inputs, spec.shapes)}
        examples = {name: array.shape for name, array in (reference.inputs if reference else {}).items()}
        return resolve_sizes(specs, batch=spec.batch, shapes=shapes, examples={} if self.given else examples).batch

    def _score(self, say: Progress) -> None:
        limit, examples = self.limits.accuracy, self.examples
        if limit is None or examples is None:
            return
        by_backend = {each[-1].backend: each for each in reversed(self._specs)}
        for backend in self.model.backends:
            each = by_backend[backend]
            say(f"{backend}: accuracy of {self.name}")
            specs = each if limit.max_drop is not None else each[-1:]
            scored = [scored_or_why(spec.model, backend, spec.options, examples) for spec in specs]
            for spec, one in zip(specs, scored, strict=True):
                if isinstance(one, Scored):
                    self.scores.setdefault(spec.label, {})[backend] = one.accuracy
            asked = self._asked(each[-1])
            self.found += [
                (asked, one) for one in judge_accuracy(limit, scored[-1], scored[0] if len(scored) == 2 else None)
            ]

    def _set_up(self, specs: Sequence[SubjectSpec], batch: int, terms: Terms) -> None:
        candidate = specs[-1]
        if self.limits.answers == "same" and len(specs) == 2:
            asked = self._asked(candidate)
            try:
                beside = answers_beside(candidate, specs[0], terms.settings, terms.say, terms.machine)
            except (BackendError, BenchmarkError) as error:
                failed = not_judged(self.limits, reason_of(error, limit=500), ("answers",))
                self.found += [(asked, one) for one in failed]
            else:
                self.found.append((asked, judge_answers(beside)))
        if self._wants_pair:
            costs = (self.costs[self.files.baseline or ""], self.costs[self.files.candidate])
            asked = self._asked(candidate)
            self.tasks.append(PairTask(asked=asked, candidate=candidate, baseline=specs[0], costs=costs, terms=terms))
        if self._wants_alone:
            without = dict.fromkeys(FROM_ANY) if self._wants_pair else {}
            asked = self._asked(candidate, **without)
            self.tasks.append(AloneTask(asked=asked, candidate=candidate, batch=batch, terms=terms))


def _sides(measured: Comparison | Measurement | None) -> tuple[Measurement, ...]:
    if measured is None:
        return ()
    return measured.sides if isinstance(measured, Comparison) else (measured,)
