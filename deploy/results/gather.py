"""Assemble results from a run, a bench, or the journal of a killed measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.journal import Journal, recover
from benchmarks.machine.noise_floor import fingerprint, load
from benchmarks.records.measurement import Comparison, Cost, Environment, Measurement
from deploy.bundles.bundle import Bundle, bundle_of
from deploy.errors import ResultsError
from deploy.results.results import ModelRow, Results, Skipped

if TYPE_CHECKING:
    from deploy.recipe import Recipe  # imports pruners, which a measuring machine lacks

__all__ = ["results_of_bench", "results_of_journal", "results_of_run"]


def results_of_run(
    recipe: Recipe,
    bundles: Mapping[str, Bundle],
    scores: Mapping[str, Mapping[str, float]],
    comparisons: Sequence[Comparison],
    *,
    skipped: Sequence[Skipped] = (),
    accepts_unfit: bool = False,
) -> Results:
    """Assemble the results of `deploy run`.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the run.
    bundles : Mapping of str to Bundle
        By label, ``"dense"`` and ``"pruned"``; the baseline first.
    scores : Mapping of str to Mapping of str to float
        By label and backend: test score of the compiled model.
    comparisons : sequence of Comparison
        One per backend.
    skipped : sequence of Skipped, optional
        Backends that could not be checked.
    accepts_unfit : bool, default=False
        Whether the numbers of an unfit machine are accepted.

    Raises
    ------
    ResultsError
        A bundle has no comparison.
    BundleError
        A bundle's plan cannot be read.
    """
    costs = {pair.baseline.subject.label: pair.baseline_cost for pair in comparisons}
    costs |= {pair.candidate.subject.label: pair.candidate_cost for pair in comparisons}
    if missing := sorted(bundles.keys() - costs.keys()):
        raise ResultsError(f"{missing[0]!r} was not measured: name at least one backend in the recipe")
    models = tuple(
        _row(label, bundle.model, bundle.sha256, costs[label], bundle).model_copy(
            update={"backend_scores": dict(scores.get(label, {}))}
        )
        for label, bundle in bundles.items()
    )
    described = recipe.model_dump(mode="json")
    described["data"].pop("root", None)  # a local path: it affects nothing, and results are shared
    return _results(
        f"{recipe.name}: what the pruning bought",
        models,
        comparisons=tuple(comparisons),
        skipped=tuple(skipped),
        accepts_unfit=accepts_unfit,
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
    accepts_unfit: bool = False,
) -> Results:
    """Assemble the results of `deploy bench`.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Pairs, one per backend.
    measurements : sequence of Measurement
        Models that were measured alone.
    costs : Mapping of str to Cost
        By label.
    models : Mapping of str to Path
        ONNX files by label, the baseline first. For a file in a bundle, its scores and method are copied.
    skipped : sequence of Skipped, optional
        Backends that could not be used.
    accepts_unfit : bool, default=False
        Whether the numbers of an unfit machine are accepted.

    Raises
    ------
    ResultsError
        Nothing was measured.
    BundleError
        A model is in a broken bundle.
    """
    hashes = {one.subject.label: one.subject.sha256 for one in _sides(comparisons, measurements)}
    if missing := [label for label in models if label not in hashes]:
        raise ResultsError(f"{missing[0]!r} was not measured: name at least one backend")
    rows = tuple(_row(label, path, hashes[label], costs[label], bundle_of(path)) for label, path in models.items())
    return _results(
        " against ".join(reversed(list(models))),
        rows,
        comparisons=tuple(comparisons),
        measurements=tuple(measurements),
        skipped=tuple(skipped),
        accepts_unfit=accepts_unfit,
        notes=_noise_floors(comparisons),
    )


def results_of_journal(path: Path) -> Results:
    """Return the partial results of a killed measurement.

    Parameters
    ----------
    path : Path
        The journal beside its results file.

    Raises
    ------
    RecordError
        The file is missing, or is not a journal.
    ResultsError
        The journal is of a single model, by an older version that did not store its cost: measure again.
    """
    recovered, torn = recover(path)
    notes = (f"the run was interrupted{f'; {torn}' if torn else ''}",)
    if not isinstance(recovered, Comparison):
        (begun,) = Journal.read(path).begun.values()
        if begun.cost is None:
            raise ResultsError(
                f"{path} lacks the model's cost ({len(recovered.trials)} trials are in it): measure again"
            )
        row = _row_of(recovered, begun.cost)
        return _results(row.label, (row,), measurements=(recovered,), notes=notes)
    rows = (
        _row_of(recovered.baseline, recovered.baseline_cost),
        _row_of(recovered.candidate, recovered.candidate_cost),
    )
    return _results(f"{rows[1].label} against {rows[0].label}", rows, comparisons=(recovered,), notes=notes)


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
    """Note the smallest difference this machine can detect, if `deploy calibrate` measured it."""
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
    scores, origin, pruning = bundle.manifest.scores, bundle.manifest.provenance, bundle.pruning
    return row.model_copy(
        update={
            "metric": scores.metric,
            "score_validation": scores.validation,
            "score_test": scores.test,
            "n_test": scores.n_test or None,
            "n_classes": None if origin.network is None else origin.network.n_classes,
            "method": origin.method,
            "settings": origin.settings,
            "pruning": pruning,
            "plan_removed_units": None if pruning is None else pruning.removed_units,
            "zeros": bundle.manifest.cost.zeros,
        }
    )


def _sides(comparisons: Iterable[Comparison], measurements: Iterable[Measurement]) -> list[Measurement]:
    return [*(side for pair in comparisons for side in pair.sides), *measurements]


def _environment(seen: Sequence[Environment]) -> Environment:
    """Merge what the measurements report about their machine: all versions, the highest load."""

    def highest(values: Iterable[float | None]) -> float | None:
        return max((value for value in values if value is not None), default=None)

    return seen[0].model_copy(
        update={
            "packages": {name: package for one in seen for name, package in one.packages.items()},
            "load_average": highest(one.load_average for one in seen),
            "steal_fraction": highest(one.steal_fraction for one in seen),
            "busy_fraction": highest(one.busy_fraction for one in seen),
            "gpu": next((one.gpu for one in seen if one.gpu is not None), None),
            "driver": next((one.driver for one in seen if one.driver is not None), None),
        }
    )
