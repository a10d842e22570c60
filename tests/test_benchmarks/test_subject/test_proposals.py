"""Sizes are proposed that the model runs with, in the message that asks for them."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from benchmarks.errors import InputError
from benchmarks.subject.inputs import model_specs, resolve_sizes

FLOAT = TensorProto.FLOAT


def asked(path):
    with pytest.raises(InputError, match="that nothing determines: give --shape") as caught:
        resolve_sizes(model_specs(path))
    return str(caught.value)


def test_a_matrix_product_behind_the_picture_tells_its_size(save_model, weight, tmp_path):
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    x = [("x", FLOAT, ["n", 1, "?", "?"])]
    path = save_model(tmp_path / "m.onnx", nodes, x, [("y", FLOAT, ["n", 3])], [weight("w", 48 * 48, 3)])
    assert asked(path).endswith("give --shape x=1,1,?,? with numbers for every ?, for example --shape x=1,1,48,48")


def test_another_input_tells_and_what_only_a_run_shows_is_heeded(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("Shape", ["c"], ["size"]),
        helper.make_node("ReduceProd", ["size"], ["all"], keepdims=1),
        helper.make_node("Reshape", ["d", "all"], ["r"]),  # the sizes of c and d are equal
        helper.make_node("Mul", ["s", "w"], ["y"]),
    ]
    given = [("a", FLOAT, ["n", "long"]), ("b", FLOAT, ["n", 77]), ("c", FLOAT, ["n", 1, "q"]), ("d", FLOAT, [2, 8])]
    outs = [("y", FLOAT, ["n", 77]), ("r", FLOAT, ["m"])]
    path = save_model(tmp_path / "m.onnx", nodes, given, outs, [weight("w", 1)])
    assert "for example --shape a=1,77 --shape c=1,1,16" in asked(path)


def test_where_no_usual_size_runs_none_is_proposed(save_model, weight, tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node("Concat", ["x", "w"], ["longer"], axis=1),
            helper.make_node("Reshape", ["longer", "to"], ["y"]),
        ],
        [("x", FLOAT, ["n", "long"])],
        [("y", FLOAT, [1009])],
        [helper.make_tensor("to", TensorProto.INT64, [1], [1009]), weight("w", 1, 2)],
    )
    assert asked(path).endswith("give --shape x=1,? with numbers for every ?")


def test_a_model_without_nodes_takes_any_size(save_model, tmp_path):
    path = save_model(tmp_path / "m.onnx", [], [("x", FLOAT, ["n", "long"])], [("x", FLOAT, ["n", "long"])])
    assert "for example --shape x=1," in asked(path)
