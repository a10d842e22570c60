"""`Results`: everything that one run or one bench found out, as one versioned JSON file.

Raw samples are in it; every percentile, ratio and sentence is derived from them when a person looks.
docs/results.md explains each field.

Versions of the format
----------------------
1   the first
2   the records of measurements in it are of version 2
3   scores with a metric in the place of accuracies
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue, NonNegativeInt, ValidationError, model_validator

from benchmarks.records.base import Record
from benchmarks.records.file import lift
from benchmarks.records.measurement import Agreement, Comparison, Cost, Environment, Measurement
from deploy.errors import ResultsError
from deploy.files.atomic import write_file
from deploy.files.validation_errors import one_line
from deploy.sources.metric import Metric, require_legal

if TYPE_CHECKING:
    from deploy.bundle.bundle import Bundle
    from deploy.recipe import Recipe

__all__ = [
    "SCHEMA_VERSION",
    "Answer",
    "ModelRow",
    "Results",
    "Skipped",
    "load",
    "results_of_bench",
    "results_of_journal",
    "results_of_run",
]

SCHEMA_VERSION = 3

_SCORES = {
    "accuracy_validation": "score_validation",
    "accuracy_test": "score_test",
    "backend_accuracy": "backend_scores",
}
"""Fields of a model by their names before version 3."""
_WRONG_ANSWERS = "WrongAnswersError"


class ModelRow(Record):
    """One network: what it costs on paper, how good it is, where it comes from."""

    label: str = Field(description="name in the tables; subjects of measurements carry the same")
    file: str = Field(description="name of the ONNX file, without its folder")
    sha256: str = Field(description="hash over the ONNX file and its external data")
    file_bytes: NonNegativeInt = Field(description="ONNX file with its external data")
    cost: Cost
    metric: Metric = Field("accuracy", description="of all scores: top-1 accuracy in [0, 1], or mean PSNR in dB")
    score_validation: float | None = Field(None, description="in torch; None: not measured")
    score_test: float | None = Field(None, description="in torch; None: not measured")
    n_test: NonNegativeInt | None = Field(None, description="test examples behind score_test")
    backend_scores: dict[str, float] = Field(
        default_factory=dict, description="on the test set through each backend's compiled model"
    )
    method: str | None = Field(None, description="pruning method; None for a network that was not pruned")
    settings: dict[str, JsonValue] = Field(default_factory=dict, description="of the method")
    plan_removed_units: NonNegativeInt | None = Field(
        None, description="channels that the plan removed, over all groups; None: no plan, or not looked at"
    )
    zeros: NonNegativeInt = Field(0, description="parameters that the method set to zero, with their shapes kept")

    @model_validator(mode="after")
    def _legal(self) -> ModelRow:
        require_legal(self.metric, self.score_validation, self.score_test, *self.backend_scores.values())
        return self


class Skipped(Record):
    """A backend that was asked for and could not be used."""

    backend: str
    reason: str
    hint: str = Field("", description="what to do about it")


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one compiled model answered as its reference does.

    Parameters
    ----------
    label, backend : str
        Which model, compiled by whom.
    agreement : Agreement or None
        None where it was not checked: the model could not be compiled, or the backend computes nothing.
    failure : str or None
        Why there are no samples.
    agrees : bool
        False where the answers were compared and are wrong. A model that did not run gave no wrong answer.
    """

    label: str
    backend: str
    agreement: Agreement | None
    failure: str | None
    agrees: bool


