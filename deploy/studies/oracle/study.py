"""The oracle study: train a recipe's dense network, ablate each unit alone, and compare every criterion with that.

Scores are taken on training or validation images; test images are not read for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deploy.files.atomic import write_file
from deploy.run.prepare import Preparation
from deploy.run.stages import Stage, stage_key
from deploy.studies.oracle.results import CriterionRow, OracleResults, load_oracle

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruners.importance.criterion import Criterion
    from pruners.importance.evidence import Evidence
    from pruners.importance.scores import Scores

__all__ = ["OracleSettings", "OracleStudy"]

_RESULTS = "oracle.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSettings:
    """What the study looks at.

    Parameters
    ----------
    criteria : tuple of str
        Names, each once.
    split : {"train", "validation"}
        Which images; training images without augmentation.
    n_examples : int
        So many of them, drawn with the recipe's seed; all of them where there are fewer.
    batch_size : int
        Of the batches; part of the criteria that square a batch's gradient.
    """

    criteria: tuple[str, ...]
    split: Literal["train", "validation"] = "train"
    n_examples: int = 512
    batch_size: int = 64


class OracleStudy(Preparation):
    """Train the dense network as `deploy run` does, or take the one that it left, and study it."""

    def study(self, settings: OracleSettings, folder: Path) -> OracleResults:
        """Do what is not done yet, and return what was found.

        Parameters
        ----------
        settings : OracleSettings
            See there.
        folder : Path
            Of the study; ends up with ``oracle.json``.

        Raises
        ------
        MethodError
            A criterion does not exist, or the network has no feature map to ablate.
        NothingToPruneError
            The network has no group that could lose a unit.
        """
        from pruners.importance.criteria import create_criterion

        criteria = [create_criterion(name) for name in settings.criteria]
        stage = self._oracle_stage(settings, folder)
        if stage.done:
            return load_oracle(folder / _RESULTS)
        if not self.stages.train.done:
            self._train(self.stages.train.begin())
            self.stages.train.finish()
        stage.begin()
        results = self._compare(settings, criteria)
        write_file(folder / _RESULTS, results.model_dump_json(indent=1) + "\n")
        stage.finish()
        return results

    def _oracle_stage(self, settings: OracleSettings, folder: Path) -> Stage:
        asked = [list(settings.criteria), settings.split, settings.n_examples, settings.batch_size]
        return Stage(folder, stage_key(self.stages.train.key, asked))

    def _compare(self, settings: OracleSettings, criteria: Sequence[Criterion]) -> OracleResults:
        from pruners.importance.measures.oracle import ablate
        from pruners.recover.evaluate import evaluate

        model = self._dense()
        evidence = self._evidence(model, settings)
        validation = evaluate(model, self.data.validation, metric=self.data.metric)
        with self.progress.bar("ablate each unit") as bar:
            started = time.perf_counter()
            oracle = ablate(evidence, bar.set)
            seconds = time.perf_counter() - started
        with self.progress.bar("score by each criterion") as bar:
            rows = []
            for done, criterion in enumerate(criteria):
                bar.set(criterion.name, done / len(criteria))
                rows.append(_row(criterion, evidence, oracle.absolute))
        return OracleResults(
            name=self.recipe.name,
            network=self.recipe.network.model_dump(mode="json"),
            data=self.recipe.data.name,
            split=settings.split,
            n_examples=oracle.n_examples,
            batch_size=settings.batch_size,
            seed=self.recipe.seed,
            metric=validation.metric,
            score=validation.score,
            loss=oracle.loss,
            seconds=seconds,
            losses=oracle.changes,
            rows=tuple(rows),
            tool_version=version("prune-deploy"),
        )

    def _evidence(self, model: nn.Module, settings: OracleSettings) -> Evidence:
        from pruners.errors import NothingToPruneError
        from pruners.graph import trace
        from pruners.importance.evidence import Evidence

        graph = trace(model, (self._examples(2),))
        groups = tuple(group.name for group in graph.groups if group.prunable and group.n_units > 1)
        if not groups:
            raise NothingToPruneError("the network has no group of channels that could be ablated")
        return Evidence(
            model=model,
            graph=graph,
            groups=groups,
            batches=self._drawn(settings),
            loss=self._loss(),
            seed=self.recipe.seed,
        )

    def _drawn(self, settings: OracleSettings) -> list[tuple[Tensor, Tensor]]:
        import torch
        from torch.utils.data import Subset

        from pruners.recover.batches import ordered_batches

        data: Any = self.data.train_plain if settings.split == "train" else self.data.validation
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(self.recipe.seed))
        chosen = Subset(data, order[: settings.n_examples].tolist())
        return list(ordered_batches(chosen, batch_size=settings.batch_size))


def _row(criterion: Criterion, evidence: Evidence, oracle: Scores) -> CriterionRow:
    from pruners.importance.ranks import correlate

    started = time.perf_counter()
    scores, left_out = _scores(criterion, evidence)
    seconds = time.perf_counter() - started
    found = correlate(scores, {name: oracle[name] for name in scores})
    return CriterionRow(
        criterion=criterion.name,
        paper=criterion.paper,
        per_group=dict(found.per_group),
        per_layer=found.per_layer,
        overall=found.overall,
        overall_l2=found.overall_l2,
        seconds=seconds,
        left_out=left_out,
    )


def _scores(criterion: Criterion, evidence: Evidence) -> tuple[Scores, dict[str, str]]:
    """Score all groups; where the criterion refuses one, each by itself, with the reasons of those it refuses."""
    from dataclasses import replace

    from pruners.errors import MethodError

    try:
        return criterion.scores(evidence), {}
    except MethodError:
        pass
    scores: Scores = {}
    left_out: dict[str, str] = {}
    for name in evidence.groups:
        try:
            scores |= criterion.scores(replace(evidence, groups=(name,)))
        except MethodError as error:
            left_out[name] = str(error)
    return scores, left_out
