"""What counts as the right answer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.answers import reference_process
from benchmarks.answers.reference import (
    Reference,
    check,
    compute_references,
    feeds_of,
    nowhere_finite,
    read_reference,
    require_agreement,
    write_reference,
)
from benchmarks.errors import InputError, WorkerError, WrongAnswersError
from benchmarks.subject.inputs import InputSizes


def sizes(batch, **shapes):
    return InputSizes(shapes=shapes, batch=batch, batched=frozenset(name for name, shape in shapes.items() if shape))


def reference(n=5, outputs=None):
    inputs = {"x": np.arange(2 * n, dtype=np.float32).reshape(n, 2)}
    return Reference(inputs=inputs, outputs=outputs or {"y": 10 * inputs["x"]}, source="by hand")


def answering(error=0.0, at=None):
    calls = []

    def run(feeds):
        calls.append(feeds["x"].copy())
        answer = 10 * feeds["x"]
        if at is not None:
            answer = np.where(feeds["x"] == at, answer + error, answer).astype(np.float32)
        return {"y": answer}

    run.calls = calls
    return run


def test_a_reference_survives_the_disk(tmp_path):
    path = tmp_path / "reference.npz"
    write_reference(path, reference())
    again = read_reference(path)
    assert again.source == "by hand"
    assert np.array_equal(again.inputs["x"], reference().inputs["x"])
    assert np.array_equal(again.outputs["y"], reference().outputs["y"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["reference.npz"]


def test_bfloat16_keeps_its_type_on_the_disk(tmp_path):
    import ml_dtypes

    values = {"x": np.arange(4).astype(ml_dtypes.bfloat16)}
    write_reference(tmp_path / "r.npz", Reference(inputs=values, outputs=values, source=""))
    assert read_reference(tmp_path / "r.npz").inputs["x"].dtype == ml_dtypes.bfloat16


def test_files_that_are_no_reference_are_one_line(tmp_path):
    path = tmp_path / "r.npz"
    with pytest.raises(InputError, match="no such file"):
        read_reference(path)
    path.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="not a readable reference"):
        read_reference(path)
    np.savez(path, other=np.ones(2))
    with pytest.raises(InputError, match="is not a reference"):
        read_reference(path)
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    with pytest.raises(InputError, match="single array"):
        read_reference(path)
    np.savez(path, **{"input:x": np.array([object()], dtype=object)})
    with pytest.raises(InputError, match="not a readable reference"):
        read_reference(path)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_every_example_is_compared_in_calls_of_the_timed_size(batch):
    run = answering()
    agreement = check(run, reference(), sizes(batch, x=(batch, 2)), precision="fp32")
    assert agreement.ok
    assert (agreement.n_inputs, agreement.max_abs_error, agreement.output_range) == (5, 0.0, 90.0)
    assert {len(call) for call in run.calls} == {batch}
    assert np.array_equal(np.unique(np.concatenate(run.calls)), np.arange(10))


@pytest.mark.parametrize("at", [0.0, 9.0])
@pytest.mark.parametrize(
    ("share", "precision", "ok"),
    [(9e-5, "fp32", True), (2e-4, "fp32", False), (9e-3, "fp16", True), (4e-2, "bf16", True), (6e-2, "bf16", False)],
)
def test_the_error_is_judged_by_the_range_of_the_output(at, share, precision, ok):
    agreement = check(answering(90 * share, at), reference(), sizes(2, x=(2, 2)), precision=precision)
    assert agreement.max_abs_error == pytest.approx(90 * share, rel=1e-3)
    assert agreement.ok is ok
    if not ok:
        with pytest.raises(WrongAnswersError, match="max abs error"):
            require_agreement(agreement)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_agrees_with_itself_only(value):
    agreement = check(answering(value, 3.0), reference(), sizes(5, x=(5, 2)), precision="fp32")
    assert (agreement.ok, agreement.max_abs_error) == (False, np.inf)
    with pytest.raises(WrongAnswersError, match="some are not finite where the reference is"):
        require_agreement(agreement)
    wanted = reference().outputs["y"].copy()
    wanted[1, 1] = value  # 10 times the input 3
    given = reference(outputs={"y": wanted})
    agreement = check(answering(value, 3.0), given, sizes(5, x=(5, 2)), precision="fp32")
    assert (agreement.ok, agreement.max_abs_error, agreement.output_range) == (True, 0.0, 90.0)
    assert not check(answering(), given, sizes(5, x=(5, 2)), precision="fp32").ok
    assert not check(answering(-value, 3.0), given, sizes(5, x=(5, 2)), precision="fp32").ok or np.isnan(value)


@pytest.mark.parametrize("value", [3.0, 0.0, np.nan, np.inf, 1e-42])
def test_a_single_number_is_an_answer(value):
    given = Reference(inputs={}, outputs={"y": np.array(value, np.float32)}, source="")
    assert check(lambda _: given.outputs, given, sizes(1), precision="fp32").ok
    off = check(lambda _: {"y": np.array(5.0, np.float32)}, given, sizes(1), precision="fp32")
    assert not off.ok
    if value == 1e-42:
        assert check(lambda _: {"y": np.array(0.0, np.float32)}, given, sizes(1), precision="fp32").ok, "a denormal"


def test_an_output_that_hardly_varies_is_judged_by_its_magnitude():
    """A detector whose scores all lie near one half: the last bits differ, and a real difference is still seen."""
    flat = np.float32(0.5) + np.linspace(0, 4e-5, 10, dtype=np.float32).reshape(5, 2)
    given = reference(outputs={"y": flat})
    for error, ok in ((1.5e-7, True), (1e-5, False)):
        agreement = check(lambda _, e=error: {"y": flat + np.float32(e)}, given, sizes(5, x=(5, 2)), precision="fp32")
        assert agreement.ok is ok


def test_the_least_agreeing_output_decides():
    inputs = {"x": np.zeros((1, 2), np.float32)}
    outputs = {"big": np.array([[0, 1e6]], np.float32), "small": np.array([[0, 1e-3]], np.float32)}
    given = Reference(inputs=inputs, outputs=outputs, source="")
    answers = {"big": outputs["big"] + 10, "small": outputs["small"] + np.float32(1e-4)}
    agreement = check(lambda feeds: answers, given, sizes(1, x=(1, 2)), precision="fp32")
    assert (agreement.ok, agreement.output_range) == (False, pytest.approx(1e-3))


@pytest.mark.parametrize(("constant", "span"), [(4.0, 4.0), (0.0, 1.0)])
def test_a_constant_output_is_judged_by_its_magnitude(constant, span):
    given = reference(outputs={"y": np.full((5, 2), constant, np.float32)})
    agreement = check(
        lambda feeds: {"y": np.full((5, 2), constant, np.float32)}, given, sizes(5, x=(5, 2)), precision="fp32"
    )
    assert (agreement.ok, agreement.output_range) == (True, span)


def test_missing_and_misshapen_outputs_are_wrong():
    for answers, message in (
        ({}, "no output 'y'"),
        ({"y": np.zeros((5, 3))}, r"shape \(5, 3\), the reference \(5, 2\)"),
    ):
        with pytest.raises(WrongAnswersError, match=message):
            check(lambda feeds, answers=answers: answers, reference(), sizes(5, x=(5, 2)), precision="fp32")


def test_a_reference_of_another_model_is_refused():
    with pytest.raises(InputError, match="no input 'z'; it has 'x'"):
        feeds_of(reference(), sizes(1, z=(1, 2)))
    with pytest.raises(InputError, match=r"shape \(5, 2\), the model wants \(1, 3\)"):
        feeds_of(reference(), sizes(1, x=(1, 3)))
    whole = reference(outputs={"y": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match="only be compared with batch 5"):
        check(answering(), whole, sizes(1, x=(1, 2)), precision="fp32")


def test_feeds_are_the_first_examples_again_and_again():
    assert feeds_of(reference(2), sizes(3, x=(3, 2)))["x"].tolist() == [[0, 1], [2, 3], [0, 1]]


def test_a_bare_file_gets_its_reference_from_a_plain_session(conv_model):
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    (found,) = compute_references(conv_model, [feeds])
    assert found.source == "ONNX Runtime, graph optimisations off"
    assert found.outputs["y"].shape == (2, 5)
    assert np.ptp(found.outputs["y"]) > 0


def test_what_the_plain_session_refuses_is_one_line(save_model, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_process, "RUNTIMES", {"ort": "ONNX Runtime", "onnx": "evaluator"})
    path = save_model(
        tmp_path / "odd.onnx",
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="odd")],
        [("x", TensorProto.FLOAT, [1])],
        [("y", TensorProto.FLOAT, [1])],
        domains=["odd"],
    )
    with pytest.raises(WorkerError, match="Frobnicate") as caught:
        compute_references(path, [{"x": np.zeros(1, np.float32)}])
    assert caught.value.kind == "ModelLoadError"
    assert "\n" not in str(caught.value)


def test_answers_that_are_not_finite_are_a_reference(save_model, tmp_path):
    path = save_model(
        tmp_path / "log.onnx",
        [helper.make_node("Log", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [2])],
        [("y", TensorProto.FLOAT, [2])],
    )
    (found,) = compute_references(path, [{"x": np.array([-1, 0], np.float32)}])
    assert np.isnan(found.outputs["y"][0])
    assert found.outputs["y"][1] == -np.inf
    assert nowhere_finite(found) == ["y"]


def test_a_model_too_new_for_onnxruntime_has_another_s_answers(save_model, weight, tmp_path):
    path = save_model(
        tmp_path / "new.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [1, 4])],
        [("y", TensorProto.FLOAT, [1, 3])],
        [weight("w", 4, 3)],
    )
    model = onnx.load(path)
    model.ir_version = 1000
    path.write_bytes(model.SerializeToString())
    (found,) = compute_references(path, [{"x": np.ones((1, 4), np.float32)}], measured="openvino")
    assert found.source == "ONNX's reference evaluator, because ONNX Runtime does not take the model or the inputs"
    assert np.allclose(found.outputs["y"], onnx.numpy_helper.to_array(model.graph.initializer[0]).sum(0))


def test_a_reference_without_inputs_survives_the_disk(tmp_path):
    given = Reference(inputs={}, outputs={"y": np.ones(3, np.float32)}, source="")
    write_reference(tmp_path / "r.npz", given)
    assert read_reference(tmp_path / "r.npz").inputs == {}
    assert check(lambda _: given.outputs, given, sizes(1), precision="fp32").ok
