"""Layers of two files belong together by name, and where other exporters named or numbered them, by kind and order."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from benchmarks.layers.matching import match_nodes
from benchmarks.layers.onnx_nodes import GraphNode, ModelGraph, model_graph


def node(name, op="Conv", size=8, stride=1, groups=1, channels=(4, 4)):
    window = ((3, 3), (stride, stride), (size, size)) if op == "Conv" else ()
    weighted = channels if op in {"Conv", "Gemm"} else None
    return GraphNode(name=name, op=op, reads=(), writes=(), channels=weighted, groups=groups, window=window)


def graph(*nodes):
    return ModelGraph(nodes, {})


def relu(name):
    return node(name, "Relu")


DENSE = [
    node("a"),
    relu("r1"),
    node("b", size=4, stride=2),
    relu("r2"),
    node("c", size=4),
    relu("r3"),
    node("fc", "Gemm"),
]


def test_names_are_believed_where_they_fit():
    # The order of a file may differ; an activation of another name has no counterpart.
    other = [node("c", size=4), relu("r9"), node("a"), node("b", size=4, stride=2)]
    assert match_nodes(graph(*other), graph(*DENSE)) == {"a": "a", "b": "b", "c": "c"}


def test_other_names_in_the_same_order():
    other = [
        GraphNode(name=f"n{i}", op=one.op, reads=(), writes=(), channels=one.channels and (2, 3), window=one.window)
        for i, one in enumerate(DENSE)
    ]
    assert match_nodes(graph(*other), graph(*DENSE)) == {f"n{i}": one.name for i, one in enumerate(DENSE)}


def test_numbers_that_shifted_are_not_believed():
    dense = [node("conv_0", size=8), node("conv_1", size=4, stride=2), node("conv_2", size=4), node("conv_3", size=2)]
    pruned = [node("conv_0", size=8), node("conv_1", size=4), node("conv_2", size=2)]  # one layer is gone
    assert match_nodes(graph(*pruned), graph(*dense)) == {"conv_0": "conv_0", "conv_1": "conv_2", "conv_2": "conv_3"}


def test_nodes_between_layers_are_matched_too_and_new_ones_have_no_counterpart():
    # The other exporter left the batch norms in.
    other = [
        node("x", size=8), node("n1", "BatchNormalization"), relu("q1"),
        node("y", size=4, stride=2), node("n2", "BatchNormalization"), relu("q2"),
        node("z", size=4), relu("q3"), node("w", "Gemm"),
    ]  # fmt: skip
    matched = match_nodes(graph(*other), graph(*DENSE))
    assert matched == dict(zip(("x", "q1", "y", "q2", "z", "q3", "w"), (one.name for one in DENSE), strict=True))


def test_a_name_decides_between_equals():
    dense = [node("first"), node("second"), node("third"), node("last", "Gemm")]
    assert match_nodes(graph(node("third"), node("x", "Gemm")), graph(*dense)) == {"third": "third", "x": "last"}


def test_a_depthwise_convolution_is_no_other():
    dense = [node("a"), node("dw", groups=4), node("b")]
    assert match_nodes(graph(node("p", groups=2, channels=(2, 2)), node("q")), graph(*dense)) == {"p": "dw", "q": "b"}


def test_a_depthwise_convolution_with_one_channel_left_keeps_its_counterpart():
    dense = [node("p1", channels=(8, 16)), node("d1", groups=16, channels=(16, 16)), node("p2", channels=(16, 4))]
    pruned = [node("p1", channels=(8, 1)), node("d1", channels=(1, 1)), node("p2", channels=(1, 4))]
    assert match_nodes(graph(*pruned), graph(*dense)) == {name: name for name in ("p1", "d1", "p2")}
    renamed = [node(f"x{one.name}", groups=one.groups, channels=one.channels) for one in pruned]
    assert match_nodes(graph(*renamed), graph(*dense)) == {f"x{name}": name for name in ("p1", "d1", "p2")}


def test_without_weighted_nodes_the_order_decides():
    assert match_nodes(graph(relu("x")), graph(node("s", "Sigmoid"), relu("y"))) == {"x": "y"}


@pytest.mark.parametrize("groups", [1, 4])
def test_the_window_of_a_convolution_and_a_pool(tmp_path, save_model, weight, groups):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", strides=[2, 2], group=groups),
        helper.make_node("MaxPool", ["a"], ["y"], name="pool", kernel_shape=[2, 2]),
    ]
    ends = [("x", TensorProto.FLOAT, [1, 4, 9, 9])], [("y", TensorProto.FLOAT, [1, 4, 3, 3])]
    path = save_model(tmp_path / "m.onnx", nodes, *ends, [weight("w", 4, 4 // groups, 3, 3)])
    conv, pool = model_graph(path, {"x": (1, 4, 9, 9)}).nodes
    assert conv.window == ((3, 3), (2, 2), (4, 4))
    assert pool.window == ((2, 2), (1, 1), (3, 3))
    assert (conv.groups, conv.depthwise) == (groups, groups > 1)
