"""Reading an ONNX file without its weights."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from backends import modelfile
from backends.errors import BackendError, ModelLoadError
from backends.testing import small_cnn, token_model, with_external_data


def model_of(nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(a, n) for n, a in weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def test_the_weights_are_left_out_and_everything_else_is_kept(tmp_path):
    path = tmp_path / "m.onnx"
    big = np.ones((100, 100), np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Reshape", ["m", "s"], ["y"])]
    model = model_of(nodes, [info("x", [1, 100])], [info("y", [100])], [("w", big), ("s", np.array([100], np.int64))])
    onnx.save(model, path)
    file = modelfile.read(path)
    weight, shape = file.proto.graph.initializer
    assert (weight.name, list(weight.dims), weight.raw_data) == ("w", [100, 100], b"")
    assert onnx.numpy_helper.to_array(shape).tolist() == [100]
    for tensor in (weight, model.graph.initializer[0]):
        tensor.ClearField("raw_data")
    assert file.proto == model


@pytest.mark.parametrize("make", [small_cnn, with_external_data])
def test_initializers_are_those_of_onnx(make, tmp_path):
    path = make(tmp_path / "m.onnx")
    wanted = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    got = dict(modelfile.initializers(path))
    assert got.keys() == wanted.keys()
    assert all(np.array_equal(got[name], wanted[name]) for name in wanted)


def test_a_name_that_is_not_text_is_refused(tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"residual", b"r\xffsidual"))
    with pytest.raises(ModelLoadError, match="is damaged: a name in it is not text"):
        modelfile.read(path)


def test_data_that_does_not_fit_its_shape_is_refused(tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.initializer[1].dims[0] = 9
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match="tensor 'b1' is damaged"):
        dict(modelfile.initializers(path))


def test_no_damaged_byte_is_a_surprise(tmp_path):
    whole = token_model(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    for at in range(len(whole)):
        for value in (0x00, 0x7F, 0xFF):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                modelfile.read(path)
            except BackendError as error:
                assert "\n" not in str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_but_never_crashes(data, tmp_path):
    whole = small_cnn(tmp_path / "whole.onnx").read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(damaged[:cut]))
    try:
        modelfile.read(path)
    except BackendError as error:
        assert "\n" not in str(error)


def test_every_truncation_of_a_model_is_refused(tmp_path):
    whole = token_model(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    # The last bytes are the opset, behind the graph: a file cut there still holds the whole graph.
    for length in range(0, len(whole) - 8, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelLoadError, match=r"truncated|empty"):
            modelfile.read(path)


def test_dimensions_without_a_name_get_one(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", [None, 3])], [info("y", [-1, 3])]), path)
    file = modelfile.read(path)
    assert file.inputs[0].shape == ("x_0", 3)
    assert file.outputs[0].shape == ("y_0", 3)


def test_an_output_without_a_shape_is_inferred(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", [2, 3])], [info("y", None)]), path)
    assert modelfile.read(path).outputs[0].shape == (2, 3)


def test_an_input_without_a_shape_takes_any(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", None)], [info("y", [1])]), path)
    (spec,) = modelfile.read(path).inputs
    assert str(spec) == "float32(?)"
    assert spec.accepts(np.ones((2, 3), np.float32))
    assert not spec.accepts(np.ones((2, 3), np.float64))


def test_text_is_refused_where_a_backend_does_not_take_it(tmp_path):
    path = tmp_path / "m.onnx"
    text = info("x", [1], TensorProto.STRING), info("y", [1], TensorProto.STRING)
    onnx.save(model_of([helper.make_node("Identity", ["x"], ["y"])], [text[0]], [text[1]]), path)
    file = modelfile.read(path)
    assert [spec.dtype for spec in (*file.inputs, *file.outputs)] == ["object", "object"]
    with pytest.raises(ModelLoadError, match="'x' is text, which backend 'it' does not take"):
        modelfile.require_numbers(file, "it")


def test_external_data_may_not_leave_the_folder(tmp_path):
    (tmp_path / "inner").mkdir()
    path = with_external_data(tmp_path / "inner" / "m.onnx")
    (tmp_path / "inner" / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match=r"'../weights.bin' of 'w1' is outside its folder"):
        modelfile.read(path)


def outside(name="../weights.bin"):
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=name)
    return tensor


def in_a_function():
    node = helper.make_node("Constant", [], ["b"], value=outside())
    function = helper.make_function("own", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    model = model_of([helper.make_node("F", ["x"], ["y"], domain="own")], [info("x", [1])], [info("y", [1])])
    model.functions.append(function)
    return model


def in_a_sparse_tensor():
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", [1])], [info("y", [1])])
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=outside(), dims=[1]))
    return model


@pytest.mark.parametrize("make", [in_a_function, in_a_sparse_tensor])
def test_external_data_may_not_leave_the_folder_from_anywhere(tmp_path, make):
    onnx.save(make(), tmp_path / "m.onnx")
    with pytest.raises(ModelLoadError, match="of 'w' is outside its folder"):
        modelfile.read(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["w" * 5000, "w\0", "ring"])
def test_external_data_whose_name_no_file_can_have_is_missing(tmp_path, name):
    (tmp_path / "ring").symlink_to("ring")
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", [1])], [info("y", [1])])
    model.graph.initializer.append(outside(name))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelLoadError, match="of 'w' is missing beside the model") as refused:
        modelfile.read(tmp_path / "m.onnx")
    assert len(str(refused.value)) < 500


def test_a_model_without_outputs_computes_nothing(tmp_path):
    onnx.save(model_of([helper.make_node("Relu", ["x"], ["y"])], [info("x", [1])], []), tmp_path / "m.onnx")
    with pytest.raises(ModelLoadError, match="has no outputs"):
        modelfile.read(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("dtype", "precision"), [(np.float32, "fp32"), (np.float16, "fp16"), ("bfloat16", "bf16"), (np.int64, "fp32")]
)
def test_precision_is_that_of_the_weights(dtype, precision, tmp_path):
    path = tmp_path / "m.onnx"
    weight = np.ones((3, 3), np.dtype(dtype))
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    onnx.save(model_of(nodes, [info("x", [1, 3], kind)], [info("y", [1, 3], kind)], [("w", weight)]), path)
    assert modelfile.read(path).precision == precision


@pytest.mark.parametrize(
    ("nodes", "weights", "precision"),
    [
        ([("MatMul", ["a", "w"], ["m"]), ("MatMul", ["b", "v"], ["y"])], "mixed", "mixed"),
        ([("DequantizeLinear", ["x", "w"], ["y"])], "one", "fp32"),
        ([("MatMul", ["a", "w"], ["y"])], "double", "fp64"),
    ],
)
def test_other_precisions_are_named(nodes, weights, precision, tmp_path):
    kinds = {
        "mixed": [("w", np.ones((3, 3), np.float32)), ("v", np.ones((3, 3), np.float16))],
        "one": [("w", np.ones((3, 3), np.float32))],
        "double": [("w", np.ones((3, 3), np.float64))],
    }
    path = tmp_path / "m.onnx"
    onnx.save(
        model_of([helper.make_node(*node) for node in nodes], [info("x", [1, 3])], [info("y", [1, 3])], kinds[weights]),
        path,
    )
    assert modelfile.read(path).precision == precision
