"""Any ONNX file works or is refused in one line: the models of the onnx wheel, and models made to be awkward."""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends import modelfile
from backends.errors import BackendError
from backends.ort import OrtBackend
from backends.registry import create
from benchmarks.answers.reference import Reference, check, feeds_of, read_reference, write_reference
from benchmarks.answers.reference_process import run_unoptimised
from benchmarks.errors import BenchmarkError
from benchmarks.process.warmup import WarmUpLimits
from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.subject.cost import cost
from benchmarks.subject.given import GivenInputs, call_inputs
from benchmarks.subject.inputs import ModelSpecs, example_inputs, index_bounds, model_specs, resolve_sizes

ROOT = Path(__file__).parents[2]
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted((DATA / "light").glob("light_*.onnx"))
FLOAT = TensorProto.FLOAT
QUICK = Settings(trials=1, rounds=3, block_ns=1_000_000, warm_up=WarmUpLimits(min_ns=0, max_ns=10_000_000))
# MACs of one example as published, give or take what is counted (the papers round, and leave small layers out).
PUBLISHED_MACS = {
    "light_bvlc_alexnet": 0.72e9,
    "light_densenet121": 2.8e9,
    "light_inception_v1": 1.6e9,
    "light_inception_v2": 2.0e9,
    "light_resnet50": 3.9e9,
    "light_shufflenet": 0.14e9,
    "light_squeezenet": 0.35e9,
    "light_vgg19": 19.6e9,
    "light_zfnet512": 1.6e9,
}


def whole_path(path, *, shapes=None, batch=None, given=None):
    """Do in this process what a measurement does: describe, count, make inputs, answer as written, compile, answer."""
    specs = model_specs(path)
    sizes = resolve_sizes(
        specs, shapes={**(shapes or {}), **(given.shapes(specs.inputs) if given else {})}, batch=batch
    )
    feeds = call_inputs(path, sizes, given=given)[0]
    wanted = run_unoptimised(path, feeds)
    compiled = OrtBackend().compile(path)
    call = compiled.bind(feeds)
    call()
    answers = call.outputs()
    compiled.close()
    assert answers.keys() == wanted.keys()
    for name in wanted:
        assert answers[name].shape == wanted[name].shape
    return answers


def refusal(step, *arguments):
    """Give the line that refuses; None where it works. Anything but our own errors is a bug."""
    try:
        step(*arguments)
    except (BackendError, BenchmarkError) as error:
        line = str(error)
        assert line
        assert "\n" not in line
        return line
    return None


def test_the_wheel_still_ships_its_light_models():
    assert {path.stem for path in LIGHT} >= PUBLISHED_MACS.keys()


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_every_light_model_runs_on_ort_and_costs_what_was_published(path):
    answers = whole_path(path)
    assert all(np.isfinite(array).all() for array in answers.values())
    if path.stem in PUBLISHED_MACS:
        assert cost(path).macs == pytest.approx(PUBLISHED_MACS[path.stem], rel=0.15)


def test_a_light_model_is_measured_end_to_end():
    path = DATA / "light" / "light_squeezenet.onnx"
    measurement = measure(SubjectSpec(model=path, backend="ort"), settings=QUICK)
    assert measurement.failure is None, measurement.failure
    assert measurement.agreement.ok
    assert len(measurement.trials) == 1


def node_models():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own generators divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        cases = [(case.name, case.model.SerializeToString()) for case in collect_testcases(None)]
    return cases + [(path.parent.name, path.read_bytes()) for path in sorted(DATA.glob("*/*/model.onnx"))]


def sweep(models, path):
    """Try all models; give how many were counted and how many answered."""
    counted = answered = 0
    for name, model in models:
        path.write_bytes(model)
        try:
            counted += refusal(cost, path) is None
            answered += refusal(whole_path, path) is None
        except BaseException as error:
            error.add_note(f"model: {name}")
            raise
    return counted / len(models), answered / len(models)


def test_models_of_single_operators_work_or_are_refused_in_one_line(tmp_path):
    counted, answered = sweep(node_models()[::32], tmp_path / "m.onnx")
    # The others: types and precisions that are not measured, operators this runtime lacks, inputs nobody can make up.
    assert counted > 0.85
    assert answered > 0.55


@pytest.mark.slow
def test_all_models_of_the_wheel_work_or_are_refused_in_one_line(tmp_path):
    counted, answered = sweep(node_models(), tmp_path / "m.onnx")
    assert counted > 0.9
    assert answered > 0.6


