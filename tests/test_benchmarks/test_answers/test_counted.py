"""What only a run can say: shapes, branches and rounds, and the operators that ONNX Runtime's optimiser writes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.answers.counted import counted
from benchmarks.answers.reference_process import watch
from benchmarks.subject.cost import cost

FLOAT = TensorProto.FLOAT
X = ("x", FLOAT, (4, 8))
Y = ("y", FLOAT, (4, 8))


def watched(path, feeds):
    return cost(path, executions=watch(path, feeds))


def ones(*shape):
    return np.ones(shape, np.float32)


def branch(op, inputs, output):
    return helper.make_graph(
        [helper.make_node(op, inputs, [output])], "branch", [], [helper.make_tensor_value_info(output, FLOAT, (4, 8))]
    )


@pytest.mark.parametrize(("flag", "macs"), [(True, 64), (False, 0)])
def test_an_if_costs_the_branch_that_ran(save_model, weight, tmp_path, flag, macs):
    sides = {"then_branch": branch("MatMul", ["x", "w"], "t"), "else_branch": branch("Relu", ["x"], "e")}
    node = helper.make_node("If", ["c"], ["y"], **sides)
    path = save_model(tmp_path / "m.onnx", [node], [X, ("c", TensorProto.BOOL, ())], [Y], [weight("w", 8, 8)])
    found = watched(path, {"x": ones(4, 8), "c": np.array(flag)})
    assert (found.macs, found.unknown, found.from_run) == (macs, (), True)


def test_a_loop_costs_the_rounds_that_ran_with_an_if_inside(save_model, weight, tmp_path):
    """Rounds 0, 1 and 2: the condition holds in the first two of three."""
    values = [
        helper.make_tensor_value_info(*one)
        for one in (("i", TensorProto.INT64, ()), ("go", TensorProto.BOOL, ()), ("s", FLOAT, (4, 8)))
    ]
    sides = {"then_branch": branch("MatMul", ["s", "w"], "p"), "else_branch": branch("Relu", ["s"], "q")}
    body = helper.make_graph(
        [
            helper.make_node("Less", ["i", "two"], ["small"]),
            helper.make_node("If", ["small"], ["t"], **sides),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        values,
        [helper.make_tensor_value_info("on", TensorProto.BOOL, ()), helper.make_tensor_value_info("t", FLOAT, (4, 8))],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    held = [weight("w", 8, 8), numpy_helper.from_array(np.array(2), "two")]
    path = save_model(tmp_path / "m.onnx", [node], [X, ("n", TensorProto.INT64, ())], [Y], held)
    assert cost(path).unknown == ("If of node 't': what it costs depends on the data",)
    found = watched(path, {"x": ones(4, 8), "n": np.array(3)})
    assert (found.macs, found.parameters, found.unknown) == (2 * 64, 64, ())


def test_a_shape_that_depends_on_data_is_seen(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Transpose", ["at"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["real"], to=FLOAT),
        helper.make_node("MatMul", ["real", "w"], ["y"]),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, [X], [("y", FLOAT, ("n", 5))], [weight("w", 2, 5)])
    still_open = cost(path)
    assert (still_open.macs, still_open.unsized) == (0, 4)
    assert still_open.unknown == ("MatMul of node 'y': the shape of 'real' is not known before it runs",)
    x = np.zeros((4, 8), np.float32)
    x[0, :3] = 1
    found = watched(path, {"x": x})
    assert found.macs == 3 * 2 * 5
    assert (found.unsized, found.activation_bytes) == (0, 2 * 3 * 8 + 2 * 3 * 8 + 2 * 3 * 4 + 3 * 5 * 4)


@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_file_that_onnxruntime_has_optimised_costs_what_it_did_before(save_conv_model, tmp_path, level):
    path, optimised = save_conv_model(tmp_path / "m.onnx", batch=1), tmp_path / "optimised.onnx"
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    settings.optimized_model_filepath = str(optimised)
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    found = counted(optimised)
    # In the layout of vectors, channels are filled up to a whole block.
    assert found.unknown == ()
    assert found.macs == cost(path).macs if level == "ORT_ENABLE_EXTENDED" else found.macs >= cost(path).macs


@pytest.mark.parametrize(
    ("op", "attributes", "others", "output", "macs", "parameters"),
    [
        ("BiasGelu", {}, [(8,)], (4, 8), 0, 8),
        ("FastGelu", {}, [(8,)], (4, 8), 0, 8),
        ("QuickGelu", {}, [], (4, 8), 0, 0),
        ("FusedMatMul", {"transB": 1}, [(3, 8)], (4, 3), 4 * 8 * 3, 24),
        ("FusedGemm", {"activation": "Relu"}, [(8, 3), (3,)], (4, 3), 4 * 8 * 3, 27),
    ],
)
def test_operators_of_the_optimiser(save_model, weight, tmp_path, op, attributes, others, output, macs, parameters):
    held = [weight(f"w{index}", *shape) for index, shape in enumerate(others)]
    node = helper.make_node(op, ["x", *(one.name for one in held)], ["y"], domain="com.microsoft", **attributes)
    path = save_model(tmp_path / "m.onnx", [node], [X], [("y", FLOAT, output)], held, domains=["com.microsoft"])
    found = cost(path, shapes={"x": (4, 8)})
    assert (found.macs, found.parameters, found.unknown) == (macs // 4, parameters, ())  # a batch of 4 is fixed
    assert watched(path, {"x": ones(4, 8)}).macs == found.macs


def test_packed_weights_and_attention_with_its_projections(save_model, weight, tmp_path):
    four_bits = numpy_helper.from_array(np.ones((64, 2, 16), np.uint8), "q")
    node = helper.make_node(
        "MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft", K=64, N=64, bits=4, block_size=32
    )
    path = save_model(
        tmp_path / "m.onnx", [node], [("x", FLOAT, (1, 64))], [("y", FLOAT, (1, 64))], [four_bits, weight("s", 128)],
        domains=["com.microsoft"],
    )  # fmt: skip
    found = cost(path)
    assert (found.macs, found.parameters, found.weight_bytes) == (64 * 64, 64 * 64, 64 * 32)
    node = helper.make_node("Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=2)
    path = save_model(
        path, [node], [("x", FLOAT, (1, 5, 8))], [("y", FLOAT, (1, 5, 8))], [weight("w", 8, 24), weight("b", 24)],
        domains=["com.microsoft"],
    )  # fmt: skip
    assert cost(path).macs == 5 * 8 * 24 + 2 * 5 * 5 * 8


def test_what_no_run_can_say_stays_open(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["h"], name="it", domain="odd"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, [X], [Y], [weight("w", 8, 8)], domains=["odd"])
    found = counted(path)
    assert [text.partition(":")[0] for text in found.unknown] == ["odd.Frobnicate of node 'it'", "MatMul of node 'y'"]
    assert not found.from_run
