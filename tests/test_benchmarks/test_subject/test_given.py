"""Inputs that people give in the place of made-up ones."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from onnx import TensorProto, helper

from backends.base import TensorSpec
from backends.null import NullBackend
from benchmarks.errors import InputError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.process.worker import Worker
from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.subject.given import GivenInputs, call_inputs
from benchmarks.subject.inputs import example_inputs, model_specs, resolve_sizes

SPECS = (
    TensorSpec(name="x", shape=(3, 40), dtype="float32"),
    TensorSpec(name="sr", shape=(), dtype="int64"),
    TensorSpec(name="size", shape=(2,), dtype="int64"),
)


def over(given):
    (call,) = given.over(example_inputs(SPECS), SPECS)
    return call


def test_values_and_ranges_replace_what_is_made_up():
    found = over(GivenInputs.read(None, ["sr=16000", "size=4,8"], ["x=0:0.5"]))
    assert found["sr"].dtype == np.int64
    assert found["sr"] == 16000
    assert found["size"].tolist() == [4, 8]
    assert found["x"].dtype == np.float32
    assert 0 <= found["x"].min() < found["x"].max() <= 0.5
    whole = over(GivenInputs.read(None, [], ["size=3:4"]))["size"]
    assert set(whole.tolist()) <= {3, 4}


def test_large_whole_numbers_are_not_rounded():
    assert over(GivenInputs.read(None, ["sr=9007199254740993"]))["sr"] == 9007199254740993
    spec = TensorSpec(name="u", shape=(50,), dtype="uint64")
    (call,) = GivenInputs.read(None, [], ["u=0:1.8e19"]).over(example_inputs((spec,)), (spec,))
    assert call["u"].max() > 1 << 63


def test_a_value_or_a_range_comes_before_an_array():
    """On the command line an input is given once; from Python a value is laid over the arrays of a file."""
    arrays = {"x": np.full((3, 40), 9, np.float32), "size": np.array([[7, 7], [8, 8]])}
    given = GivenInputs(arrays=arrays, values={"size": (1, 2)}, ranges={"x": (0, 1)})
    calls = given.over(example_inputs(SPECS), SPECS)
    assert [call["size"].tolist() for call in calls] == [[1, 2], [1, 2]]
    assert all(0 <= call["x"].min() < call["x"].max() <= 1 for call in calls)


def test_what_is_given_need_not_be_made_up(save_model, tmp_path):
    kind = TensorProto.COMPLEX64
    node = helper.make_node("Identity", ["x"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("x", kind, (3,))], [("y", kind, (3,))])
    sizes = resolve_sizes(model_specs(path))
    with pytest.raises(InputError, match="no values can be generated: give some with --inputs"):
        call_inputs(path, sizes)
    x = np.ones(3, np.complex64)
    assert call_inputs(path, sizes, given=GivenInputs(arrays={"x": x}))[0]["x"] is x


def test_arrays_come_from_a_file(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.full((3, 40), 2.0), size=np.array([1, 2], np.int32))
    given = GivenInputs.read([tmp_path / "in.npz"])
    assert given.shapes(SPECS) == {"x": (3, 40), "size": (2,)}
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
        (["x=1e300"], [], "'x' is of type float32: float64 was given, which does not fit"),
        ([], ["x=-1e308:1e308"], "with numbers"),
        (
            [],
            ["sr=0:1e30"],
            "'sr' is of type int64: from 0 to 1e\\+30 there is no whole number, or one that it does not",
        ),
        ([], ["size=0.2:0.7"], "from 0.2 to 0.7 there is no whole number"),
    ],
)
def test_what_does_not_fit_is_one_line(values, ranges, said):
    with pytest.raises(InputError, match=said):
        over(GivenInputs.read(None, values, ranges))


@pytest.mark.parametrize(
    "array", [np.full((3, 40), "a"), np.zeros((3, 40), "S3"), np.zeros((3, 40), "V4"), np.zeros((3, 40), "M8[s]")]
)
def test_arrays_that_hold_no_numbers_are_one_line(tmp_path, array):
    np.savez(tmp_path / "in.npz", x=array)
    with pytest.raises(InputError, match=r"'x' is of type float32: .* was given, which does not fit"):
        over(GivenInputs.read([tmp_path / "in.npz"]))


def test_files_that_hold_no_inputs_are_one_line(tmp_path):
    np.savez(tmp_path / "none.npz")
    with pytest.raises(InputError, match="holds no arrays"):
        GivenInputs.read([tmp_path / "none.npz"])
    np.savez(tmp_path / "other.npz", u=np.ones(2))
    with pytest.raises(InputError, match="no input 'u'; it has 'x', 'sr', 'size'"):
        GivenInputs.read([tmp_path / "other.npz"]).shapes(SPECS)
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as twice:
        for name in ("x", "x.npy"):
            twice.writestr(name, b"")
    with pytest.raises(InputError, match="the same name"):
        GivenInputs.read([tmp_path / "twice.npz"])
    with pytest.raises(InputError, match="no such file"):
        GivenInputs.read([tmp_path / "no.npz"])
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(InputError, match="single array"):
        GivenInputs.read([tmp_path / "a.npy"])
    (tmp_path / "b.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        GivenInputs.read([tmp_path / "b.npz"])


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


def test_several_examples_come_from_one_more_axis_or_from_several_files(tmp_path):
    stacked = np.arange(240, dtype=np.float32).reshape(2, 3, 40)
    np.savez(tmp_path / "two.npz", x=stacked, size=np.array([1, 2]))
    np.savez(tmp_path / "one.npz", x=stacked[1] + 1, size=np.array([3, 4]))
    given = GivenInputs.read([tmp_path / "two.npz", tmp_path / "one.npz"])
    assert given.shapes(SPECS) == {"x": (3, 40), "size": (2,)}
    found = given.over(example_inputs(SPECS), SPECS)
    assert [each["x"][0, 0] for each in found] == [0, 120, 121]
    assert [each["size"].tolist() for each in found] == [[1, 2], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.ones((2, 3, 40)), "size": np.ones((3, 2), int)}, "different numbers of examples, or none: {'x': 2,"),
        ({"x": np.ones((0, 3, 40))}, "or none"),
    ],
)
def test_examples_that_do_not_fit_each_other_are_one_line(arrays, said):
    with pytest.raises(InputError, match=said):
        GivenInputs(arrays=arrays).calls(SPECS)
    with pytest.raises(InputError, match=r"differ in the shape of 'x': \(3, 40\) and \(3, 41\)"):
        GivenInputs(arrays={"x": np.ones((3, 40))}, others=({"x": np.ones((3, 41))},)).calls(SPECS)


def test_sizes_and_what_is_given_have_to_agree():
    given = GivenInputs(arrays={"x": np.ones((3, 40))})
    assert given.shapes(SPECS, {"x": (3, 40), "size": (2,)}) == {"x": (3, 40), "size": (2,)}
    with pytest.raises(InputError, match=r"input 'x' should have shape 3,41, but what is given has 3,40; leave one"):
        given.shapes(SPECS, {"x": (3, 41)})


def test_examples_take_turns_and_each_is_checked(save_model, tmp_path):
    """What is answered to the second one is wrong where a backend answers the first again."""
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("x", TensorProto.FLOAT, (3,))], [("y", TensorProto.FLOAT, (3,))])
    given = GivenInputs(arrays={"x": np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)})
    settings = Settings(trials=1, rounds=3, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
    measured = measure(SubjectSpec(model=path, backend="ort", given=given), settings=settings)
    assert measured.failure is None, measured.failure
    assert measured.subject.inputs == 3
    assert (measured.agreement.n_inputs, measured.agreement.ok) == (9, True)


def test_the_calls_of_the_worker_take_turns():
    called = []

    class Compiled:
        def bind(self, feeds):
            return lambda: called.append(int(feeds["x"]))

    worker = Worker(create=lambda _: NullBackend())
    worker.prepare({"backend": "null", "calls": 3}, {"x": np.array([5, 6, 7])})
    call = worker._bound(Compiled())
    for _ in range(5):
        call()
    assert called == [5, 6, 7, 5, 6]
