"""The oracle study: train a recipe's dense network, ablate each unit alone, and compare every criterion with this."""

from __future__ import annotations

from typing import Literal

from benchmarks.records.base import Record
from deploy.files.atomic import write_file
from deploy.recipe import Recipe
from deploy.run.child import call_in_child
from deploy.run.run_stages import stages_of
from deploy.run.stages import StageStore, stage_key
from deploy.studies.oracle.results import OracleResults, load_oracle

__all__ = ["FOLDER", "RESULTS", "OracleSettings", "run_study"]

FOLDER = "oracle"
"""Folder of the study inside that of the run."""
RESULTS = "oracle.json"


class OracleSettings(Record):
    """Settings of the study.

    Parameters
    ----------
    criteria : tuple of str
        Names of criteria, each once.
    split : {"train", "validation"}
        Images to use; training images are not augmented.
    n_examples : int
        Number of images, drawn with the recipe's seed; all if there are fewer.
    batch_size : int
        Size of the batches; it affects criteria that square the gradient of a batch.
    """

    criteria: tuple[str, ...]
    split: Literal["train", "validation"] = "train"
    n_examples: int = 512
    batch_size: int = 64


def run_study(recipe: Recipe, settings: OracleSettings, store: StageStore) -> OracleResults:
    """Study the dense network of `deploy run`, training it first if needed; a finished study is only read.

    Parameters
    ----------
    recipe : Recipe
        Recipe with the network and data.
    settings : OracleSettings
        Settings of the study.
    store : StageStore
        Folder of the run; ends up with ``oracle/oracle.json``.

    Raises
    ------
    ChildFailedError
        The child process failed; its message is already on standard error.
    """
    asked = [list(settings.criteria), settings.split, settings.n_examples, settings.batch_size]
    stage = store.stage(FOLDER, stage_key(stages_of(recipe, store).train.key, asked))
    if not stage.done:
        stage.begin()
        resolved = store.root / "recipe.json"
        write_file(resolved, recipe.model_dump_json(indent=1) + "\n")
        call_in_child("deploy.studies.oracle.work:study_recipe", resolved, store.root, settings.model_dump_json())
        stage.finish()
    return load_oracle(stage.folder / RESULTS)
