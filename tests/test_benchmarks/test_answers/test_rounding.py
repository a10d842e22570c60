"""No false accusation, and no fault that passes: errors beyond the tolerance are judged by what rounding can do."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.answers.reference import Reference, check
from benchmarks.answers.reference_process import run_unoptimised
from benchmarks.answers.rounding import rounding_of
from benchmarks.answers.shaking import moved_inside, shaken, shaken_model
from benchmarks.subject.inputs import InputSizes

FLOAT = TensorProto.FLOAT
STEP = 2.0**-18


def judge(path, feeds):
    """Return how answers are judged: by the tolerance alone, and by what rounding can do."""
    sizes = InputSizes(shapes={name: array.shape for name, array in feeds.items()}, batch=1, batched=frozenset())
    given = Reference(inputs=feeds, outputs=run_unoptimised(path, feeds), source="")
    moved = rounding_of(path, feeds, precision="fp32")

    def judged(answer):
        answers = {"y": answer}
        return tuple(check(lambda _: answers, given, sizes, precision="fp32", rounding=each).ok for each in ({}, moved))

    return judged


def chain(save_model, weight, path):
    """Write three products with a large offset that is taken away again: rounding is seen in the answer."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Add", ["h", "up"], ["i"]),
        helper.make_node("Sub", ["i", "up"], ["j"]),
        helper.make_node("Softplus", ["j"], ["k"]),
        helper.make_node("MatMul", ["k", "b"], ["y"]),
    ]
    up = numpy_helper.from_array(np.full(16, 3000.3, np.float32) + np.arange(16, dtype=np.float32), "up")
    held = [weight("a", 8, 16), up, weight("b", 16, 4, seed=1)]
    return save_model(path, nodes, [("x", FLOAT, (1, 8))], [("y", FLOAT, (1, 4))], held)


def by_hand(path, x, dtype=np.float64, change=lambda weights: weights):
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    weights = {name: array.astype(dtype) for name, array in change(weights).items()}
    hidden = (x.astype(dtype) @ weights["a"] + weights["up"]) - weights["up"]
    return (np.log1p(np.exp(hidden)) @ weights["b"]).astype(np.float32)


def test_what_cancels_inside_is_no_wrong_answer_and_a_fault_is(save_model, weight, tmp_path):
    path = chain(save_model, weight, tmp_path / "m.onnx")
    x = np.random.default_rng(5).standard_normal((1, 8)).astype(np.float32)

    verdict = judge(path, {"x": x})
    exact = by_hand(path, x)
    assert verdict(exact)[1], "double precision is right, however far the reference has rounded"

    def one_channel_off(weights):
        return {**weights, "b": np.roll(weights["b"], 1, axis=0)}

    def swapped(weights):
        return {**weights, "b": weights["b"].reshape(4, 16).T}

    assert verdict(by_hand(path, x, change=one_channel_off)) == (False, False)
    assert verdict(by_hand(path, x, change=swapped)) == (False, False)
    assert verdict(exact[:, ::-1]) == (False, False)


def test_bfloat16_is_not_taken_for_fp32(save_model, weight, tmp_path):
    rng = np.random.default_rng(0)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save_model(
        tmp_path / "m.onnx", [node], [("x", FLOAT, (4, 64))], [("y", FLOAT, (4, 64))], [weight("w", 64, 64)]
    )
    x, w = rng.standard_normal((4, 64)).astype(np.float32), numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    half = x.astype(ml_dtypes.bfloat16).astype(np.float32) @ w.astype(ml_dtypes.bfloat16).astype(np.float32)
    verdict = judge(path, {"x": x})
    assert verdict(half) == (False, False)
    assert verdict((x.astype(np.float64) @ w).astype(np.float32)) == (True, True)


def test_what_cancels_without_weights_is_no_wrong_answer_and_a_fault_is(save_model, tmp_path):
    """No move of an input is seen in ``sin(x)**2 + cos(x)**2 - 1``: only what is computed on the way shows rounding."""
    nodes = [
        helper.make_node("Sin", ["x"], ["s"]),
        helper.make_node("Cos", ["x"], ["c"]),
        helper.make_node("Mul", ["s", "s"], ["ss"]),
        helper.make_node("Mul", ["c", "c"], ["cc"]),
        helper.make_node("Add", ["ss", "cc"], ["sum"]),
        helper.make_node("Sub", ["sum", "one"], ["y"]),
    ]
    held = [numpy_helper.from_array(np.float32(1), "one")]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (50,))], [("y", FLOAT, (50,))], held)
    x = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    verdict = judge(path, {"x": x})

    def rounded_to(kind):
        s, c = (f(x).astype(kind).astype(np.float32) for f in (np.sin, np.cos))
        return s * s + c * c - np.float32(1)

    assert verdict(np.zeros(50, np.float32)) == (False, True)
    assert not any(verdict(rounded_to(ml_dtypes.bfloat16)))
    assert not any(verdict(rounded_to(np.float16)))