def softmax_model(save_model, weight, path, opset):
    """Write layers that every opset since 7 has."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "d"], ["g"], name="fc"),
        helper.make_node("Softmax", ["g"], ["y"], name="softmax"),
    ]
    ones = numpy_helper.from_array(np.ones(4, np.float32), "s")
    held = [weight("w", 4, 3, 3, 3), ones, weight("v", 16, 5), weight("d", 5)]
    save_model(path, nodes, [("x", FLOAT, ["N", 3, 4, 4])], [("y", FLOAT, ["N", 5])], held, opset=opset)
    if opset < 9:  # files of that time list their weights among the inputs
        model = onnx.load(path)
        model.ir_version = 3
        model.graph.input.extend(helper.make_tensor_value_info(each.name, FLOAT, each.dims) for each in held)
        onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_since_7_works_or_the_runtime_says_that_it_is_too_new(save_model, weight, tmp_path, opset):
    path = softmax_model(save_model, weight, tmp_path / "m.onnx", opset)
    assert [spec.name for spec in model_specs(path).inputs] == ["x"]
    assert cost(path).macs == 4 * 4 * 27 + 16 * 5
    line = refusal(whole_path, path)
    assert line is None or (opset > 25 and "opset" in line.lower()), line


def test_an_opset_of_the_future_is_one_line(save_model, weight, tmp_path):
    path = softmax_model(save_model, weight, tmp_path / "m.onnx", 20)
    model = onnx.load(path)
    model.opset_import[0].version = 999
    onnx.save(model, path)
    assert "opset" in refusal(whole_path, path).lower()
    refusal(cost, path)


def test_shapes_given_on_the_command_line_decide_dynamic_axes(save_model, tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Relu", ["input"], ["y"])],
        [("input", FLOAT, ["b", "c", "h", "w"])],
        [("y", FLOAT, ["b", "c", "h", "w"])],
    )
    assert whole_path(path, shapes={"input": (1, 3, 224, 224)})["y"].shape == (1, 3, 224, 224)
    assert "--shape input=1,?,?,?" in refusal(whole_path, path)


INPUTS = {
    "scalar": ((), FLOAT),
    "whole scalar": ((), TensorProto.INT64),
    "none": ((0, 3), FLOAT),
    "int64": ((2, 3), TensorProto.INT64),
    "int8": ((2, 3), TensorProto.INT8),
    "uint8": ((2, 3), TensorProto.UINT8),
    "bool": ((2, 3), TensorProto.BOOL),
    "uint64": ((2, 3), TensorProto.UINT64),
}
ODD_INPUTS = {
    "text": ((2, 3), TensorProto.STRING),
    "half": ((2, 3), TensorProto.FLOAT16),
    "brain": ((2, 3), TensorProto.BFLOAT16),
    "complex": ((2, 3), TensorProto.COMPLEX64),
    "int4": ((2, 3), TensorProto.INT4),
    "float8": ((2, 3), TensorProto.FLOAT8E4M3FN),
    "double": ((2, 3), TensorProto.DOUBLE),
}


def identity_model(save_model, path, *values):
    """Write a model that hands its inputs through."""
    nodes = [helper.make_node("Identity", [f"x{index}"], [f"y{index}"]) for index in range(len(values))]
    ends = [[(f"{end}{index}", kind, shape) for index, (shape, kind) in enumerate(values)] for end in "xy"]
    return save_model(path, nodes, *ends, opset=21)


def test_several_inputs_of_several_types_work(save_model, tmp_path):
    path = identity_model(save_model, tmp_path / "m.onnx", *INPUTS.values())
    specs = model_specs(path)
    feeds = example_inputs(specs.inputs)
    answers = whole_path(path)
    for index in range(len(INPUTS)):
        assert np.array_equal(answers[f"y{index}"], feeds[f"x{index}"])
    assert cost(path).macs == 0


@pytest.mark.parametrize("kind", ODD_INPUTS)
def test_odd_types_work_or_are_refused_in_one_line(save_model, tmp_path, kind):
    path = identity_model(save_model, tmp_path / "m.onnx", ODD_INPUTS[kind])
    refusal(cost, path)
    refusal(whole_path, path)


def passed_on(path, kind, shape=(2, 3)):
    """Write a model that hands on what is no tensor."""
    held = helper.make_tensor_type_proto(FLOAT, shape)
    info = onnx.ValueInfoProto(
        name="x",
        type={
            "sequence": helper.make_sequence_type_proto,
            "optional": helper.make_optional_type_proto,
            "map": lambda value: helper.make_map_type_proto(TensorProto.INT64, value),
        }[kind](held),
    )
    out = onnx.ValueInfoProto(name="y", type=info.type)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [info], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_sequences_are_fed_and_compared_element_by_element(tmp_path):
    path = passed_on(tmp_path / "m.onnx", "sequence")
    answers = whole_path(path)
    assert [answers[name].shape for name in ("y", "y[0]", "y[1]")] == [(), (2, 3), (2, 3)]
    given = GivenInputs(arrays={f"x[{index}]": np.full((2, 3), index, np.float32) for index in range(3)})
    answers = whole_path(path, given=given)
    assert [answers[f"y[{index}]"].max() for index in range(3)] == [0, 1, 2]
    assert answers["y"] == 3
    wanted = Reference(inputs=given.arrays, outputs=answers, source="me")
    sizes = resolve_sizes(model_specs(path), shapes=given.shapes(model_specs(path).inputs))
    fewer = {name: array for name, array in answers.items() if name != "y[2]"}
    assert "there is no output 'y[2]'" in refusal(lambda: check(lambda _: fewer, wanted, sizes, precision="fp32"))
    assert not check(lambda _: answers | {"y": np.array(4)}, wanted, sizes, precision="fp32").ok


def test_sequences_of_unknown_shape_are_empty_unless_they_are_given(tmp_path):
    path = passed_on(tmp_path / "m.onnx", "sequence", None)
    assert whole_path(path)["y"] == 0
    given = GivenInputs(arrays={"x[0]": np.ones((2, 3), np.float32), "x[1]": np.ones(5, np.float32)})
    assert whole_path(path, given=given)["y[1]"].shape == (5,)


def test_what_is_optional_is_left_out_unless_it_is_given(tmp_path):
    path = passed_on(tmp_path / "m.onnx", "optional")
    assert whole_path(path)["y"].size == 0
    assert whole_path(path, given=GivenInputs(arrays={"x": np.ones((2, 3), np.float32)}))["y"].shape == (2, 3)


def test_a_sequence_is_measured_end_to_end_and_refused_in_one_line_elsewhere(tmp_path):
    path = passed_on(tmp_path / "m.onnx", "sequence")
    measurement = measure(SubjectSpec(model=path, backend="ort"), settings=QUICK)
    assert measurement.failure is None, measurement.failure
    assert measurement.agreement.ok
    assert "'x' is not a tensor (sequence of float32(2, 3))" in refusal(create("openvino").compile, path)


def test_maps_are_read_but_not_fed(save_model, tmp_path):
    """What scikit-learn's classifiers give: a sequence of maps from labels to probabilities."""
    assert "'x' is not a tensor" in refusal(model_specs, passed_on(tmp_path / "m.onnx", "map"))
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])
    path = save_model(tmp_path / "z.onnx", [node], [("x", FLOAT, (2, 2))], [("y", FLOAT, ())], domains=["ai.onnx.ml"])
    model = onnx.load(path)
    probabilities = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, ()))
    model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(probabilities))
    onnx.save(model, path)
    answers = whole_path(path)
    assert answers["y"] == 2
    assert answers["y[0].keys"].tolist() == ["cat", "dog"]
    assert answers["y[1].values"].shape == (2,)


