"""ONNX graphs that never end, take all memory or mean nothing are refused with what is wrong."""

from __future__ import annotations

import itertools

import pytest
from onnx import TensorProto, helper

from backends.reading.bounds import broken_rule

DOMAIN = "own"
X, Y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")


def model(nodes, *, outputs=(Y,), initializers=(), functions=()):
    graph = helper.make_graph(list(nodes), "g", [X], list(outputs), list(initializers))
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions))


def function(name, calls, domain=DOMAIN):
    """`calls` calls in turn of the operator or function of that name."""
    called, times = calls
    values = ["a", *(f"v{n}" for n in range(times - 1)), "b"]
    nodes = [helper.make_node(called, [i], [o], domain=domain) for i, o in itertools.pairwise(values)]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, ["a"], ["b"], nodes, imports)


def call(name, domain=DOMAIN):
    return helper.make_node(name, ["x"], ["y"], domain=domain)


def bomb(levels):
    doubled = [function(f"F{n}", (f"F{n - 1}", 2)) for n in range(1, levels)]
    return model([call(f"F{levels - 1}")], functions=[function("F0", ("Relu", 2), ""), *doubled])


def test_an_ordinary_model_with_functions_passes():
    assert broken_rule(bomb(5)) is None


def test_nodes_may_stand_in_any_order():
    assert broken_rule(model([helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])])) is None


def test_functions_that_grow_without_end_are_counted_not_taken_apart():
    assert "nodes when its functions are taken apart" in (broken_rule(bomb(40)) or "")


def test_functions_that_call_themselves():
    ring = [function("F", ("G", 1)), function("G", ("F", 1))]
    assert "calls itself" in (broken_rule(model([call("F")], functions=ring)) or "")


def test_functions_that_call_each_other_too_deep():
    chain = [function("F0", ("Relu", 1), ""), *(function(f"F{n}", (f"F{n - 1}", 1)) for n in range(1, 200))]
    assert "call each other more than 100 deep" in (broken_rule(model([call("F199")], functions=chain)) or "")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (model([call("Relu", ""), call("Abs", "")]), "two nodes write 'y'"),
        (model([call("Relu", "")], outputs=(Y, Y)), "it lists twice as its output 'y'"),
        (model([call("Relu", "")], functions=[function("F", ("Relu", 1), "")] * 2), "two of its functions"),
        (model([helper.make_node("Relu", ["x"], [])]), "writes nothing"),
        (
            model([helper.make_node("Add", ["x", "y"], ["a"]), helper.make_node("Relu", ["a"], ["y"], name="n")]),
            "(Add) needs what it writes itself",
        ),
        (model([helper.make_node("Relu", ["x"], ["y"], name="a\0b")]), "a name in it is not text"),
        (
            model([call("Relu", "")], initializers=[TensorProto(name="w", data_type=1, dims=[-1])]),
            "tensor 'w' has a negative size",
        ),
        (
            model([call("Relu", "")], initializers=[TensorProto(name="w", data_type=1, dims=[9], raw_data=b"1234")]),
            "tensor 'w' does not hold what its shape says",
        ),
    ],
)
def test_what_means_nothing_is_named(made, says):
    assert says in (broken_rule(made) or "")
