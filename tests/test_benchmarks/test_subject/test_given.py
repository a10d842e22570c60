"""Inputs that people give in the place of made-up ones."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from backends.base import TensorSpec
from benchmarks.errors import InputError
from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.inputs import example_inputs

SPECS = (
    TensorSpec(name="x", shape=(3, 40), dtype="float32"),
    TensorSpec(name="sr", shape=(), dtype="int64"),
    TensorSpec(name="size", shape=(2,), dtype="int64"),
)


def over(given):
    return given.over(example_inputs(SPECS), SPECS)


def test_values_and_ranges_replace_what_is_made_up():
    found = over(GivenInputs.read(None, ["sr=16000", "size=4,8"], ["x=0:0.5"]))
    assert found["sr"].dtype == np.int64
    assert found["sr"] == 16000
    assert found["size"].tolist() == [4, 8]
    assert found["x"].dtype == np.float32
    assert 0 <= found["x"].min() < found["x"].max() <= 0.5
    whole = over(GivenInputs.read(None, [], ["size=3:4"]))["size"]
    assert set(whole.tolist()) <= {3, 4}


def test_arrays_come_from_a_file(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.full((3, 40), 2.0), size=np.array([1, 2], np.int32))
    given = GivenInputs.read(tmp_path / "in.npz")
    assert given.shapes == {"x": (3, 40), "size": (2,)}
    found = over(given)
    assert (found["x"].dtype, found["size"].dtype) == (np.float32, np.int64)
    assert (found["x"] == 2).all()


@pytest.mark.parametrize(
    ("values", "ranges", "said"),
    [
        (["sr"], [], "write --input NAME=VALUE"),
        (["sr=high"], [], "with numbers"),
        ([], ["x=1:0"], "the lower one first"),
        ([], ["x=0:inf"], "the lower one first"),
        (["sr=1"], ["sr=0:1"], "'sr' is given twice"),
        (["rate=1"], [], "no input 'rate'; it has 'x', 'sr', 'size'"),
        (["size=1,2,3"], [], "'size' holds 2 numbers, 3 are given"),
        (["sr=0.5"], [], "'sr' is of type int64"),
    ],
)
def test_what_does_not_fit_is_one_line(values, ranges, said):
    with pytest.raises(InputError, match=said):
        over(GivenInputs.read(None, values, ranges))


def test_files_that_hold_no_inputs_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        GivenInputs.read(tmp_path / "no.npz")
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(InputError, match="single array"):
        GivenInputs.read(tmp_path / "a.npy")
    (tmp_path / "b.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        GivenInputs.read(tmp_path / "b.npz")


def test_a_model_that_takes_only_some_values_asks_for_them_and_takes_them(save_model, tmp_path):
    """The target of a reshape cannot be made up: the message names the options, and one of them is enough."""
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [("x", TensorProto.FLOAT, (4, 8)), ("shape", TensorProto.INT64, (2,))],
        [("y", TensorProto.FLOAT, ("a", "b"))],
    )
    settings = Settings(trials=1, budget_s=5).quick()
    refused = measure(SubjectSpec(model=path), settings=settings)
    assert refused.failure_kind == "RunError"
    assert "give real inputs with --inputs FILE.npz" in refused.failure
    given = GivenInputs.read(None, ["shape=2,16"])
    found = measure(SubjectSpec(model=path, given=given), settings=settings)
    assert found.trials, found.failure
