"""The torch half of one job: train, prune, recover or export, and say how good the network is that came out."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.run.pipeline import RunStages
from deploy.run.prepare import Preparation
from deploy.run.stages import Stage
from deploy.studies.methods.jobs import Job
from deploy.studies.methods.results import JobResult, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from deploy.run.progress import Progress
    from deploy.sources.datasets.data import DataSource
    from deploy.studies.methods.recipe import Mending
    from pruners.gates.gate import Gate
    from pruners.recover.fit import Objective
    from pruners.recover.settings import TrainSettings

__all__ = ["MODEL", "JobWork", "SharedTrainingDone"]

MODEL = "model.onnx"
_MENDING_STREAMS: dict[Mending, int] = {"reconstruct": 3, "recalibrate": 4, "fold_bias": 7}
_SCRATCH_STREAM = 5
_RECALIBRATION_BATCHES = 100


class SharedTrainingDone(Exception):  # noqa: N818 - it is no error
    """The training is done, in a process that was there to share it: what follows is for the first one."""


class JobWork(Preparation):
    """One job of a study.

    Parameters
    ----------
    job : Job
        See there.
    root : Path
        Folder of the study.
    data : DataSource
        What its recipe names.
    progress : Progress
        Says lines.
    own : Path, optional
        Where it works instead of the job's folder, which stays the place of checkpoints: for processes that only share
        the training of the first one.
    """

    def __init__(self, job: Job, root: Path, data: DataSource, progress: Progress, *, own: Path | None = None) -> None:
        stage = Stage(own or root / job.folder, job.key)
        places = [Stage(root / folder, "") for folder in job.needs] + [stage]
        stages = RunStages(
            train=places[0],
            prune=places[min(1, len(places) - 1)],
            finetune=stage,
            export=stage,
            check={},
            bench={},
        )
        super().__init__(job.recipe, stages, data, progress)
        self.job = job
        self.folder = stage.folder
        self._kept = root / job.folder

    def perform(self) -> JobResult:
        """Do the job in its folder, which was begun; its trainings go on from their last checkpoints.

        Raises
        ------
        SharedTrainingDone
            With a folder of its `own`, when the training is done.
        """
        match self.job.kind:
            case "dense":
                facts = self._dense_job()
            case "prune":
                facts = self._prune_job()
            case "recover":
                facts = self._recover_job()
            case "export":
                facts = self._export_job()
        spent = sum(
            epoch["seconds"]
            for history in self.folder.rglob("history.json")
            for epoch in json.loads(history.read_text(encoding="utf-8"))["epochs"]
        )
        return JobResult(
            kind=self.job.kind, title=self.job.title, key=self.job.key, training_seconds=round(spent, 2), **facts
        )

    def clean(self) -> None:
        """Remove the checkpoints of a job that is done."""
        for checkpoints in list(self.folder.rglob("checkpoints")):
            shutil.rmtree(checkpoints)

    def _dense_job(self) -> dict[str, Any]:
        self._train(self.folder)
        return {"scores": self._scores(self._dense()), **self._training()}

    def _prune_job(self) -> dict[str, Any]:
        self._prune(self.folder)
        said = json.loads((self.folder / "pruned.json").read_text(encoding="utf-8"))
        compact = self._compact(self.stages.prune)
        return {
            "scores": self._scores(compact),
            "macs": said["macs"],
            "params": said["parameters"],
            "zeros": said["zeros"],
            "nonzero_macs": self._nonzero_macs(compact) if said["zeros"] else said["macs"][1],
            "landing": said["landing"],
            "history": said["history"],
        }

    def _nonzero_macs(self, model: nn.Module) -> int:
        """Count the multiplications by weights that are not zero."""
        from pruners.graph import trace
        from pruners.weights.layers import weight_layers

        graph = trace(model, (self._examples(2),))
        idle = sum(
            layer.macs_each * int((layer.weight(model) == 0).sum()) for layer in weight_layers(model, graph, "all")
        )
        return round(graph.macs() - idle)

    def _recover_job(self) -> dict[str, Any]:
        from pruners.forms.compact import save_weights
        from pruners.recover.distill import Distillation

        recovery = self.job.recovery
        assert recovery is not None
        facts: dict[str, Any] = {}
        if recovery.from_scratch:
            model, facts["drawn"] = self._fresh()
        else:
            model = self._compact(self.stages.prune)
            facts["before"] = self._before(model, recovery.before)
        objective = None
        if recovery.distil is not None:
            objective = Distillation(
                self._dense(), temperature=recovery.distil.temperature, weight=recovery.distil.weight
            )
        if recovery.mend is None:
            self._fit_pruned(self.job.title, model, self._settings(), self.folder, objective)
            facts |= self._training()
        else:
            self._only_the_first_goes_on()
            facts["epochs"] = 0
        save_weights(model, self.folder / "weights.safetensors")
        return {"scores": self._scores(model), **facts}

    def _settings(self) -> TrainSettings:
        """Return how the pruned network is trained."""
        from pruners.recover.scratch import budget_matched, scratch_b, scratch_e

        recovery, train = self.job.recovery, self.recipe.train
        assert recovery is not None
        assert train is not None
        if recovery.fine_tune is not None:
            return recovery.fine_tune
        if recovery.distil is not None:
            return recovery.distil.training
        if recovery.scratch_e is not None:
            return scratch_e(train)
        pruned = json.loads((self.stages.prune.folder / "result.json").read_text(encoding="utf-8"))
        dense, compact = pruned["macs"][0], pruned["nonzero_macs"]
        if recovery.scratch_b is not None:
            return scratch_b(train, dense=dense, compact=compact, rule=recovery.scratch_b.rule)
        return budget_matched(train, dense=dense, compact=compact, finetune_epochs=self.job.finetune_epochs)

    def _before(self, model: nn.Module, mendings: Sequence[Mending]) -> dict[str, Any]:
        """Do what mends the network without training it."""
        from pruners.recover.fold_bias import fold_bias
        from pruners.recover.recalibrate import recalibrate
        from pruners.recover.reconstruct import reconstruct

        done: dict[str, Any] = {}
        for mending in mendings:
            batches = self._batches(_MENDING_STREAMS[mending])
            with self.progress.bar(mending.replace("_", " ")):
                if mending == "recalibrate":
                    found = recalibrate(model, batches, n_batches=_RECALIBRATION_BATCHES).to_json()
                elif not self._plan().removed_units:
                    found = {"reason": "no layer lost inputs"}
                elif mending == "fold_bias":
                    found = fold_bias(self._dense(), model, self._plan(), batches).to_json()
                else:
                    found = reconstruct(self._dense(), model, self._plan(), batches, seed=self.recipe.seed).to_json()
            done[mending] = found
        return done

    def _fresh(self) -> tuple[nn.Module, str]:
        """Draw the weights of the pruned network anew; zeros stay zeros. Also says how they were drawn."""
        from pruners.errors import TrainingError
        from pruners.forms.graph_network import GraphNetwork
        from pruners.recover.batches import epoch_seed
        from pruners.recover.scratch import reinitialised

        pruned = self._compact(self.stages.prune)
        seed = epoch_seed(self.recipe.seed, _SCRATCH_STREAM)
        if isinstance(pruned, GraphNetwork):
            return self._cut_of_new(seed), "the dense network was drawn anew, and cut by the plan"
        initialise, how = None, "each layer as its class does"
        if self.recipe.network.name.startswith("cifar:"):
            from deploy.networks.layers import initialise as of_he

            initialise, how = of_he, "by He's rule, as the dense network"
        try:
            fresh = reinitialised(pruned, seed, initialise)
        except TrainingError:
            fresh, how = self._cut_of_new(seed), "the dense network was drawn anew, and cut by the plan"
        if self._zeros():
            _copy_zeros(pruned, fresh)
        return fresh, how

    def _cut_of_new(self, seed: int) -> nn.Module:
        import torch

        from deploy.sources.network import build
        from pruners.surgery import apply

        spec = self.recipe.network.model_copy(update={"weights": "none", "new_classifier": False})
        torch.manual_seed(seed)
        dense = build(
            spec,
            n_classes=self.data.n_classes,
            input_shape=self.data.input_shape,
            target_shape=self.data.target_shape,
        ).eval()
        plan = self._plan()
        return apply(dense, plan, check=False, form=self.recipe.prune.form) if plan.removes else dense

    def _fit(
        self,
        title: str,
        model: nn.Module,
        settings: TrainSettings,
        folder: Path,
        gate: Gate | None = None,
        objective: Objective | None = None,
    ) -> None:
        # The seed of the study decides the order of the images too, wherever a training happens.
        own = settings.model_copy(update={"seed": settings.seed + self.recipe.seed})
        super()._fit(title, model, own, folder, gate, objective)
        self._only_the_first_goes_on()

    def _only_the_first_goes_on(self) -> None:
        if self._kept != self.folder:
            raise SharedTrainingDone

    def _checkpoints(self, folder: Path) -> Path:
        return super()._checkpoints(self._kept / folder.relative_to(self.folder))

    def _training(self) -> dict[str, Any]:
        said = json.loads((self.folder / "history.json").read_text(encoding="utf-8"))
        return {"lr": said["lr"], "epochs": len(said["epochs"]), "kept_epoch": said["kept_epoch"]}

    def _scores(self, model: nn.Module) -> Scores:
        with self.progress.bar("evaluate"):
            validation, test = self._evaluate(model)
        return Scores(
            metric=validation.metric,
            score_validation=validation.score,
            score_test=test.score,
            loss_validation=validation.loss,
            loss_test=test.loss,
            n_validation=validation.n,
            n_test=test.n,
        )

    def _export_job(self) -> dict[str, Any]:
        from deploy.export.export import export_onnx

        pruned = len(self.job.needs) > 1
        model = self._compact(self.stages.prune) if pruned else self._dense()
        section = self.recipe.export
        examples = self._examples(2 if section.dynamic_batch else self.recipe.bench.batch)
        path = self.folder / MODEL
        export_onnx(model, (examples,), path, opset=section.opset, dynamic_batch=section.dynamic_batch)
        zeros = self._zeros() if pruned else 0
        return {"architecture": _architecture(path, has_zeros=zeros > 0), "zeros": zeros}


def _copy_zeros(source: nn.Module, target: nn.Module) -> None:
    """Set to zero what is zero in `source`: weights of convolutions and linear layers."""
    import torch
    from torch import nn

    with torch.no_grad():
        for name, module in source.named_modules():
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
                target.get_parameter(f"{name}.weight").mul_(module.weight != 0)


def _architecture(path: Path, *, has_zeros: bool) -> str:
    """Hash an ONNX file without the values of its weights."""
    import onnx

    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    return hashlib.sha256(proto.SerializeToString(deterministic=True) + bytes([has_zeros])).hexdigest()