def test_windows_are_rounded_as_their_cosines_are(save_model, tmp_path):
    node = helper.make_node("BlackmanWindow", ["n"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("n", TensorProto.INT64, ())], [("y", FLOAT, ("n",))])
    for size in (1, 10):
        feeds = {"n": np.array(size)}
        given = run_unoptimised(path, feeds)["y"]
        verdict = judge(path, feeds)
        assert verdict(given + np.float32(1e-7))[1]
        assert not any(verdict(given + np.float32(1e-4)))


def test_sizes_that_are_computed_are_not_moved(save_model, weight, tmp_path):
    """As exporters write an interpolation: the size of its output is computed from the shape, in floating point."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Shape", ["h"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["real"], to=FLOAT),
        helper.make_node("Mul", ["real", "factors"], ["larger"]),
        helper.make_node("Floor", ["larger"], ["floor"]),
        helper.make_node("Cast", ["floor"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Resize", ["h", "", "", "sizes"], ["y"]),
    ]
    held = [weight("w", 8, 8), numpy_helper.from_array(np.array([1, 1, 2, 1.25], np.float32), "factors")]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (1, 1, 4, 8))], [("y", FLOAT, (1, 1, 8, 10))], held)
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 8)).astype(np.float32)
    moved = rounding_of(path, {"x": x}, precision="fp32")["y"]
    assert 0 < moved < 1e-2


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_what_is_computed_is_moved_in_each_type(save_model, tmp_path, kind):
    node = helper.make_node("Tanh", ["x"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("x", kind, (9,))], [("y", kind, (9,))])
    step = {TensorProto.FLOAT16: 2.0**-9, TensorProto.DOUBLE: 2.0**-40}[kind]
    x = np.linspace(-1, 1, 9).astype(helper.tensor_dtype_to_np_dtype(kind))
    moved = moved_inside(onnx.load(path), step, np.random.default_rng(0))
    onnx.save(moved, tmp_path / "moved.onnx")
    one, other = (run_unoptimised(each, {"x": x})["y"].astype(float) for each in (path, tmp_path / "moved.onnx"))
    assert other[4] == one[4] == 0
    assert 0 < np.abs(other / np.where(one, one, 1) - (one != 0)).max() <= 2 * step


def test_where_rounding_decides_anything_is_allowed(save_model, tmp_path):
    nodes = [
        helper.make_node("Sub", ["x", "limit"], ["d"]),
        helper.make_node("Sign", ["d"], ["y"]),
    ]
    limit = numpy_helper.from_array(np.full(64, 0.3, np.float32), "limit")
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (64,))], [("y", FLOAT, (64,))], [limit])
    assert rounding_of(path, {"x": np.full(64, 0.3, np.float32)}, precision="fp32")["y"] >= 1
    assert rounding_of(path, {"x": np.full(64, 0.4, np.float32)}, precision="fp32")["y"] == 0


def test_numbers_without_rounding_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    for kept in (np.arange(6.0), np.array(0.25), np.array([True]), np.arange(3), np.array(["a"], object)):
        assert shaken(kept, STEP, rng) is kept
    values = rng.standard_normal(1000).astype(np.float32)
    apart = np.abs(shaken(values, STEP, rng) / values - 1)
    assert apart.max() <= 2.1 * STEP
    assert apart.mean() > STEP / 4
    mask = np.array([0.5, np.finfo(np.float32).min], np.float32)
    assert shaken(mask, STEP, rng)[1] == mask[1]


def test_sizes_and_bounds_in_a_file_are_not_moved(save_model, tmp_path):
    scales = numpy_helper.from_array(np.array([1, 1, 1.5, 1.5], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("x", FLOAT, (1, 1, 4, 4))], [("y", FLOAT, (1, 1, 6, 6))], [scales])
    moved = onnx.load(shaken_model(path, tmp_path, STEP, np.random.default_rng(0)))
    assert np.array_equal(numpy_helper.to_array(moved.graph.initializer[0]), numpy_helper.to_array(scales))
