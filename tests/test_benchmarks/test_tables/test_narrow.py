"""The file of a narrow network is what slicing the dense one gives, and runs."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from benchmarks.errors import RecordError, SettingError
from benchmarks.tables.narrow import Narrower
from benchmarks.tables.plan_space import PlanSpace


@given(a=st.integers(1, 64), b=st.integers(2, 96))
def test_every_plan_is_a_file_that_runs(dense, space, a, b):
    model = Narrower(dense, space).model({"a": a, "b": b})
    onnx.checker.check_model(model, full_check=True)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert (shapes["w0"], shapes["w1"], shapes["w2"]) == ((a, 3, 3, 3), (a, 1, 3, 3), (b, a, 1, 1))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"x": np.ones((2, 3, 4, 4), np.float32)})
    assert scores.shape == (2, 5)


def test_first_channels_are_kept_and_the_dense_file_stays(dense, space):
    narrower = Narrower(dense, space)
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(dense).graph.initializer}
    narrow = {tensor.name: numpy_helper.to_array(tensor) for tensor in narrower.model({"a": 8}).graph.initializer}
    np.testing.assert_array_equal(narrow["w2"], whole["w2"][:, :8])
    again = {tensor.name: numpy_helper.to_array(tensor) for tensor in narrower.model({}).graph.initializer}
    for name, array in whole.items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize(("counts", "message"), [({"c": 1}, "no group 'c'"), ({"b": 1}, "keeps 2 to 96 units, got 1")])
def test_plans_that_the_space_does_not_have_are_refused(dense, space, counts, message):
    with pytest.raises(SettingError, match=message):
        Narrower(dense, space).model(counts)


def test_another_file_is_refused(dense, space, tmp_path):
    model = onnx.load(dense)
    model.doc_string = "another"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(RecordError, match="made for another file"):
        Narrower(tmp_path / "other.onnx", space)


@pytest.mark.parametrize(
    "change",
    [
        {"places": [{"kind": "axis", "node": 99, "input": 1, "axis": 0, "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "axis", "node": 0, "input": 9, "axis": 0, "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "attribute", "node": 0, "name": "group", "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "axis", "node": 0, "input": 1, "axis": 7, "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "axis", "node": 0, "input": 0, "axis": 0, "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "value", "node": 4, "input": 1, "index": 2, "size": {"terms": [["b", 16]]}}]},
        {"places": [{"kind": "attribute", "node": 2, "name": "group", "index": 1, "size": {"terms": [["a", 1]]}}]},
        {"places": [{"kind": "attribute", "node": 5, "name": "alpha", "size": {"terms": [["a", 1]]}}]},
        {"blocks": [{"name": "skip", "groups": ["a"], "nodes": [99], "replaced": "y", "by": "x"}]},
        {"whole_layers": [{"node": 99, "reason": "its channels are an output of the network"}]},
    ],
)
def test_a_space_that_does_not_fit_its_file_is_refused(dense, space, change):
    damaged = PlanSpace.model_validate(json.loads(space.model_dump_json()) | change)
    with pytest.raises(RecordError, match="the plan space is damaged"):
        Narrower(dense, damaged)


def test_a_space_that_names_an_unknown_group_is_no_plan_space(space, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(space.model_dump_json().replace('["b",1]', '["zz",1]'), encoding="utf-8")
    with pytest.raises(RecordError, match=r"space\.json.*there is no group 'zz'"):
        PlanSpace.load(path)


def test_a_space_is_read_as_it_was_written(space, tmp_path):
    space.save(tmp_path / "space.json")
    assert PlanSpace.load(tmp_path / "space.json") == space
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecordError, match=r"broken\.json is not a plan space"):
        PlanSpace.load(tmp_path / "broken.json")
    with pytest.raises(RecordError, match="cannot be read"):
        PlanSpace.load(tmp_path / "missing.json")
