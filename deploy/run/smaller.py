"""Make the trained network smaller: prune it, fine-tune it, and search for the smallest within an allowed drop."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from deploy.bundles.pruning import DropSearch, DropTry
from deploy.recipe import Recipe, TargetSpec
from deploy.report.formatting import difference_unit
from deploy.run.run_stages import RunStages, speed_backend, stages_of, table_key
from deploy.run.speed_tables import read_tables
from deploy.run.stages import StageStore, stage_key
from deploy.run.steps import (
    StepContext,
    dense_scores,
    finetune,
    load_compact,
    load_dense,
    measure_dense,
    prune_dense,
    removals_folder,
    validation_score,
)
from pruners.errors import TargetError

__all__ = ["MOST_TRIES", "Smaller", "make_smaller", "next_reach"]

MOST_TRIES = 4
"""Maximum number of prunings and fine-tunings under an allowed drop."""
_POINTS = {"accuracy": 100.0, "psnr": 1.0}
"""Points per unit of a score."""
_COSTS = {
    "flops": "FLOPs",
    "macs": "MACs",
    "params": "parameters",
    "weight_bytes": "bytes of weights",
    "activation_bytes": "bytes of activations",
}


class Smaller(NamedTuple):
    """Folders of the plan and of the fine-tuned weights of the smaller network, and how it was found."""

    pruned: Path
    tuned: Path
    search: DropSearch | None = None


class _Try(NamedTuple):
    """A target that was tried; if it gave no network, it has no folders."""

    record: DropTry
    pruned: Path | None = None
    tuned: Path | None = None


def make_smaller(context: StepContext, stages: RunStages) -> Smaller:
    """Prune the trained network and fine-tune it, skipping what is already done.

    Under a recipe's ``max_drop`` networks are judged on the validation images: if the target's network loses more, up
    to three milder targets are tried by bisection, and the smallest network within the allowed drop is kept; if there
    is none, the one that loses least. With ``beyond_target`` the search continues beyond a target that is within it.

    Raises
    ------
    TargetError
        The target cannot be reached; under ``max_drop``: none of the targets tried can.
    """
    trained = stages.train.folder
    if context.recipe.max_drop is None:
        _prune_and_finetune(context, stages, trained)
        return Smaller(stages.prune.folder, stages.finetune.folder)
    return _search(context, trained, context.recipe.max_drop)


def next_reach(tried: Sequence[tuple[float, bool]], *, beyond: bool) -> float | None:
    """Return the target to try next, or None if the search ends.

    Parameters
    ----------
    tried : sequence of (float, bool)
        How far each target reached, with 0 for the dense network and 1 for the requested target, and whether its
        network was within the allowed drop.
    beyond : bool
        Whether to go beyond 1.
    """
    if not tried:
        return 1.0
    within = max((reach for reach, is_within in tried if is_within), default=0.0)
    failed = min((reach for reach, is_within in tried if not is_within), default=None)
    if len(tried) >= MOST_TRIES or (failed is None and not beyond):
        return None
    return within + 1 if failed is None else (within + failed) / 2


def _search(context: StepContext, trained: Path, allowed: float) -> Smaller:
    recipe, tries = context.recipe, list[_Try]()
    folder = trained.parent / "tries"
    shares, tables = _asked(context, folder, trained)
    refused: TargetError | None = None
    while True:
        tried = [(one.record.reach, _within(one, allowed)) for one in tries]
        reach = next_reach(tried, beyond=recipe.beyond_target)
        if reach is None:
            break
        try:
            tries.append(_attempt(context, folder / str(len(tries) + 1), trained, tables, shares, reach))
        except TargetError as error:
            refused = error
            asked = _words(_milder(recipe, shares, reach))
            tries.append(_Try(DropTry(asked=asked, reach=reach, reason=" ".join(str(error).split()))))
        context.progress.note(_line(context, tries, allowed))
    networks = [one for one in tries if one.record.drop is not None]
    if not networks:
        assert refused is not None, "a try without a network was refused"
        raise refused
    within = [one for one in networks if _within(one, allowed)]
    if within:
        best = max(within, key=lambda one: one.record.reach)
    else:
        best = min(networks, key=lambda one: one.record.drop or 0.0)
    assert best.pruned is not None and best.tuned is not None
    records = tuple(one.record for one in tries)
    search = DropSearch(allowed=allowed, tries=records, kept=tries.index(best), beyond_target=recipe.beyond_target)
    return Smaller(best.pruned, best.tuned, search)


def _attempt(
    context: StepContext, folder: Path, trained: Path, tables: Path | None, shares: Sequence[float], reach: float
) -> _Try:
    recipe = _milder(context.recipe, shares, reach)
    of_try = replace(context, recipe=recipe)
    stages = stages_of(recipe, StageStore(folder))
    _prune_and_finetune(of_try, stages, trained, tables)
    pruned, tuned = stages.prune.folder, stages.finetune.folder
    model = load_compact(of_try, trained=trained, pruned=pruned, weights=tuned)
    dense = dense_scores(context, trained).validation
    assert dense is not None, "every data set is validated on"
    lost = dense - validation_score(context, model)
    # Rounded, so that floating-point error does not put a drop of 1 point above 1 point.
    drop = round(_POINTS[context.data.metric] * lost, 9)
    return _Try(DropTry(asked=_words(recipe), reach=reach, drop=drop), pruned, tuned)


def _prune_and_finetune(context: StepContext, stages: RunStages, trained: Path, tables: Path | None = None) -> None:
    pruned = stages.prune.folder
    stages.prune.ensure(lambda folder: prune_dense(context, folder, trained=trained, table_folder=tables))
    shutil.rmtree(removals_folder(context, pruned), ignore_errors=True)
    stages.finetune.ensure(lambda folder: finetune(context, folder, trained=trained, pruned=pruned))


def _asked(context: StepContext, folder: Path, trained: Path) -> tuple[tuple[float, ...], Path | None]:
    """Return each target's share of the dense network's cost or time, and the folder of the tables."""
    recipe, targets = context.recipe, context.recipe.prune.targets
    if not recipe.prune.target.is_speed:
        kept = recipe.prune.target.as_target().kept_fraction
        assert kept is not None, "ratios are refused with max_drop"
        return (kept,), None
    alone = (recipe.model_copy(update={"prune": recipe.prune.model_copy(update={"target": one})}) for one in targets)
    stage = StageStore(folder).stage("table", stage_key(*map(table_key, alone)))
    stage.ensure(lambda place: measure_dense(context, place, load_dense(context, trained)))
    return tuple(table.asked for table in read_tables(recipe, stage.folder, context.progress.note)), stage.folder


def _milder(recipe: Recipe, shares: Sequence[float], reach: float) -> Recipe:
    targets = recipe.prune.targets
    if reach != 1:
        targets = tuple(target.at(reach, share) for target, share in zip(targets, shares, strict=True))
    prune = recipe.prune.model_copy(update={"target": targets[0], "also": targets[1:]})
    return recipe.model_copy(update={"prune": prune, "max_drop": None, "beyond_target": False})


def _within(one: _Try, allowed: float) -> bool:
    return one.record.drop is not None and one.record.drop <= allowed


def _words(recipe: Recipe) -> str:
    return " and ".join(_target_words(recipe, target) for target in recipe.prune.targets)


def _target_words(recipe: Recipe, target: TargetSpec) -> str:
    if target.latency_ms is not None:
        return f"{target.latency_ms:g} ms on {speed_backend(recipe, target)}"
    if target.speed_up is not None:
        return f"{target.speed_up:.2f}x the speed on {speed_backend(recipe, target)}"
    cost = target.as_target()
    return f"{cost.kept_fraction:.1%} of the {_COSTS[cost.of]}"


def _line(context: StepContext, tries: Sequence[_Try], allowed: float) -> str:
    last, metric = tries[-1].record, context.data.metric
    opening = f"try {len(tries)} of at most {MOST_TRIES}: {last.asked}"
    if last.drop is None:
        return f"{opening}: out of reach: {last.reason}"
    unit = difference_unit(metric)
    verdict = "within" if _within(tries[-1], allowed) else "more than"
    change = f"{'loses' if last.drop >= 0 else 'gains'} {abs(last.drop):.2f} {unit}"
    return f"{opening}: {change} on the validation images, {verdict} the {allowed:g} that are allowed"
