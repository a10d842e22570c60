"""Finished stages are kept, unfinished ones never count, and two runs do not share a folder."""

from __future__ import annotations

import pytest

from deploy.errors import OutputError
from deploy.recipe import Recipe
from deploy.run.run_stages import stages_of
from deploy.run.stages import StageStore, stage_key


def test_unfinished_stage_is_not_done_and_keeps_its_files(tmp_path):
    stage = StageStore(tmp_path).stage("train", "key")
    (stage.begin() / "checkpoint").write_text("epoch 3")
    again = StageStore(tmp_path).stage("train", "key")
    assert not again.done
    assert (again.begin() / "checkpoint").read_text() == "epoch 3"


def test_finished_stage_is_done_only_under_its_key(tmp_path):
    stage = StageStore(tmp_path).stage("train", "key")
    stage.begin()
    stage.finish()
    assert StageStore(tmp_path).stage("train", "key").done
    assert not StageStore(tmp_path).stage("train", "other").done


def test_work_of_another_key_is_deleted(tmp_path):
    (StageStore(tmp_path).stage("train", "old").begin() / "weights").write_text("old")
    folder = StageStore(tmp_path).stage("train", "new").begin()
    assert not (folder / "weights").exists()


def test_beginning_again_takes_back_that_the_stage_was_done(tmp_path):
    stage = StageStore(tmp_path).stage("train", "key")
    stage.begin()
    stage.finish()
    stage.begin()
    assert not stage.done


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"key": 7}'])
def test_broken_marker_is_not_done(tmp_path, content):
    stage = StageStore(tmp_path).stage("train", "key")
    stage.begin()
    (stage.folder / "done.json").write_text(content)
    assert not stage.done


def test_key_depends_on_every_part():
    assert stage_key(1, {"a": 2, "b": 3}) == stage_key(1, {"b": 3, "a": 2})
    assert len({stage_key(1, {"a": 2}), stage_key(1, {"a": 3}), stage_key(2, {"a": 2})}) == 3


def test_a_speed_is_pruned_for_again_where_it_is_measured_otherwise(tmp_path):
    def keys(target, **bench):
        recipe = Recipe.model_validate(
            {
                "name": "own",
                "network": {"name": "cifar:resnet20"},
                "data": {"name": "digits"},
                "prune": {"target": target},
                "bench": {"backends": ["ort", "openvino"], **bench},
            }
        )
        stages = stages_of(recipe, StageStore(tmp_path))
        return stages.train.key, stages.prune.key

    changes = ({"threads": 1}, {"batch": 8}, {"precision": "bf16"}, {"backends": ["openvino"]})
    speeds = [keys({"speed_up": 2}, **bench) for bench in ({}, *changes)]
    assert len(set(speeds)) == len(speeds)
    assert len({train for train, _ in speeds}) == 1
    assert len({keys({"flops": 0.5}, **bench) for bench in ({}, *changes)}) == 1


def test_second_run_of_the_same_folder_is_refused(tmp_path):
    with (
        StageStore(tmp_path).locked(),
        pytest.raises(OutputError, match="in use by another"),
        StageStore(tmp_path).locked(),
    ):
        pass
    with StageStore(tmp_path).locked():
        pass


def test_output_that_cannot_be_made_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to output folder"):
        StageStore(tmp_path / "file" / "run")
