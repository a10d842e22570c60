"""Counts known by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.errors import InputError
from benchmarks.subject.cost import cost
from benchmarks.subject.subject import content_sha256

FLOAT = TensorProto.FLOAT


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_a_small_network_costs_what_it_says_for_one_example(save_conv_model, tmp_path, batch):
    path = save_conv_model(tmp_path / "m.onnx", batch=batch)
    found = cost(path)
    # Convolution 3 -> 4, 3 x 3, 8 x 8: 4 * 64 * 27 = 6912; matrix product 4 -> 5: 20.
    assert {node.name: node.macs for node in found.nodes if node.macs} == {"conv": 6912, "fc": 20}
    assert (found.macs, found.flops) == (6932, 13864)
    # 4 * 27 + 4 and 5 * 4 + 5
    assert {node.name: node.parameters for node in found.nodes if node.parameters} == {"conv": 112, "fc": 25}
    assert (found.parameters, found.weight_bytes) == (137, 4 * 137)
    # Two maps of 4 * 64, pooled 4, flat 4, 5 scores.
    assert found.activation_bytes == 4 * (256 + 256 + 4 + 4 + 5)
    assert found.file_bytes == path.stat().st_size


def one_node(save_model, path, node, inputs, output, initializers=()):
    return cost(save_model(path, [node], inputs, [output], initializers))


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "weights", "output", "macs"),
    [
        ("Conv", {"group": 4}, [(1, 8, 5, 5)], [(8, 2, 3, 3)], (1, 8, 3, 3), 8 * 9 * 2 * 9),
        ("Conv", {"strides": [2]}, [(1, 3, 9)], [(5, 3, 3)], (1, 5, 4), 5 * 4 * 9),
        ("Conv", {"dilations": [2, 2]}, [(1, 1, 5, 5)], [(2, 1, 3, 3)], (1, 2, 1, 1), 2 * 9),
        ("ConvTranspose", {"strides": [2, 2]}, [(1, 4, 3, 3)], [(4, 6, 2, 2)], (1, 6, 6, 6), 4 * 9 * 6 * 4),
        ("ConvTranspose", {"group": 2}, [(1, 4, 3, 3)], [(4, 3, 2, 2)], (1, 6, 4, 4), 4 * 9 * 3 * 4),
        ("Gemm", {"transB": 1}, [(1, 7)], [(3, 7)], (1, 3), 21),
        ("Gemm", {"transA": 1}, [(7, 1)], [(7, 3)], (1, 3), 21),
        ("MatMul", {}, [(1, 6, 5, 7)], [(7, 3)], (1, 6, 5, 3), 6 * 5 * 7 * 3),
        ("MatMul", {}, [(1, 2, 5, 7), (1, 2, 7, 4)], [], (1, 2, 5, 4), 2 * 5 * 7 * 4),
        ("MatMul", {}, [(7,)], [(7, 3)], (3,), 21),
        ("Einsum", {"equation": "bij,bjk->bik"}, [(1, 5, 7), (1, 7, 3)], [], (1, 5, 3), 5 * 7 * 3),
        ("Einsum", {"equation": "...ij,jk->...ik"}, [(1, 2, 5, 7)], [(7, 3)], (1, 2, 5, 3), 2 * 5 * 7 * 3),
        ("Einsum", {"equation": "bij->bji"}, [(1, 5, 7)], [], (1, 7, 5), 0),
        ("LSTM", {"hidden_size": 3}, [(10, 1, 4)], [(1, 12, 4), (1, 12, 3)], (10, 1, 1, 3), 12 * 4 + 12 * 3),
        ("GRU", {"hidden_size": 3}, [(10, 1, 4)], [(1, 9, 4), (1, 9, 3)], (10, 1, 1, 3), 9 * 4 + 9 * 3),
        ("Relu", {}, [(1, 5)], [], (1, 5), 0),
    ],
)  # fmt: skip
def test_macs_of_each_operator(save_model, weight, tmp_path, op, attributes, inputs, weights, output, macs):
    names = [f"x{index}" for index in range(len(inputs))]
    held = [weight(f"w{index}", *shape) for index, shape in enumerate(weights)]
    node = helper.make_node(op, [*names, *(tensor.name for tensor in held)], ["y"], name="it", **attributes)
    given = [(name, FLOAT, shape) for name, shape in zip(names, inputs, strict=True)]
    found = one_node(save_model, tmp_path / "m.onnx", node, given, ("y", FLOAT, output), held)
    # A fixed axis 0 that all inputs and outputs share is the batch and is divided out: 1, or the 10 steps of a layer
    # that nothing in the file tells from 10 examples.
    assert found.macs == macs
    assert found.parameters == sum(int(np.prod(shape)) for shape in weights)


def test_attention_counts_both_products(save_model, tmp_path):
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attend")
    shapes = {"q": (1, 2, 5, 8), "k": (1, 2, 6, 8), "v": (1, 2, 6, 4)}
    given = [(name, FLOAT, shape) for name, shape in shapes.items()]
    path = save_model(tmp_path / "m.onnx", [node], given, [("y", FLOAT, (1, 2, 5, 4))], opset=23)
    assert cost(path).macs == 2 * 5 * 6 * 8 + 2 * 5 * 6 * 4


def test_what_counts_as_a_parameter(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("BatchNormalization", ["x", "scale", "shift", "mean", "var"], ["a"], name="bn"),
        helper.make_node("Mul", ["a", "gamma"], ["b"], name="layer scale"),
        helper.make_node("Div", ["b", "root"], ["c"], name="by a number"),
        helper.make_node("PRelu", ["c", "slope"], ["d"], name="prelu"),
        helper.make_node("Clip", ["d", "low"], ["e"], name="clip"),
        helper.make_node("Mul", ["e", "gamma"], ["y"], name="shared"),
        helper.make_node("Reshape", ["y", "shape"], ["z"], name="reshape"),
    ]
    held = [weight(name, 3) for name in ("scale", "shift", "mean", "var")]
    held += [weight("gamma", 3, 1, 1), weight("root"), weight("slope", 1), weight("low")]
    held += [numpy_helper.from_array(np.array([1, -1]), "shape")]
    found = cost(save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (1, 3, 4, 4))], [("z", FLOAT, (1, 48))], held))
    counted = {node.name: node.parameters for node in found.nodes if node.parameters}
    assert counted == {"bn": 6, "layer scale": 3, "prelu": 1}


def test_constants_folded_in_the_graph_cost_nothing_at_run_time(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("MatMul", ["w", "v"], ["constant"], name="of constants"),
        helper.make_node("MatMul", ["x", "constant"], ["y"], name="real"),
    ]
    held = [weight("w", 4, 100), weight("v", 100, 3)]
    found = cost(save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 3))], held))
    assert found.macs == 12
    assert found.activation_bytes == 12


def test_functions_of_the_file_are_looked_into(save_model, weight, tmp_path):
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("own", "Dense", ["a", "b"], ["c"], body, [helper.make_opsetid("", 20)])
    node = helper.make_node("Dense", ["x", "w"], ["y"], domain="own")
    path = save_model(
        tmp_path / "m.onnx", [node], [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 3))], [weight("w", 4, 3)],
        functions=[function], domains=["own"],
    )  # fmt: skip
    assert (cost(path).macs, cost(path).parameters) == (12, 12)


def test_free_dimensions_are_given_or_refused(save_model, weight, tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save_model(
        tmp_path / "m.onnx", [node], [("x", FLOAT, ("batch", "seq", 4))], [("y", FLOAT, ("batch", "seq", 3))],
        [weight("w", 4, 3)],
    )  # fmt: skip
    assert cost(path, shapes={"x": (2, 7, 4)}).macs == 7 * 12
    with pytest.raises(InputError, match="free dimension 'seq'"):
        cost(path)


def test_what_is_not_known_is_named_and_the_rest_is_counted(save_model, weight, tmp_path):
    path = tmp_path / "m.onnx"
    given, out = [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 4))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Frobnicate", ["h"], ["y"], name="it", domain="odd"),
    ]
    found = cost(save_model(path, nodes, given, out, [weight("w", 4, 4)], domains=["odd"]))
    assert found.unknown == ("odd.Frobnicate of node 'it': its operator is not counted",)
    assert (found.macs, found.parameters, found.unsized) == (16, 16, 0)
    three = helper.make_node("Einsum", ["x", "w", "w"], ["y"], name="sum", equation="bi,ij,jk->bk")
    found = cost(save_model(path, [three], given, out, [weight("w", 4, 4)]))
    assert found.macs == 0
    assert "Einsum of node 'sum'" in found.unknown[0]


def test_shapes_that_contradict_each_other_only_leave_the_counts_open(save_model, weight, tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="it")
    found = cost(
        save_model(tmp_path / "m.onnx", [node], [("x", FLOAT, (1, 3))], [("y", FLOAT, None)], [weight("w", 4, 4)])
    )
    assert found.parameters == 16
    assert found.unknown == ("MatMul of node 'it': the shape of 'y' is not known before it runs",)


def test_nodes_that_cannot_be_counted_are_listed_by_name(save_model, weight, tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], name="fc"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="it", domain="odd"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="behind"),
    ]
    ends = [("x", FLOAT, (1, 4))], [("y", FLOAT, (1, 4))]
    save_model(path, nodes, *ends, [weight("w", 4, 4)], domains=["odd"])
    counted = cost(path)
    assert {node.name: node.macs for node in counted.nodes} == {"fc": 16, "it": 0, "behind": 0}
    assert counted.uncounted == ("it", "behind")


def test_external_data_belongs_to_the_file_and_to_its_hash(conv_model, tmp_path):
    model = onnx.load(conv_model)
    path = tmp_path / "apart.onnx"
    onnx.save(model, path, save_as_external_data=True, location="apart.data", size_threshold=0)
    data = tmp_path / "apart.data"
    assert cost(path).file_bytes == path.stat().st_size + data.stat().st_size
    assert cost(path).parameters == cost(conv_model).parameters
    before = content_sha256(path)
    changed = bytearray(data.read_bytes())
    changed[0] ^= 1
    data.write_bytes(bytes(changed))
    assert content_sha256(path) != before


def test_an_exported_network_costs_what_torch_counts(tmp_path):
    torch = pytest.importorskip("torch")
    from deploy.exporting.export import export_onnx
    from deploy.networks.mobilenet import mobilenetv1

    network = mobilenetv1(width=0.25).eval()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.normal_(norm.bias)  # the exporter leaves a bias of zeros out
    torch.nn.init.normal_(network.get_submodule([name for name, _ in network.named_modules()][-1]).bias)
    image = torch.zeros(1, 3, 32, 32)
    counted = []

    def count(module, inputs, output):
        per_output = module.weight[0].numel() if isinstance(module, torch.nn.Conv2d) else module.in_features
        counted.append(output.numel() * per_output)

    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    export_onnx(network, (image,), tmp_path / "m.onnx")
    found = cost(tmp_path / "m.onnx")
    assert found.macs == sum(counted) > 0
    # Folding leaves of scale and shift of each BatchNorm channel one bias.
    folded = sum(norm.num_features for norm in norms)
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters()) - folded


def body_of(nodes, inputs, outputs, name="body"):
    values = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
    return helper.make_graph([helper.make_node(*node) for node in nodes], name, *values)


def branch_of(*nodes):
    return body_of(nodes, [], [(nodes[-1][2][0], FLOAT, None)])


def test_a_choice_costs_one_branch_where_both_cost_the_same(save_model, weight, tmp_path):
    path, given = tmp_path / "m.onnx", [("x", FLOAT, (1, 4)), ("c", TensorProto.BOOL, ())]
    one = branch_of(("MatMul", ["x", "w"], ["a"]))
    other = branch_of(("MatMul", ["x", "v"], ["b"]))
    none = branch_of(("Relu", ["x"], ["d"]))
    held = [weight("w", 4, 4), weight("v", 4, 4)]

    def choose(then, otherwise):
        node = helper.make_node("If", ["c"], ["y"], name="maybe", then_branch=then, else_branch=otherwise)
        return cost(save_model(path, [node], given, [("y", FLOAT, (1, 4))], held))

    found = choose(one, other)
    assert (found.macs, found.parameters, found.weight_bytes) == (16, 32, 128)
    assert choose(one, one).parameters == 16, "a weight that both branches use counts once"
    assert choose(none, none).macs == 0
    open_ended = choose(one, none)
    assert open_ended.unknown == ("If of node 'maybe': what it costs depends on the data",)
    assert (open_ended.macs, open_ended.parameters) == (0, 16)


def loop(condition_out):
    flag, number = ("go", TensorProto.BOOL, ()), ("i", TensorProto.INT64, ())
    nodes = [("MatMul", ["s", "w"], ["t"]), condition_out]
    return body_of(nodes, [number, flag, ("s", FLOAT, (1, 4))], [("on", TensorProto.BOOL, ()), ("t", FLOAT, (1, 4))])


@pytest.mark.parametrize(
    ("trips", "condition_out", "macs"),
    [
        (5, ("Identity", ["go"], ["on"]), 5 * 16),
        (0, ("Identity", ["go"], ["on"]), 0),
        (5, ("Not", ["go"], ["on"]), None),
        (None, ("Identity", ["go"], ["on"]), None),
    ],
)
def test_a_loop_costs_its_body_for_each_round_that_the_file_fixes(
    save_model, weight, tmp_path, trips, condition_out, macs
):
    path = tmp_path / "m.onnx"
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], name="again", body=loop(condition_out))
    given, held = [("x", FLOAT, (1, 4))], [weight("w", 4, 4)]
    if trips is None:
        given.append(("n", TensorProto.INT64, ()))
    else:
        held.append(numpy_helper.from_array(np.array(trips), "n"))
    save_model(path, [node], given, [("y", FLOAT, (1, 4))], held)
    found = cost(path)
    assert (found.macs, found.parameters) == (macs or 0, 16)
    assert found.unknown == (() if macs is not None else ("Loop of node 'again': what it costs depends on the data",))


def test_a_scan_costs_its_body_for_each_step(save_model, weight, tmp_path):
    nodes = [("Identity", ["s"], ["t"]), ("MatMul", ["e", "w"], ["q"])]
    body = body_of(nodes, [("s", FLOAT, (2,)), ("e", FLOAT, (2, 4))], [("t", FLOAT, (2,)), ("q", FLOAT, (2, 3))])
    node = helper.make_node("Scan", ["i", "x"], ["j", "y"], body=body, num_scan_inputs=1, scan_input_axes=[1])
    given = [("i", FLOAT, (2,)), ("x", FLOAT, (2, 7, 4))]
    path = save_model(
        tmp_path / "m.onnx", [node], given, [("j", FLOAT, (2,)), ("y", FLOAT, (7, 2, 3))], [weight("w", 4, 3)]
    )
    assert (cost(path).macs, cost(path).parameters) == (7 * 2 * 4 * 3, 12)


def whole_number(name, *shape, kind=np.int8):
    return numpy_helper.from_array(np.ones(shape, kind), name)


def scales(*names):
    return [tensor for name in names for tensor in (
        numpy_helper.from_array(np.array(0.5, np.float32), f"{name}_scale"), whole_number(f"{name}_zero"))]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "shape", "weights", "output", "macs", "parameters", "weight_bytes"),
    [
        ("QLinearConv", ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"], (1, 3, 8, 8),
         [whole_number("w", 4, 3, 3, 3), whole_number("b", 4, kind=np.int32)], (1, 4, 6, 6), 4 * 36 * 27, 112, 124),
        ("ConvInteger", ["x", "w", "x_zero"], (1, 3, 8, 8), [whole_number("w", 4, 3, 3, 3)], (1, 4, 6, 6), 4 * 36 * 27,
         108, 108),
        ("QLinearMatMul", ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"], (1, 7),
         [whole_number("w", 7, 3)], (1, 3), 21, 21, 21),
        ("MatMulInteger", ["x", "w"], (1, 7), [whole_number("w", 7, 3)], (1, 3), 21, 21, 21),
    ],
)  # fmt: skip
def test_quantised_layers_cost_as_much_as_the_others(
    save_model, tmp_path, op, inputs, shape, weights, output, macs, parameters, weight_bytes
):
    kind = TensorProto.INT32 if "Integer" in op else TensorProto.INT8
    held = [*weights, *scales("x", "w", "y")]
    node = helper.make_node(op, inputs, ["y"], name="it")
    path = save_model(tmp_path / "m.onnx", [node], [("x", TensorProto.INT8, shape)], [("y", kind, output)], held)
    found = cost(path)
    assert (found.macs, found.parameters, found.weight_bytes) == (macs, parameters, weight_bytes)


def test_a_dequantised_weight_counts_once_and_its_scale_does_not(save_model, tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "x_scale", "x_zero"], ["d"], name="d"),
        helper.make_node("DequantizeLinear", ["w", "w_scales", "w_zeros"], ["v"], name="weights", axis=1),
        helper.make_node("MatMul", ["d", "v"], ["y"], name="layer"),
    ]
    four_bits = helper.make_tensor("w", TensorProto.INT4, [8, 3], [1] * 24)
    held = [*scales("x"), four_bits, numpy_helper.from_array(np.ones(3, np.float32), "w_scales")]
    held += [helper.make_tensor("w_zeros", TensorProto.INT4, [3], [0] * 3)]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (1, 8))], [("y", FLOAT, (1, 3))], held, opset=21)
    found = cost(path)
    assert (found.macs, found.parameters, found.weight_bytes) == (24, 24, 12)
    assert {node.name: node.parameters for node in found.nodes if node.parameters} == {"weights": 24}


def test_a_shape_kept_outside_the_file_is_read(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], name="reshape"),
        helper.make_node("MatMul", ["r", "w"], ["y"], name="layer"),
    ]
    held = [numpy_helper.from_array(np.array([6, 4]), "shape"), weight("w", 4, 5)]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, (1, 24))], [("y", FLOAT, (6, 5))], held)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    found = cost(path)
    assert found.macs == 6 * 4 * 5
    assert found.file_bytes == path.stat().st_size + (tmp_path / "m.data").stat().st_size


def test_minus_one_in_a_shape_is_a_free_size(save_model, weight, tmp_path):
    """Some exporters write it for a free dimension, inside the graph and at its ends."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    path = save_model(tmp_path / "m.onnx", nodes, [("x", FLOAT, [-1, 4])], [("y", FLOAT, [-1, 3])], [weight("w", 4, 3)])
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("a", FLOAT, [-1, 3]))
    onnx.save(model, path)
    found = cost(path)
    assert (found.macs, found.activation_bytes, found.unknown) == (12, 2 * 3 * 4, ())


def test_question_marks_in_a_shape_are_sizes_of_their_own(save_model, weight, tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save_model(
        tmp_path / "m.onnx", [node], [("x", FLOAT, ["?", "?", 4])], [("y", FLOAT, ["?", "?", 3])], [weight("w", 4, 3)]
    )
    found = cost(path, shapes={"x": (2, 5, 4)})
    assert (found.macs, found.activation_bytes, found.unknown) == (5 * 12, 5 * 3 * 4, ())
