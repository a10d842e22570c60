"""Models that answer otherwise from call to call."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.subject.random_nodes import random_nodes

FLOAT = TensorProto.FLOAT
ENDS = [("x", FLOAT, (4, 8))], [("y", FLOAT, (4, 8))]


def dropout(save_model, path, training):
    node = helper.make_node("Dropout", ["x", "ratio", "training"], ["y"])
    held = [numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.array(training), "training")]
    return save_model(path, [node], *ENDS, held)


def test_nodes_that_draw_are_named(save_model, tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["n"], name="noise"),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    assert random_nodes(save_model(path, nodes, *ENDS)) == ("'noise' (RandomNormalLike)",)
    assert random_nodes(dropout(save_model, path, True)) == ("'y' (Dropout)",)
    assert random_nodes(dropout(save_model, path, False)) == ()
    assert random_nodes(save_model(path, [helper.make_node("Dropout", ["x"], ["y"])], *ENDS)) == ()


@pytest.mark.parametrize("check", [True, False])
def test_a_random_model_is_said_to_be_random_and_is_timed_unchecked(save_model, tmp_path, check):
    path = dropout(save_model, tmp_path / "m.onnx", True)
    found = measure(SubjectSpec(model=path), settings=Settings(trials=1, budget_s=5, check=check).quick())
    if check:
        assert found.failure_kind == "RandomAnswersError"
        assert "node 'y' (Dropout) draws random numbers" in found.failure
        assert "--no-check" in found.failure
    else:
        assert found.trials
        assert found.agreement is None
        assert "answers were not checked: --no-check" in found.doubts
