"""The torch half of one job: measure a table, train, prune, recover or export, and evaluate the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from deploy.exporting.export import export_onnx
from deploy.networks.layers import initialise
from deploy.run.progress import Progress
from deploy.run.steps import (
    WEIGHTS,
    SharedTraining,
    StepContext,
    batches,
    build_dense,
    end_if_shared,
    evaluate_both,
    examples,
    fit_pruned,
    load_compact,
    load_dense,
    load_plan,
    measure_dense,
    prune_dense,
    pruning_facts,
    train_dense,
    zeros_of,
)
from deploy.sources.datasets.data import DataSource
from deploy.studies.methods.jobs import MODEL, StudyJob
from deploy.studies.methods.recipe import Mending, Recovery
from deploy.studies.methods.results import RESULT, JobResult, Scores
from pruners.errors import TrainingError
from pruners.forms.compact import save_weights
from pruners.forms.graph_network import GraphNetwork
from pruners.graph import trace
from pruners.recover.batches import epoch_seed
from pruners.recover.distill import Distillation
from pruners.recover.fold_bias import fold_bias
from pruners.recover.recalibrate import recalibrate
from pruners.recover.reconstruct import reconstruct
from pruners.recover.scratch import budget_matched, reinitialised, scratch_b, scratch_e
from pruners.recover.settings import TrainSettings
from pruners.surgery import apply
from pruners.weights.layers import weight_layers

__all__ = ["perform"]

_MENDING_STREAMS: dict[Mending, int] = {"reconstruct": 3, "recalibrate": 4, "fold_bias": 7}
_SCRATCH_STREAM = 5
_RECALIBRATION_BATCHES = 100


def perform(job: StudyJob, root: Path, data: DataSource, progress: Progress, *, own: Path | None = None) -> JobResult:
    """Run one job in its prepared folder; its trainings resume from their last checkpoints.

    Parameters
    ----------
    job : StudyJob
        The job.
    root : Path
        Folder of the study.
    data : DataSource
        Data that the recipe of the job names.
    progress : Progress
        Shows the progress.
    own : Path, optional
        Folder to use instead of the job's, which still holds the checkpoints; for processes that only share the
        training of the first one.

    Raises
    ------
    SharedTrainingDone
        With `own`, when the training is done.
    """
    folder = own or root / job.folder
    work = _JobWork(
        job=job,
        # The seed of the study also decides the order of the images, in every training.
        context=StepContext(
            recipe=job.recipe,
            data=data,
            progress=progress,
            training_seed=job.recipe.seed,
            shared=None if own is None else SharedTraining(own=own, kept=root / job.folder),
        ),
        folder=folder,
        needs=tuple(root / need for need in job.needs),
    )
    facts = {"table": _table, "dense": _dense, "prune": _prune, "recover": _recover, "export": _export}[job.kind](work)
    spent = sum(
        epoch["seconds"]
        for history in folder.rglob("history.json")
        for epoch in json.loads(history.read_text(encoding="utf-8"))["epochs"]
    )
    return JobResult(kind=job.kind, title=job.title, key=job.key, training_seconds=round(spent, 2), **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _JobWork:
    """A job and its folders; `needs` are the folders that `StudyJob.needs` names."""

    job: StudyJob
    context: StepContext
    folder: Path
    needs: tuple[Path, ...]

    @property
    def recovery(self) -> Recovery:
        """Recovery of the pruned network; only for a job of that kind."""
        assert self.job.recovery is not None
        return self.job.recovery

    def dense(self) -> nn.Module:
        """Load the dense network."""
        return load_dense(self.context, self.needs[0])

    def compact(self) -> nn.Module:
        """Load the pruned network as pruning left it."""
        return load_compact(self.context, trained=self.needs[0], pruned=self.needs[1])


def _table(work: _JobWork) -> dict[str, Any]:
    measure_dense(work.context, work.folder, build_dense(work.context).eval())
    return {}


def _dense(work: _JobWork) -> dict[str, Any]:
    train_dense(work.context, work.folder)
    return {"scores": _scores(work.context, load_dense(work.context, work.folder)), **_training(work.folder)}


def _prune(work: _JobWork) -> dict[str, Any]:
    context, (trained, *tables) = work.context, work.needs
    prune_dense(context, work.folder, trained=trained, table_folder=tables[0] if tables else None)
    facts = pruning_facts(work.folder)
    compact = load_compact(context, trained=trained, pruned=work.folder)
    return {
        "scores": _scores(context, compact),
        "macs": facts["macs"],
        "params": facts["parameters"],
        "zeros": facts["zeros"],
        "nonzero_macs": _nonzero_macs(context, compact) if facts["zeros"] else facts["macs"][1],
        "landing": facts["landing"],
        "speeds": facts["speeds"],
        "history": facts["history"],
    }


def _recover(work: _JobWork) -> dict[str, Any]:
    context, recovery, (_, pruned) = work.context, work.recovery, work.needs
    facts: dict[str, Any] = {}
    if recovery.from_scratch:
        model, facts["drawn"] = _fresh(work)
    else:
        model = work.compact()
        facts["before"] = _mend(work, model, recovery.before)
    objective = None
    if (distil := recovery.distil) is not None:
        objective = Distillation(work.dense(), temperature=distil.temperature, weight=distil.weight)
    if recovery.mend is None:
        fit_pruned(context, work.job.title, model, _settings(work), work.folder, pruned=pruned, objective=objective)
        facts |= _training(work.folder)
    else:
        end_if_shared(context)
        facts["epochs"] = 0
    save_weights(model, work.folder / WEIGHTS)
    return {"scores": _scores(context, model), **facts}


def _export(work: _JobWork) -> dict[str, Any]:
    context, pruned = work.context, len(work.needs) > 1
    section = context.recipe.export
    inputs = examples(context, 2 if section.dynamic_batch else context.recipe.bench.batch)
    path = work.folder / MODEL
    model = work.compact() if pruned else work.dense()
    export_onnx(model, (inputs,), path, opset=section.opset, dynamic_batch=section.dynamic_batch)
    zeros = zeros_of(work.needs[1]) if pruned else 0
    return {"architecture": _architecture(path, has_zeros=zeros > 0), "zeros": zeros}


def _settings(work: _JobWork) -> TrainSettings:
    """Return the training settings of the pruned network."""
    recovery, train = work.recovery, work.context.recipe.train
    assert train is not None
    if recovery.fine_tune is not None:
        return recovery.fine_tune
    if recovery.distil is not None:
        return recovery.distil.training
    if recovery.scratch_e is not None:
        return scratch_e(train)
    pruned = json.loads((work.needs[1] / RESULT).read_text(encoding="utf-8"))
    dense, compact = pruned["macs"][0], pruned["nonzero_macs"]
    if recovery.scratch_b is not None:
        return scratch_b(train, dense=dense, compact=compact, rule=recovery.scratch_b.rule)
    return budget_matched(train, dense=dense, compact=compact, finetune_epochs=work.job.finetune_epochs)


def _mend(work: _JobWork, model: nn.Module, mendings: Sequence[Mending]) -> dict[str, Any]:
    """Repair the network without training it."""
    done: dict[str, Any] = {}
    for mending in mendings:
        stream = batches(work.context, _MENDING_STREAMS[mending])
        plan = load_plan(work.needs[1])
        with work.context.progress.bar(mending.replace("_", " ")):
            if mending == "recalibrate":
                done[mending] = recalibrate(model, stream, n_batches=_RECALIBRATION_BATCHES).to_json()
            elif not plan.removed_units:
                done[mending] = {"reason": "no layer lost inputs"}
            elif mending == "fold_bias":
                done[mending] = fold_bias(work.dense(), model, plan, stream).to_json()
            else:
                seed = work.context.recipe.seed
                done[mending] = reconstruct(work.dense(), model, plan, stream, seed=seed).to_json()
    return done


def _fresh(work: _JobWork) -> tuple[nn.Module, str]:
    """Draw new weights for the pruned network, keeping zeros; also return how they were drawn."""
    context = work.context
    pruned = work.compact()
    seed = epoch_seed(context.recipe.seed, _SCRATCH_STREAM)
    if isinstance(pruned, GraphNetwork):
        return _cut_of_new(work, seed), "the dense network was drawn anew, and cut by the plan"
    rule, how = None, "each layer as its class does"
    if context.recipe.network.name.startswith("cifar:"):
        rule, how = initialise, "by He's rule, as the dense network"
    try:
        fresh = reinitialised(pruned, seed, rule)
    except TrainingError:
        fresh, how = _cut_of_new(work, seed), "the dense network was drawn anew, and cut by the plan"
    if zeros_of(work.needs[1]):
        _copy_zeros(pruned, fresh)
    return fresh, how


def _cut_of_new(work: _JobWork, seed: int) -> nn.Module:
    dense = build_dense(work.context, seed=seed, weights="none", new_classifier=False).eval()
    plan = load_plan(work.needs[1])
    return apply(dense, plan, check=False, form=work.context.recipe.prune.form) if plan.removes else dense


def _nonzero_macs(context: StepContext, model: nn.Module) -> int:
    """Count the multiplications by weights that are not zero."""
    graph = trace(model, (examples(context, 2),))
    idle = sum(layer.macs_each * int((layer.weight(model) == 0).sum()) for layer in weight_layers(model, graph, "all"))
    return round(graph.macs() - idle)


def _scores(context: StepContext, model: nn.Module) -> Scores:
    with context.progress.bar("evaluate"):
        validation, test = evaluate_both(context, model)
    return Scores(
        metric=validation.metric,
        score_validation=validation.score,
        score_test=test.score,
        loss_validation=validation.loss,
        loss_test=test.loss,
        n_validation=validation.n,
        n_test=test.n,
    )


def _training(folder: Path) -> dict[str, Any]:
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    return {"lr": history["lr"], "epochs": len(history["epochs"]), "kept_epoch": history["kept_epoch"]}


def _copy_zeros(source: nn.Module, target: nn.Module) -> None:
    """Set weights of convolutions and linear layers to zero where they are zero in `source`."""
    with torch.no_grad():
        for name, module in source.named_modules():
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                target.get_parameter(f"{name}.weight").mul_(module.weight != 0)


def _architecture(path: Path, *, has_zeros: bool) -> str:
    """Return the hash of an ONNX file without the values of its weights."""
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return hashlib.sha256(proto.SerializeToString(deterministic=True) + bytes([has_zeros])).hexdigest()
