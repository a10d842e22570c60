"""What the base class keeps for every backend."""

import numpy as np
import pytest

from backends import CompileOptions, TensorSpec
from backends.errors import FeedError, ModelLoadError, OptionError, RunError, one_line
from backends.registry import create
from backends.testing import small_cnn, token_model


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int4"}, "precision 'int4' is not one of fp32, bf16, fp16, int8"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"streams": 0}, "streams must be at least 1, got 0"),
        ({"device": "gpu"}, "device 'gpu' is not one of cpu, cuda, cuda:N, sm_XY"),
        ({"device": "cuda:x"}, "device 'cuda:x' is not one of"),
    ],
)
def test_options_are_checked_at_birth(options, said):
    with pytest.raises(OptionError, match=said):
        CompileOptions(**options)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "sm_89", "sm_120"])
def test_known_devices(device):
    assert CompileOptions(device=device).device == device


def test_a_free_dimension_has_one_size(tmp_path):
    compiled = create("null").compile(token_model(tmp_path / "m.onnx"))
    with pytest.raises(FeedError, match="'tokens' must be int64\\(batch, length\\), got int64\\(3\\)"):
        compiled.bind({"tokens": np.zeros(3, np.int64), "scale": np.float32(1)})


def test_a_dimension_shared_by_two_inputs_must_agree(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", infos[:2], infos[2:])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    compiled = create("null").compile(path)
    with pytest.raises(FeedError, match="free dimension 'batch' is 1 in input 'a' and 3 in input 'b'"):
        compiled.bind({"a": np.zeros((1, 2), np.float32), "b": np.zeros((3, 2), np.float32)})


@pytest.mark.parametrize("backend", ["ort", "openvino", "torch"])
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda x: x.astype(">f4"), id="big-endian"),
        pytest.param(lambda x: np.asfortranarray(x), id="fortran-order"),
        pytest.param(lambda x: np.flip(np.flip(x, 3).copy(), 3), id="negative-strides"),
    ],
)
def test_the_layout_of_a_feed_does_not_matter(backend, wrap, tmp_path):
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    compiled = create(backend).compile(small_cnn(tmp_path / "m.onnx"))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    assert np.array_equal(compiled.run({"x": wrap(x)})["y"], compiled.run({"x": x})["y"])


def test_a_feed_that_is_no_array_is_refused(tmp_path):
    compiled = create("null").compile(small_cnn(tmp_path / "m.onnx"))
    with pytest.raises(FeedError, match=r"must be a numpy array .*, got list"):
        compiled.bind({"x": [1.0, 2.0]})


@pytest.mark.parametrize("backend", ["ort", "openvino", "torch"])
def test_a_closed_model_says_so(backend, tmp_path):
    pytest.importorskip({"ort": "onnxruntime"}.get(backend, backend))
    compiled = create(backend).compile(small_cnn(tmp_path / "m.onnx"))
    compiled.close()
    with pytest.raises(RunError, match="closed"):
        compiled.bind({"x": np.zeros((2, 3, 8, 8), np.float32)})


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelLoadError, match="it is a folder"):
        create("null").compile(tmp_path)


def test_a_spec_reads_like_a_type():
    spec = TensorSpec(name="x", shape=("batch", 3), dtype="float32")
    assert str(spec) == "float32(batch, 3)"
    assert not spec.accepts(np.zeros((2, 3), np.float16))
    assert spec.accepts(np.zeros((0, 3), np.float32))


def test_a_foreign_error_becomes_one_line():
    assert one_line(RuntimeError("a\n  b\t c")) == "a b c"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert len(one_line(RuntimeError("x" * 1000))) == 300


def test_null_answers_zeros_of_the_right_shape(tmp_path):
    compiled = create("null").compile(token_model(tmp_path / "m.onnx"))
    answer = compiled.run({"tokens": np.ones((2, 5), np.int64), "scale": np.float32(1)})
    assert {name: array.shape for name, array in answer.items()} == {"y": (2, 5, 3), "embedded": (2, 5, 4)}
    assert not any(array.any() for array in answer.values())
    assert compiled.layers() == ()
