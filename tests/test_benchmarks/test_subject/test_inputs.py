"""Inputs for any model, and clear words where none can be made."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from backends.base import TensorSpec
from backends.errors import ModelLoadError
from benchmarks.errors import InputError
from benchmarks.subject.inputs import ModelSpecs, example_inputs, index_bounds, model_specs, resolve_sizes


def spec(name, *shape, dtype="float32"):
    return TensorSpec(name=name, shape=shape, dtype=dtype)


IMAGE, SCORES = spec("x", "batch", 3, 8, 8), spec("y", "batch", 10)


def test_the_same_seed_gives_the_same_inputs():
    specs = (IMAGE, spec("n", dtype="int64"), spec("mask", "batch", 4, dtype="bool"))
    first, again, other = (example_inputs(specs, batch=2, seed=seed) for seed in (0, 0, 1))
    assert {name: array.shape for name, array in first.items()} == {"x": (2, 3, 8, 8), "n": (), "mask": (2, 4)}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], other["x"])
    assert np.array_equal(example_inputs(specs[:1], batch=2)["x"], first["x"]), "one more input changed another"


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float32", -6, 6), ("float16", -6, 6), ("bfloat16", -6, 6), ("int64", 0, 1), ("uint8", 0, 255)],
)
def test_values_suit_their_type(dtype, low, high):
    array = example_inputs((spec("x", 500, dtype=dtype),))["x"]
    assert array.dtype.name == dtype
    assert low <= float(array.min()) < float(array.max()) <= high


def test_an_integer_scalar_is_one_and_complex_numbers_are_refused():
    assert example_inputs((spec("k", dtype="int64"),))["k"] == 1
    with pytest.raises(InputError, match="'z' is of type complex64"):
        example_inputs((spec("z", 2, dtype="complex64"),))


def test_tokens_stay_inside_the_table_they_choose_from(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("Cast", ["tokens"], ["cast"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "cast"], ["y"]),
    ]
    path = save_model(
        tmp_path / "embed.onnx",
        nodes,
        [("tokens", TensorProto.INT32, ["batch", "seq"])],
        [("y", TensorProto.FLOAT, ["batch", "seq", 4])],
        [weight("table", 50, 4)],
    )
    assert index_bounds(path) == {"tokens": 50}
    specs = model_specs(path)
    tokens = example_inputs(specs.inputs, shapes={"tokens": (8, 100)}, bounds=index_bounds(path))["tokens"]
    assert (tokens.min(), tokens.max()) == (0, 49)


@pytest.mark.parametrize(
    ("inputs", "batch", "shapes", "wanted"),
    [
        ((IMAGE,), None, {}, {"x": (1, 3, 8, 8)}),
        ((IMAGE,), 4, {}, {"x": (4, 3, 8, 8)}),
        ((IMAGE,), None, {"x": (5, 3, 8, 8)}, {"x": (5, 3, 8, 8)}),
        ((spec("a", "a_0", 2), spec("b", "b_0", 3)), 2, {}, {"a": (2, 2), "b": (2, 3)}),
        ((spec("a", "seq", "batch", 2),), 3, {"a": (7, 3, 2)}, {"a": (7, 3, 2)}),
        ((spec("a", 4, 2),), None, {}, {"a": (4, 2)}),
        ((spec("k"),), 1, {}, {"k": ()}),
    ],
)
def test_sizes_are_resolved(inputs, batch, shapes, wanted):
    outputs = (spec("y", 4, 1),) if inputs[0].shape == (4, 2) else (SCORES,)
    sizes = resolve_sizes(ModelSpecs(inputs, outputs), batch=batch, shapes=shapes)
    assert sizes.shapes == wanted
    if inputs[0].shape == (4, 2):
        assert (sizes.batch, sizes.batched) == (4, {"a"})


def test_examples_at_hand_decide_what_is_open_but_not_the_batch():
    specs = ModelSpecs((spec("tokens", "batch", "seq", dtype="int64"),), (SCORES,))
    sizes = resolve_sizes(specs, examples={"tokens": (32, 77)})
    assert (sizes.shapes, sizes.batch) == ({"tokens": (1, 77)}, 1)


@pytest.mark.parametrize(
    ("inputs", "arguments", "message"),
    [
        ((spec("t", "batch", "seq"),), {}, r"input 't' .* free dimension 'seq' .* --shape t=1,\? with numbers"),
        ((IMAGE,), {"shapes": {"z": (1,)}}, r"unknown input 'z'; there are 'x'"),
        ((IMAGE,), {"shapes": {"x": (1, 4, 8, 8)}}, r"shape 1,4,8,8 does not fit input 'x'"),
        ((IMAGE,), {"shapes": {"x": (1, 3)}}, r"does not fit"),
        ((IMAGE,), {"shapes": {"x": (0, 3, 8, 8)}}, r"does not fit"),
        ((IMAGE,), {"shapes": {"x": (2, 3, 8, 8)}, "batch": 3}, r"batch 3 was asked for, but the given shapes say 2"),
        ((spec("x", 1, 3),), {"batch": 2}, r"batch 2 was asked for, but the model is made for 1"),
        (
            (spec("a", "n", "s"), spec("b", "n", "s")),
            {"shapes": {"a": (1, 2), "b": (1, 3)}},
            r"free dimension 's' is given as 2 and as 3",
        ),
    ],
)
def test_nothing_is_guessed(inputs, arguments, message):
    with pytest.raises(InputError, match=message):
        resolve_sizes(ModelSpecs(inputs, (spec("y", 1),)), **arguments)


def test_a_missing_or_truncated_file_is_one_line(conv_model, tmp_path):
    with pytest.raises(ModelLoadError, match="no such file"):
        model_specs(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(conv_model.read_bytes()[:200])
    with pytest.raises(ModelLoadError, match="truncated"):
        model_specs(broken)


def test_all_missing_sizes_are_asked_for_at_once():
    specs = (spec("x", "batch", "height", "width"), spec("y", "batch", "length"), spec("z", "batch", 3))
    with pytest.raises(InputError) as caught:
        resolve_sizes(ModelSpecs(specs, ()))
    said = str(caught.value)
    assert "input 'x'" in said
    assert "free dimensions 'height', 'width'" in said
    assert "give --shape x=1,?,? --shape y=1,? with numbers for every ?" in said.replace("x=?", "x=1").replace(
        "y=?", "y=1"
    )


def test_what_exporters_write_for_no_name_is_none(save_model, tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ("?", "?", "n"))],
        [("y", TensorProto.FLOAT, ("?", "?", "n"))],
    )
    assert model_specs(path).inputs[0].shape == ("x_0", "x_1", "n")


@pytest.mark.parametrize(("shape", "dtype"), [((1, 3, 64, 48), "float32"), ((2, 32, 32, 1), "uint8")])
def test_pictures_have_edges(shape, dtype):
    """Neighbours are alike, unlike in noise, over the same range of values."""
    image = example_inputs((spec("x", *shape, dtype=dtype),))["x"].astype(np.float64)
    assert image.shape == shape
    height = 2 if dtype == "float32" else 1
    steps = np.diff(image, axis=height)
    assert np.std(steps) < np.std(image), "of noise it would be 1.4 times as large"
    assert np.std(image) > (0.5 if dtype == "float32" else 20)
