"""What is particular to ONNX Runtime."""

import platform

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from backends import CompileOptions
from backends.errors import ModelLoadError, OptionError
from backends.registry import create
from backends.testing import small_cnn
from benchmarks.answers.reference_process import run_unoptimised

IN_BLOCKS = platform.machine() in {"x86_64", "AMD64"}
blocked = pytest.mark.skipif(not IN_BLOCKS, reason="ONNX Runtime computes convolutions in blocks on x86 only")


def image(batch=2):
    return {"x": np.random.default_rng(0).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def write(path, nodes, kind=TensorProto.FLOAT, weights=(), domain=""):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1, 3])],
        [helper.make_tensor_value_info("y", kind, [1, 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_only_the_cpu_provider_and_no_spinning_between_calls(tmp_path):
    compiled = create("ort").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(threads=2))
    assert compiled.properties["providers"] == "CPUExecutionProvider"
    assert compiled.properties["force_spinning_stop"] == "1"
    assert compiled.properties["threads"] == "2"


def test_another_precision_than_the_file_s_is_refused(tmp_path):
    path = small_cnn(tmp_path / "m.onnx")
    with pytest.raises(OptionError, match=r"m.onnx is fp32, bf16 was asked for; export the model in bf16"):
        create("ort").compile(path, CompileOptions(precision="bf16"))


def test_a_half_precision_file_is_measured_under_the_name_of_what_is_executed(tmp_path):
    """On x86 ONNX Runtime computes an fp16 graph in fp32 between casts: it is measured under that name only."""
    weights = [("w", np.ones((3, 3), np.float16))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    path = write(tmp_path / "m.onnx", nodes, TensorProto.FLOAT16, weights)
    executed = []
    for asked in ("fp32", "fp16"):
        other = "fp16" if asked == "fp32" else "fp32"
        try:
            executed.append(create("ort").compile(path, CompileOptions(precision=asked)).executed_precision)
        except OptionError as error:
            assert f"'ort' executes {other}, not the {asked} asked for; pass --precision {other}" in str(error)
    assert executed in (["fp32"], ["fp16"])


@pytest.mark.parametrize(
    ("operator", "domain", "said"),
    [("NoSuchOperator", "", "No Op registered for NoSuchOperator"), ("Strange", "com.acme", "com.acme:Strange")],
)
def test_an_unknown_operator_is_named_with_its_domain(operator, domain, said, tmp_path):
    path = write(tmp_path / "m.onnx", [helper.make_node(operator, ["x"], ["y"], domain=domain)], domain=domain)
    with pytest.raises(ModelLoadError, match=said) as caught:
        create("ort").compile(path)
    assert "ONNXRuntimeError" not in str(caught.value)


def test_the_profile_times_every_layer_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = small_cnn(tmp_path / "m.onnx")
    compiled = create("ort").compile(path, CompileOptions(profile=True))
    call = compiled.bind(image())
    for _ in range(5):
        call()
    layers = compiled.layers()
    assert all(layer.time_ns is not None for layer in layers)
    assert compiled.layers() == layers
    call()  # the model still runs when its profile has ended
    compiled.close()
    assert [item.name for item in tmp_path.iterdir()] == ["m.onnx"]


def test_layers_without_a_profile_have_no_times(tmp_path):
    compiled = create("ort").compile(small_cnn(tmp_path / "m.onnx"))
    compiled.run(image())
    assert {layer.time_ns for layer in compiled.layers()} == {None}


@blocked
def test_fused_nodes_are_found_behind_a_blocked_convolution(tmp_path):
    """The residual addition and its activation are fused into the convolution before them, not the one behind."""
    generator = np.random.default_rng(0)
    weights = {f"w{index}": generator.standard_normal((16, 16, 3, 3)).astype(np.float32) for index in range(3)}
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="first", pads=pads),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="second", pads=pads),
        helper.make_node("Add", ["c1", "r0"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="third", pads=pads),
        helper.make_node("GlobalAveragePool", ["c2"], ["y"], name="pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 1, 1])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    layers = {layer.nodes: layer.kind for layer in create("ort").compile(path).layers() if layer.nodes}
    assert layers.keys() == {("first", "relu0"), ("second", "add", "relu1"), ("third",), ("pool",)}
    assert layers["third",] == "NCHWc Conv"


def test_streams_share_the_helpers_of_one_session(tmp_path):
    compiled = create("ort").compile(small_cnn(tmp_path / "m.onnx"), CompileOptions(threads=3, streams=2))
    assert {name: compiled.properties[name] for name in ("threads", "streams", "compute_threads")} == {
        "threads": "3", "streams": "2", "compute_threads": "4",
    }  # fmt: skip


def test_an_artefact_is_executed_node_for_node(tmp_path):
    """Nothing is optimised a second time: what runs is what was stored."""
    path = small_cnn(tmp_path / "m.onnx")
    backend = create("ort")
    stored = backend.compile(path).artefact()
    optimised = "com.microsoft.nchwc" if IN_BLOCKS else "com.microsoft"
    assert optimised in {node.domain for node in onnx.load_from_string(stored).graph.node}
    loaded = backend.import_artefact(stored, path, CompileOptions(profile=True))
    assert loaded.properties["graph_optimization_level"] == "ORT_DISABLE_ALL"
    loaded.run(image())
    layers = loaded.layers()
    assert [layer.kind.removeprefix("NCHWc ") for layer in layers] == [
        node.op_type for node in onnx.load_from_string(stored).graph.node
    ]
    assert all(layer.time_ns is not None for layer in layers), "the executed nodes are those of the stored graph"


def test_the_profile_tells_the_weights_and_the_arena_apart(tmp_path):
    weight = np.ones((512, 512), np.float32)  # 1 MiB
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 512]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [onnx.numpy_helper.from_array(weight, "w")])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    compiled = create("ort").compile(path, CompileOptions(profile=True))
    assert compiled.memory().weights_bytes is None, "nothing is known before a run"
    compiled.run({"x": np.ones((64, 512), np.float32)})
    compiled.layers()
    said = compiled.memory()
    compiled.close()
    assert weight.nbytes <= said.weights_bytes < 1.5 * weight.nbytes
    assert 2 * 64 * 512 * 4 <= said.arena_bytes < 4 << 20
    assert create("ort").compile(path).memory().weights_bytes is None


def test_nodes_without_names_are_timed_one_by_one_and_bodies_with_what_holds_them(tmp_path):
    def branch(name):
        node = helper.make_node("MatMul", ["c", name], [f"{name}_out"])
        return helper.make_graph([node], name, [], [onnx.ValueInfoProto(name=f"{name}_out")])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["is"], to=TensorProto.BOOL),
        helper.make_node("If", ["is"], ["d"], then_branch=branch("v"), else_branch=branch("w")),
        helper.make_node("Mul", ["c", "d"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, weights=[(name, np.ones((3, 3), np.float32)) for name in "wv"])
    compiled = create("ort").compile(path, CompileOptions(profile=True))
    for _ in range(3):
        compiled.run({"x": np.ones((1, 3), np.float32)})
    layers = compiled.layers()
    assert sorted((layer.name, layer.kind) for layer in layers) == [
        ("a", "MatMul"),
        ("b", "MatMul"),
        ("c", "MatMul"),
        ("d", "If"),
        ("is", "Cast"),
        ("sum", "ReduceSum"),
        ("y", "Mul"),
    ]
    assert all(layer.time_ns is not None and layer.nodes == (layer.name,) for layer in layers)


@blocked
def test_a_file_that_onnxruntime_wrote_keeps_its_layers_apart(tmp_path):
    written = tmp_path / "written.onnx"
    written.write_bytes(create("ort").compile(small_cnn(tmp_path / "m.onnx")).artefact())
    layers = create("ort").compile(written).layers()
    assert any(layer.kind.startswith("NCHWc") for layer in layers)
    assert all(layer.nodes == (layer.name,) for layer in layers)


@pytest.mark.parametrize(
    ("name", "precision"), [("bfloat16", "bf16"), ("float8_e4m3fn", "fp32"), ("float8_e5m2", "fp32")]
)
def test_types_that_numpy_lacks_go_in_and_come_out(tmp_path, name, precision):
    kind = np.dtype(getattr(ml_dtypes, name))
    ends = [helper.make_tensor_value_info(end, helper.np_dtype_to_tensor_dtype(kind), (2, 3)) for end in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    x = np.arange(6).reshape(2, 3).astype(kind)
    for answers in (
        create("ort").compile(path, CompileOptions(precision=precision)).run({"x": x}),
        run_unoptimised(path, {"x": x}),
    ):
        assert answers["y"].dtype == kind
        assert np.array_equal(answers["y"], x)