def test_an_input_without_a_shape_is_asked_for_it(save_model, tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"])
    path = save_model(tmp_path / "m.onnx", [node], [("x", FLOAT, None)], [("y", FLOAT, None)])
    assert "--shape x=?" in refusal(whole_path, path)
    assert whole_path(path, shapes={"x": (2, 3, 4)})["y"].shape == (2, 3, 4)
    assert cost(path, shapes={"x": (2, 3, 4)}).activation_bytes == 4 * 2 * 3 * 4


def test_texts_keep_their_value_in_a_reference_and_are_compared_exactly(tmp_path):
    texts = np.array([["a", ""], ["na\u00efve", "b"]], object)
    brains = np.ones(2, ml_dtypes.bfloat16)
    write_reference(tmp_path / "r.npz", Reference(inputs={"x": texts}, outputs={"y": texts, "b": brains}, source="me"))
    reference = read_reference(tmp_path / "r.npz")
    assert reference.inputs["x"].dtype == object
    assert np.array_equal(reference.inputs["x"], texts)
    assert reference.outputs["b"].dtype == ml_dtypes.bfloat16
    specs = (modelfile.TensorSpec(name="x", shape=("batch", 2), dtype="object"),)
    sizes = resolve_sizes(ModelSpecs(specs, ()), batch=2)
    assert feeds_of(reference, sizes)["x"].tolist() == texts.tolist()
    agreement = check(lambda feeds: {"y": feeds["x"], "b": brains}, reference, sizes, precision="fp32")
    assert agreement.ok
    other = texts.copy()
    other[1, 1] = "c"
    line = refusal(lambda: check(lambda _: {"y": other, "b": brains}, reference, sizes, precision="fp32"))
    assert line == "wrong answers: 1 of the 4 texts of output 'y' differ"


def test_made_up_texts_are_the_same_for_the_same_seed():
    spec = modelfile.TensorSpec(name="x", shape=(5, 4), dtype="object")
    first, again = (example_inputs((spec,), seed=3)["x"] for _ in range(2))
    assert np.array_equal(first, again)
    assert len(set(first.ravel())) > 1
    assert {type(text) for text in first.ravel()} == {str}
    alone = example_inputs((modelfile.TensorSpec(name="x", shape=(), dtype="object"),))["x"]
    assert (alone.shape, alone.dtype) == ((), np.dtype(object))


def test_control_flow_runs_and_is_counted_where_the_file_fixes_it(save_model, weight, tmp_path):
    def branch(name):
        out = helper.make_tensor_value_info(f"{name}_out", FLOAT, None)
        return helper.make_graph([helper.make_node("MatMul", ["x", name], [f"{name}_out"])], name, [], [out])

    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("w"), else_branch=branch("v"))
    given = [("x", FLOAT, ["batch", 4]), ("c", TensorProto.BOOL, ())]
    held = [weight("w", 4, 3), weight("v", 4, 3)]
    path = save_model(tmp_path / "m.onnx", [node], given, [("y", FLOAT, ["batch", 3])], held)
    assert whole_path(path, batch=5)["y"].shape == (5, 3)
    assert cost(path).macs == 12