class Results(Record):
    """``results.json``."""

    schema_version: Literal[3] = 3
    created_utc: str
    title: str = Field(min_length=1)
    tool_version: str
    environment: Environment = Field(
        description="the machine; versions of everything that took part, the highest load seen by any measurement"
    )
    models: tuple[ModelRow, ...] = Field(min_length=1, description="the baseline first")
    comparisons: tuple[Comparison, ...] = Field((), description="pairs that were measured together, one per backend")
    measurements: tuple[Measurement, ...] = Field((), description="models that were measured alone")
    skipped: tuple[Skipped, ...] = ()
    recipe: dict[str, JsonValue] | None = Field(None, description="of `deploy run`, without the place of the data")
    notes: tuple[str, ...] = Field((), description="what a reader should know, one sentence each")

    def all_measurements(self) -> tuple[Measurement, ...]:
        """List every measurement, of pairs and alone, the baseline of a pair first."""
        return (*(side for pair in self.comparisons for side in pair.sides), *self.measurements)

    def answers(self) -> tuple[Answer, ...]:
        """Tell for every compiled model whether its answers were right."""
        return tuple(
            Answer(
                label=found.subject.label,
                backend=found.subject.backend,
                agreement=found.agreement,
                failure=found.failure,
                agrees=found.failure_kind != _WRONG_ANSWERS and (found.agreement is None or found.agreement.ok),
            )
            for found in self.all_measurements()
        )

    def model(self, label: str) -> ModelRow | None:
        """Return the row of the model called `label`."""
        return next((row for row in self.models if row.label == label), None)

    def save(self, path: Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        write_file(path, self.model_dump_json(indent=1) + "\n")


def load(path: Path) -> Results:
    """Read a results file of this or an older version.

    Raises
    ------
    ResultsError
        The file is missing, broken, or of an unknown version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ResultsError(f"{path}: no such file") from error
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # not JSON, or not even text
        raise ResultsError(f"{path} is not JSON: it is damaged, or no results file") from error
    if not isinstance(document, dict) or "schema_version" not in document:
        raise ResultsError(f"{path} is not a results file: it has no schema_version")
    if document["schema_version"] not in range(1, SCHEMA_VERSION + 1):
        raise ResultsError(
            f"{path} has schema_version {document['schema_version']!r}; this program reads 1 to {SCHEMA_VERSION}: "
            "use the version of prune-deploy that wrote it, or a newer one"
        )
    document = _lift(document, path)
    try:
        return Results.model_validate(document)
    except ValidationError as error:
        raise ResultsError(f"{path} is not a legal results file: {one_line(error, Results)}") from error


def _lift(document: dict[str, Any], path: Path) -> dict[str, Any]:
    """Bring the JSON form of an older version to the present one: the records inside carry versions of their own."""
    lifted = {**document, "schema_version": SCHEMA_VERSION}
    for name in ("comparisons", "measurements"):
        if isinstance(records := document.get(name), list):
            lifted[name] = [lift(one, str(path)) if isinstance(one, dict) else one for one in records]
    if document["schema_version"] < 3 and isinstance(models := document.get("models"), list):
        lifted["models"] = [
            {_SCORES.get(key, key): value for key, value in row.items()} if isinstance(row, dict) else row
            for row in models
        ]
    return lifted


def results_of_run(
    recipe: Recipe,
    bundles: Mapping[str, Bundle],
    scores: Mapping[str, Mapping[str, float]],
    comparisons: Sequence[Comparison],
    *,
    skipped: Sequence[Skipped] = (),
) -> Results:
    """Gather what `deploy run` found.

    Parameters
    ----------
    recipe : Recipe
        See there.
    bundles : Mapping of str to Bundle
        By label, ``"dense"`` and ``"pruned"``; the baseline first.
    scores : Mapping of str to Mapping of str to float
        By label and backend: test score of the compiled model.
    comparisons : sequence of Comparison
        One per backend.
    skipped : sequence of Skipped, optional
        Backends that could not even be checked.

    Raises
    ------
    ResultsError
        There is no comparison of a bundle.
    PlanError
        A bundle's plan cannot be read.
    """
    costs = {pair.baseline.subject.label: pair.baseline_cost for pair in comparisons}
    costs |= {pair.candidate.subject.label: pair.candidate_cost for pair in comparisons}
    if missing := sorted(bundles.keys() - costs.keys()):
        raise ResultsError(f"{missing[0]!r} was not measured: name at least one backend in the recipe")
    models = tuple(
        _row(label, bundle.model, bundle.sha256, costs[label], bundle).model_copy(
            update={
                "backend_scores": dict(scores.get(label, {})),
                "plan_removed_units": _removed_units(bundle),
            }
        )
        for label, bundle in bundles.items()
    )
    described = recipe.model_dump(mode="json")
    described["data"].pop("root", None)  # a place on this machine: it decides nothing, and results travel
    return _results(
        f"{recipe.name}: what the pruning bought",
        models,
        comparisons=tuple(comparisons),
        skipped=tuple(skipped),
        notes=_noise_floors(comparisons),
        recipe=described,
    )


def results_of_bench(
    comparisons: Sequence[Comparison],
    measurements: Sequence[Measurement],
    costs: Mapping[str, Cost],
    models: Mapping[str, Path],
    *,
    skipped: Sequence[Skipped] = (),
) -> Results:
    """Gather what `deploy bench` found.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Pairs, one per backend.
    measurements : sequence of Measurement
        Models that were measured alone.
    costs : Mapping of str to Cost
        By label.
    models : Mapping of str to Path
        ONNX files by label, the baseline first. Where one lies in a bundle, its scores and method are taken over.
    skipped : sequence of Skipped, optional
        Backends that could not be used.

    Raises
    ------
    ResultsError
        Nothing was measured.
    BundleError
        A model lies in a broken bundle.
    """
    from deploy.bundle.bundle import bundle_of

    hashes = {found.subject.label: found.subject.sha256 for found in _sides(comparisons, measurements)}
    if missing := [label for label in models if label not in hashes]:
        raise ResultsError(f"{missing[0]!r} was not measured: name at least one backend")
    rows = tuple(_row(label, path, hashes[label], costs[label], bundle_of(path)) for label, path in models.items())
    return _results(
        " against ".join(reversed(list(models))),
        rows,
        comparisons=tuple(comparisons),
        measurements=tuple(measurements),
        skipped=tuple(skipped),
        notes=_noise_floors(comparisons),
    )


def results_of_journal(path: Path) -> Results:
    """Give what a measurement that was killed had found out.

    Parameters
    ----------
    path : Path
        The journal beside its results file.

    Raises
    ------
    RecordError
        The file is missing, or no journal.
    ResultsError
        It is the journal of a single model, of a version that did not keep its cost: measure again.
    """
    from benchmarks.journal import Journal, recover

    found, torn = recover(path)
    notes = (f"the run was interrupted{f'; {torn}' if torn else ''}",)
    if not isinstance(found, Comparison):
        (begun,) = Journal.read(path).begun.values()
        if begun.cost is None:
            raise ResultsError(f"{path} lacks the model's cost ({len(found.trials)} trials are in it): measure again")
        row = _row_of(found, begun.cost)
        return _results(row.label, (row,), measurements=(found,), notes=notes)
    rows = (_row_of(found.baseline, found.baseline_cost), _row_of(found.candidate, found.candidate_cost))
    return _results(f"{rows[1].label} against {rows[0].label}", rows, comparisons=(found,), notes=notes)


def _row_of(side: Measurement, cost: Cost) -> ModelRow:
    return ModelRow(
        label=side.subject.label,
        file=Path(side.subject.model).name,
        sha256=side.subject.sha256,
        file_bytes=cost.file_bytes,
        cost=cost,
    )


def _results(title: str, models: tuple[ModelRow, ...], **parts: Any) -> Results:
    sides = _sides(parts.get("comparisons", ()), parts.get("measurements", ()))
    return Results(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        title=title,
        tool_version=version("prune-deploy"),
        environment=_environment([side.environment for side in sides]),
        models=models,
        **parts,
    )


def _noise_floors(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Tell how small a difference this machine can tell, where `deploy calibrate` found out."""
    from benchmarks.machine.noise_floor import fingerprint, load

    notes = {}
    for pair in comparisons:
        backend = pair.candidate.subject.backend
        floor = load(fingerprint(pair.candidate.environment), backend)
        if floor is None:
            continue
        known = (
            f"a margin of {floor.smallest_margin:.1%} is decided in 95 % of comparisons"
            if floor.smallest_margin is not None
            else "no margin is decided in 95 % of comparisons"
        )
        asked = "" if floor.can_decide(pair.margin) else f"; {pair.margin:.1%} was asked for"
        notes[backend] = f"noise floor of {backend} here, calibrated {floor.started_utc[:10]}: {known}{asked}."
    return tuple(notes.values())


def _row(label: str, path: Path, sha256: str, cost: Cost, bundle: Bundle | None) -> ModelRow:
    row = ModelRow(label=label, file=path.name, sha256=sha256, file_bytes=cost.file_bytes, cost=cost)
    if bundle is None:
        return row
    scores, origin = bundle.manifest.scores, bundle.manifest.provenance
    return row.model_copy(
        update={
            "metric": scores.metric,
            "score_validation": scores.validation,
            "score_test": scores.test,
            "n_test": scores.n_test or None,
            "method": origin.method,
            "settings": origin.settings,
            "zeros": bundle.manifest.cost.zeros,
        }
    )


def _removed_units(bundle: Bundle) -> int | None:
    if bundle.plan is None:
        return None
    from pruners.plan import PruningPlan  # late: a machine that only measures has no pruners

    return PruningPlan.load(bundle.plan).removed_units


def _sides(comparisons: Iterable[Comparison], measurements: Iterable[Measurement]) -> list[Measurement]:
    return [*(side for pair in comparisons for side in pair.sides), *measurements]


def _environment(seen: Sequence[Environment]) -> Environment:
    """Join what the measurements saw of the one machine: all versions, the highest load."""

    def highest(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return seen[0].model_copy(
        update={
            "packages": {name: found for one in seen for name, found in one.packages.items()},
            "load_average": highest(one.load_average for one in seen),
            "steal_fraction": highest(one.steal_fraction for one in seen),
            "busy_fraction": highest(one.busy_fraction for one in seen),
            "gpu": next((one.gpu for one in seen if one.gpu is not None), None),
            "driver": next((one.driver for one in seen if one.driver is not None), None),
        }
    )
