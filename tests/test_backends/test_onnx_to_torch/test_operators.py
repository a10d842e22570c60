"""Each ONNX operator written in torch equals ONNX's own reference evaluator."""

# ruff: noqa: E501  (a table: one case a line)

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from backends import CompileOptions
from backends.errors import ModelLoadError
from backends.registry import create

pytest.importorskip("torch")
RANDOM = np.random.default_rng(0)


def values(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def positive(*shape):
    return (np.abs(values(*shape)) + 0.1).astype(np.float32)


def ints(*items):
    return np.array(items, np.int64)


def write(path, op, feeds, constants=(), n_outputs=1, opset=20, like=None, **attributes):
    """A model of one node; `constants` are (array or None) after the feeds; the output is typed as `like` where inference fails."""
    names, initializers = list(feeds), []
    for index, array in enumerate(constants):
        names.append("" if array is None else f"c{index}")
        if array is not None:
            initializers.append(onnx.numpy_helper.from_array(array, f"c{index}"))
    outputs = [f"y{index}" for index in range(n_outputs)]
    node = helper.make_node(op, names, outputs, name="node", **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    empty = [helper.make_empty_tensor_value_info(name) for name in outputs]
    if like is not None:
        empty = [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, feeds[like].shape)]
    graph = helper.make_graph([node], "g", inputs, empty, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.save(model, path)
    return model


X = {"x": values(2, 4, 6, 6)}
ROWS = {"x": values(3, 5)}
PAIR = {"a": values(3, 5), "b": positive(3, 5)}

CASES = {
    "abs": ("Abs", ROWS, (), {}),
    "add": ("Add", {"a": values(2, 3, 4), "b": values(3, 1)}, (), {}),
    "sub": ("Sub", PAIR, (), {}),
    "mul": ("Mul", PAIR, (), {}),
    "div": ("Div", PAIR, (), {}),
    "div of integers": ("Div", {"a": ints(-7, 7, 9), "b": ints(2, -2, 4)}, (), {}),
    "pow": ("Pow", {"a": positive(3, 5), "b": values(3, 5)}, (), {}),
    "sqrt": ("Sqrt", {"x": positive(3)}, (), {}),
    "exp": ("Exp", ROWS, (), {}),
    "log": ("Log", {"x": positive(3)}, (), {}),
    "erf": ("Erf", ROWS, (), {}),
    "tanh": ("Tanh", ROWS, (), {}),
    "neg": ("Neg", ROWS, (), {}),
    "reciprocal": ("Reciprocal", {"x": positive(3)}, (), {}),
    "floor": ("Floor", ROWS, (), {}),
    "round to even": ("Round", {"x": np.array([0.5, 1.5, -0.5, 2.4], np.float32)}, (), {}),
    "relu": ("Relu", ROWS, (), {}),
    "leaky relu": ("LeakyRelu", ROWS, (), {"alpha": 0.2}),
    "prelu per channel": ("PRelu", X, (values(4, 1, 1),), {}),
    "elu": ("Elu", ROWS, (), {"alpha": 0.7}),
    "celu": ("Celu", ROWS, (), {"alpha": 0.7}),
    "selu": ("Selu", ROWS, (), {}),
    "softplus": ("Softplus", ROWS, (), {}),
    "softsign": ("Softsign", ROWS, (), {}),
    "sigmoid": ("Sigmoid", ROWS, (), {}),
    "hard sigmoid": ("HardSigmoid", ROWS, (), {"alpha": 0.3, "beta": 0.4}),
    "hard sigmoid as in torch": ("HardSigmoid", {"x": values(50) * 4}, (), {"alpha": 1 / 6, "beta": 0.5}),
    "hard swish": ("HardSwish", {"x": values(50) * 4}, (), {}),
    "mish": ("Mish", ROWS, (), {}),
    "gelu": ("Gelu", ROWS, (), {}),
    "gelu by tanh": ("Gelu", ROWS, (), {"approximate": "tanh"}),
    "thresholded relu": ("ThresholdedRelu", ROWS, (), {"alpha": 0.5}),
    "clip": ("Clip", ROWS, (np.array(-0.5, np.float32), np.array(0.5, np.float32)), {}),
    "clip above": ("Clip", ROWS, (None, np.array(0.5, np.float32)), {}),
    "softmax": ("Softmax", X, (), {"axis": 1}),
    "log softmax": ("LogSoftmax", ROWS, (), {}),
    "conv": ("Conv", X, (values(6, 2, 3, 3), values(6)), {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "conv 1d": ("Conv", {"x": values(2, 3, 9)}, (values(4, 3, 3),), {"dilations": [2]}),
    "conv 3d": ("Conv", {"x": values(1, 2, 4, 4, 4)}, (values(3, 2, 2, 2, 2),), {}),
    "conv with uneven padding": ("Conv", X, (values(3, 4, 3, 3),), {"pads": [0, 1, 2, 0]}),
    "conv padded same, more at the end": ("Conv", X, (values(3, 4, 3, 3),), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "conv padded same, more at the start": ("Conv", X, (values(3, 4, 4, 4),), {"auto_pad": "SAME_LOWER"}),
    "conv unpadded": ("Conv", X, (values(3, 4, 3, 3),), {"auto_pad": "VALID"}),
    "conv transpose": ("ConvTranspose", X, (values(4, 3, 3, 3), values(3)), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "conv transpose with uneven padding": ("ConvTranspose", X, (values(4, 3, 3, 3),), {"strides": [2, 2], "pads": [0, 1, 1, 0]}),
    "gemm": ("Gemm", ROWS, (values(7, 5), values(7)), {"transB": 1}),
    "gemm not transposed": ("Gemm", ROWS, (values(5, 7), values(7)), {}),
    "gemm with factors": ("Gemm", {"x": values(5, 3)}, (values(5, 7), values(3, 7)), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    "matmul by a constant": ("MatMul", {"x": values(2, 3, 5)}, (values(5, 7),), {}),
    "matmul of tensors": ("MatMul", {"a": values(2, 3, 5), "b": values(2, 5, 4)}, (), {}),
    "matmul of a vector": ("MatMul", {"x": values(5)}, (values(5, 7),), {}),
    "einsum": ("Einsum", {"a": values(2, 3, 5), "b": values(2, 4, 5)}, (), {"equation": "bij,bkj->bik"}),
    "batch norm": ("BatchNormalization", X, (values(4), values(4), values(4), positive(4)), {}),
    "instance norm": ("InstanceNormalization", X, (values(4), values(4)), {}),
    "layer norm": ("LayerNormalization", X, (values(6, 6), values(6, 6)), {"axis": -2}),
    "lp norm": ("LpNormalization", ROWS, (), {"axis": 1, "p": 2}),
    "max pool": ("MaxPool", X, (), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max pool, last window over the edge": ("MaxPool", X, (), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max pool with uneven padding": ("MaxPool", X, (), {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0]}),
    "max pool padded same": ("MaxPool", X, (), {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}),
    "average pool": ("AveragePool", X, (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average pool counting the padding": ("AveragePool", X, (), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average pool with uneven padding": ("AveragePool", X, (), {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}),
    "average pool 1d": ("AveragePool", {"x": values(2, 3, 9)}, (), {"kernel_shape": [3], "strides": [2]}),
    "global average pool": ("GlobalAveragePool", X, (), {}),
    "global max pool": ("GlobalMaxPool", X, (), {}),
    "mean": ("ReduceMean", X, (ints(2, 3),), {"keepdims": 0}),
    "mean of everything": ("ReduceMean", X, (), {}),
    "sum": ("ReduceSum", X, (ints(-1),), {}),
    "sum of nothing": ("ReduceSum", X, (), {"noop_with_empty_axes": 1}),
    "largest": ("ReduceMax", X, (ints(1),), {}),
    "smallest": ("ReduceMin", X, (ints(1, 2),), {"keepdims": 0}),
    "product": ("ReduceProd", ROWS, (ints(0, 1),), {"keepdims": 0}),
    "norm 1": ("ReduceL1", X, (ints(1),), {}),
    "norm 2": ("ReduceL2", X, (ints(1, 3),), {}),
    "sum of squares": ("ReduceSumSquare", X, (ints(2),), {}),
    "log of the sum of exponentials": ("ReduceLogSumExp", X, (ints(2),), {}),
    "where the largest is": ("ArgMax", ROWS, (), {"axis": 1, "keepdims": 0}),
    "running sum": ("CumSum", ROWS, (np.array(1, np.int64),), {}),
    "largest of three": ("Max", {"a": values(4), "b": values(4), "c": values(4)}, (), {}),
    "mean of two": ("Mean", PAIR, (), {}),
    "remainder": ("Mod", {"a": ints(-7, 7), "b": ints(3, -3)}, (), {}),
    "equal": ("Equal", {"a": ints(1, 2), "b": ints(1, 3)}, (), {}),
    "where": ("Where", {"c": np.array([True, False]), "a": values(2), "b": values(2)}, (), {}),
    "flatten": ("Flatten", X, (), {"axis": 1}),
    "flatten at 2": ("Flatten", X, (), {"axis": 2}),
    "reshape": ("Reshape", X, (ints(0, 2, -1),), {}),
    "squeeze": ("Squeeze", {"x": values(1, 3, 1)}, (ints(0),), {}),
    "squeeze all": ("Squeeze", {"x": values(1, 3, 1)}, (), {}),
    "unsqueeze": ("Unsqueeze", ROWS, (ints(0, -1),), {}),
    "transpose": ("Transpose", X, (), {"perm": [0, 2, 3, 1]}),
    "transpose all": ("Transpose", X, (), {}),
    "expand": ("Expand", {"x": values(3, 1)}, (ints(2, 1, 4),), {}),
    "tile": ("Tile", ROWS, (ints(2, 3),), {}),
    "concat": ("Concat", {"a": values(2, 3), "b": values(2, 1)}, (), {"axis": 1}),
    "slice": ("Slice", X, (ints(1, -4), ints(3, 2**62), ints(1, -1)), {}),
    "slice with a step": ("Slice", ROWS, (ints(0), ints(5), ints(1), ints(2)), {}),
    "slice backwards": ("Slice", ROWS, (ints(-1), ints(-(2**62)), ints(1), ints(-1)), {}),
    "gather one": ("Gather", X, (np.array(-1, np.int64),), {"axis": 1}),
    "gather some": ("Gather", X, (ints(2, -1, 0),), {"axis": 2}),
    "gather a table": ("Gather", {"table": values(5, 3), "at": np.array([[0, 4], [1, 1]])}, (), {}),
    "gather elements": ("GatherElements", {"x": values(2, 3), "at": np.array([[0, 2], [1, 1]])}, (), {"axis": 1}),
    "gather rows": ("GatherND", {"x": values(2, 3, 4), "at": np.array([[0, 2], [1, 1]])}, (), {}),
    "scatter rows": ("ScatterND", {"x": values(4, 3), "at": np.array([[0], [2]]), "new": values(2, 3)}, (), {}),
    "upper triangle": ("Trilu", {"x": values(4, 4)}, (np.array(1, np.int64),), {}),
    "pad": ("Pad", X, (ints(0, 0, 1, 2, 0, 0, 0, 1), np.array(0.5, np.float32)), {}),
    "pad chosen axes": ("Pad", X, (ints(1, 2), None, ints(-1)), {}),
    "pad by reflection": ("Pad", X, (ints(0, 0, 1, 2, 0, 0, 0, 1),), {"mode": "reflect"}),
    "pad by the edge": ("Pad", ROWS, (ints(0, 2, 0, 1),), {"mode": "edge"}),
    "depth to space": ("DepthToSpace", X, (), {"blocksize": 2}),
    "depth to space by columns": ("DepthToSpace", X, (), {"blocksize": 2, "mode": "CRD"}),
    "space to depth": ("SpaceToDepth", X, (), {"blocksize": 2}),
    "resize to the nearest": ("Resize", X, (None, np.array([1, 1, 2, 2], np.float32)), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "resize linearly": ("Resize", X, (None, None, ints(2, 4, 9, 3)), {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
    "resize with aligned corners": ("Resize", X, (None, None, ints(2, 4, 9, 12)), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    "cast": ("Cast", ROWS, (), {"to": TensorProto.INT64}),
    "identity": ("Identity", ROWS, (), {}),
    "dropout": ("Dropout", ROWS, (), {}),
    "logical and": ("And", {"a": np.array([True, False]), "b": np.array([True, True])}, (), {}),
}  # fmt: skip

MANY = {
    "split": ("Split", X, (ints(1, 3),), {"axis": 1}, 2),
    "split equally": ("Split", X, (), {"axis": 2, "num_outputs": 4}, 4),
    "largest two": ("TopK", ROWS, (ints(2),), {}, 2),
}


@pytest.mark.rounding
@pytest.mark.parametrize("case", [*CASES, *MANY])
def test_operator_equals_the_reference(case, tmp_path):
    op, feeds, constants, attributes, *rest = {**CASES, **MANY}[case]
    path = tmp_path / "model.onnx"
    model = write(path, op, feeds, constants, *rest, **attributes)
    wanted = ReferenceEvaluator(model).run(None, feeds)
    got = create("torch").compile(path).run(feeds)
    for answer, expected in zip(got.values(), wanted, strict=True):
        assert answer.shape == expected.shape
        assert answer.dtype == expected.dtype
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.rounding
def test_group_norm(tmp_path):
    """ONNX's evaluator has no shapes for it; ONNX Runtime is the judge."""
    path = tmp_path / "model.onnx"
    write(path, "GroupNormalization", X, (values(4), values(4)), opset=21, num_groups=2, like="x")
    wanted = create("ort").compile(path).run(X)["y0"]
    np.testing.assert_allclose(create("torch").compile(path).run(X)["y0"], wanted, rtol=1e-4, atol=1e-5)


def test_the_withdrawn_group_norm_is_refused(tmp_path):
    """Opsets 18 to 20 scale per group, which ONNX has withdrawn."""
    path = tmp_path / "model.onnx"
    write(path, "GroupNormalization", X, (values(2), values(2)), opset=18, num_groups=2, like="x")
    with pytest.raises(ModelLoadError, match="deprecated"):
        create("torch").compile(path)


@pytest.mark.rounding
def test_local_response_norm(tmp_path):
    """ONNX's evaluator forgets the last channels here; ONNX Runtime is the judge."""
    path = tmp_path / "model.onnx"
    write(path, "LRN", X, size=3, alpha=0.1)
    wanted = create("ort").compile(path).run(X)["y0"]
    np.testing.assert_allclose(create("torch").compile(path).run(X)["y0"], wanted, rtol=1e-4, atol=1e-5)


REFUSED = {
    "resize of an unknown kind": ("Resize", X, (None, np.array([1, 1, 2, 2], np.float32)), {"mode": "nearest"}),
    "dilated average pool": ("AveragePool", X, (), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "running sum backwards": ("CumSum", ROWS, (np.array(1, np.int64),), {"reverse": 1}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unknown_use_is_refused_by_name(case, tmp_path):
    op, feeds, constants, attributes = REFUSED[case]
    path = tmp_path / "model.onnx"
    write(path, op, feeds, constants, **attributes)
    with pytest.raises(ModelLoadError, match=rf"do not support .* of operator {op} \(node \'node\'\)"):
        create("torch").compile(path)


def test_a_node_that_reads_nothing_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    model = write(path, "Relu", ROWS)
    model.graph.node[0].input[0] = "elsewhere"
    onnx.save(model, path)
    with pytest.raises(ModelLoadError, match="node 'node' reads 'elsewhere', which nothing produces"):
        create("torch").compile(path)
    model.graph.node[0].input[0], model.graph.node[0].output[0] = "x", "elsewhere"
    onnx.save(model, path)
    with pytest.raises(ModelLoadError, match="nothing produces output 'y0'"):
        create("torch").compile(path)


def test_a_missing_attribute_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    model = write(path, "MaxPool", X, kernel_shape=[2, 2])
    del model.graph.node[0].attribute[:]
    onnx.save(model, path)
    with pytest.raises(ModelLoadError, match=r"node 'node' is not valid: .*kernel_shape"):
        create("torch").compile(path)


def test_an_old_opset_is_refused(tmp_path):
    write(tmp_path / "model.onnx", "Relu", ROWS, opset=11)
    with pytest.raises(ModelLoadError, match="opset 11; the torch backends read 13 and later"):
        create("torch").compile(tmp_path / "model.onnx")


def test_sizes_of_a_free_batch_become_integers(tmp_path):
    """Shape -> Gather -> Concat -> Reshape, as exporters write a flatten of a free batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Gather", ["s", "zero"], ["n"], name="batch"),
        helper.make_node("Mul", ["n", "two"], ["m"], name="double"),
        helper.make_node("Unsqueeze", ["m", "axis"], ["v"], name="vector"),
        helper.make_node("Concat", ["v", "rest"], ["t"], name="target", axis=0),
        helper.make_node("Reshape", ["x", "t"], ["y"], name="reshape"),
    ]
    constants = {"zero": np.array(0), "two": np.array(2), "axis": ints(0), "rest": ints(-1)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["double", 6])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    compiled = create("torch").compile(path)
    for batch in (1, 3):
        x = values(batch, 4, 3)
        assert np.array_equal(compiled.run({"x": x})["y"], x.reshape(2 * batch, 6))
    assert [layer.kind for layer in compiled.layers()] == ["size", "mul", "reshape"]


def with_sizes(path, op, left, right, dims=(2,), **attributes):
    """Write a model that adds ``op(size + left, right)`` to its input, of `size` values."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], name="shape"),
        helper.make_node("Add", ["size", "left"], ["sum"], name="sum"),
        helper.make_node(op, ["sum", "right"], ["result"], name="divide", **attributes),
        helper.make_node("Add", ["x", "result"], ["y"], name="add"),
    ]
    places = [helper.make_tensor_value_info(name, TensorProto.INT64, dims) for name in "xy"]
    constants = [onnx.numpy_helper.from_array(ints(part), name) for part, name in ((left, "left"), (right, "right"))]
    graph = helper.make_graph(nodes, "g", places[:1], places[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("op", "attributes"), [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})])
@pytest.mark.parametrize(("left", "right"), [(-9, 2), (5, -2), (-9, -2), (5, 2)])
@pytest.mark.parametrize("dims", [(2,), ("n",)])
def test_negative_sizes_are_divided_as_in_onnx(tmp_path, op, attributes, left, right, dims):
    path = with_sizes(tmp_path / "model.onnx", op, left, right, dims, **attributes)
    x = {"x": ints(10, 20)}
    assert np.array_equal(create("torch").compile(path).run(x)["y"], create("ort").compile(path).run(x)["y"])


@pytest.mark.parametrize(("op", "left", "right"), [("Div", 5, 0), ("Mod", 5, 0), ("Mul", 2**62, 4)])
def test_sizes_that_cannot_be_computed_are_refused(tmp_path, op, left, right):
    path = with_sizes(tmp_path / "model.onnx", op, left, right)
    with pytest.raises(ModelLoadError, match=rf"do not support sizes {2 + left}, {right} of operator {op}"):
        create("torch").compile(path)


@pytest.mark.rounding
def test_half_precision_is_inside_only(tmp_path):
    path = tmp_path / "model.onnx"
    write(path, "MatMul", ROWS, (values(5, 7),))
    exact = create("torch").compile(path).run(ROWS)["y0"]
    compiled = create("torch").compile(path, CompileOptions(precision="bf16"))
    answer = compiled.run(ROWS)["y0"]
    assert compiled.executed_precision == "bf16"
    assert answer.dtype == np.float32
    assert 1e-5 < np.abs(answer - exact).max() < 0.1