def test_quantised_models_are_counted_and_refused_or_run(save_model, tmp_path):
    held = [numpy_helper.from_array(np.ones((8, 3), np.int8), "w")]
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    given, out = [("x", TensorProto.INT8, (1, 8))], [("y", TensorProto.INT32, (1, 3))]
    path = save_model(tmp_path / "m.onnx", [node], given, out, held)
    assert cost(path).macs == 24
    line = refusal(whole_path, path)
    assert line is None or "quantised" in line


def test_indices_stay_inside_the_axis_they_choose_from(save_model, weight, tmp_path):
    nodes = [
        helper.make_node("Gather", ["x", "i"], ["a"], axis=-1),
        helper.make_node("GatherND", ["table", "j"], ["b"]),
        helper.make_node("Slice", ["k", "zero", "one"], ["k1"]),
        helper.make_node("GatherElements", ["table", "k1"], ["c"], axis=1),
    ]
    whole = TensorProto.INT64
    given = [("x", FLOAT, (1, 40)), ("i", whole, (50,)), ("j", whole, (50, 2)), ("k", whole, (2, 9))]
    outs = [("a", FLOAT, (1, 50)), ("b", FLOAT, (50,)), ("c", FLOAT, (1, 9))]
    held = [weight("table", 1, 30)]
    held += [numpy_helper.from_array(np.array([number]), name) for number, name in enumerate(["zero", "one"])]
    path = save_model(tmp_path / "m.onnx", nodes, given, outs, held)
    assert index_bounds(path) == {"i": 40, "j": 1, "k": 30}
    whole_path(path)


def test_answers_that_are_not_finite_are_compared_as_such(save_model, tmp_path):
    path = save_model(
        tmp_path / "m.onnx", [helper.make_node("Log", ["x"], ["y"])], [("x", FLOAT, (50,))], [("y", FLOAT, (50,))]
    )
    whole_path(path)


@pytest.mark.parametrize(
    "backend",
    [
        "ort",
        "openvino",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("torch", "torch-compile")),
        "trt",
        "null",
    ],
)
def test_text_works_on_ort_and_is_refused_in_one_line_elsewhere(save_model, tmp_path, backend):
    path = identity_model(save_model, tmp_path / "m.onnx", ODD_INPUTS["text"], ((2, 3), FLOAT))
    measurement = measure(SubjectSpec(model=path, backend=backend), settings=QUICK)
    if backend == "ort":
        assert measurement.failure is None, measurement.failure
        assert measurement.agreement.ok
    else:
        assert measurement.failure_kind in {"ModelLoadError", "BackendUnavailableError"}
        assert "\n" not in measurement.failure
