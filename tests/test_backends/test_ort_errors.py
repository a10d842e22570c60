"""The reason, whole: what ONNX Runtime puts before it and where in its source it was raised are left out."""

from __future__ import annotations

import pytest

from backends.errors import OutOfMemoryError, RunError, one_line
from backends.ort_errors import cause, run_error

LOAD = "[ONNXRuntimeError] : 1 : FAIL : Load model from /a/model.onnx failed:"
MODEL = (
    "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const "
    "onnxruntime::PathString&, const onnxruntime::logging::Logger&, const onnxruntime::ModelOptions&) "
)
OPSET = (
    "/src/model_load_utils.h:46 void onnxruntime::model_load_utils::ValidateOpsetForDomain(const "
    "std::unordered_map<std::__cxx11::basic_string<char>, int>&, bool, int) ONNX Runtime only *guarantees* support for "
    "models stamped with official released onnx opset versions. Opset 99 is under development and support for this is "
    "limited. Current official support for domain ai.onnx is till opset 26."
)
RESHAPE = (
    "Error in execution: Non-zero status code returned while running Reshape node. Name:'flat' Status Message: "
    "/src/reshape_helper.h:91 onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
    "input_shape_size == requested_shape_size was false. Input shape:{4,8}, requested shape:{1,1}"
)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            f"{LOAD}{MODEL}Unsupported model IR version: 14, max supported IR version: 13\n",
            "Unsupported model IR version: 14, max supported IR version: 13; save the file with an older ir_version, "
            "try --backend openvino, or update onnxruntime",
        ),
        (
            f"{LOAD}{OPSET}",
            "Opset 99 is too new: domain ai.onnx is known up to opset 26; export the model with an older opset, or "
            "update onnxruntime",
        ),
        (
            RESHAPE,
            "Reshape node 'flat': input_shape_size == requested_shape_size was false. Input shape:{4,8}, requested "
            "shape:{1,1}",
        ),
        (
            "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Relu(14) node",
            "Could not find an implementation for Relu(14) node; try another backend, or update onnxruntime",
        ),
        (
            f"{LOAD}This is an invalid model. Type Error: Type 'tensor(float)' of input (x) is invalid.",
            "Type Error: Type 'tensor(float)' of input (x) is invalid.",
        ),
        ("out of memory", "out of memory"),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /src/element_wise_ops.h:256 onnxruntime::"
            "Div<T>::Div(const OpKernelInfo&) [with T = int] b_data[i] != T{0} was false. Division by zero",
            "b_data[i] != T{0} was false. Division by zero",
        ),
        (
            f"{LOAD}{MODEL}status.IsOK() was false. [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:2680 "
            "SparseTensorProtoToDenseTensorProto Sparse tensor: s has too many bytes",
            "Sparse tensor: s has too many bytes",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Mel node. Name:'' Status "
            "Message: /src/window_functions.cc:133 onnxruntime::common::Status onnxruntime::Create<T>::operator()("
            "onnxruntime::OpKernelContext*, int64_t) [with T = float; int64_t = long int] low >= 0 was false.",
            "Mel node '': low >= 0 was false.",
        ),
    ],
)
def test_the_reason_is_left(raised, said):
    assert cause(RuntimeError(raised)) == said


def test_memory_that_is_not_there_is_told_from_inputs_that_do_not_fit():
    room = run_error(RuntimeError("Failed to allocate memory for requested buffer of size 1099511627776"), "it")
    assert isinstance(room, OutOfMemoryError)
    assert str(room).endswith("try smaller sizes with --batch or --shape")
    assert type(run_error(RuntimeError(RESHAPE), "it")) is RunError


def test_a_long_reason_keeps_its_end():
    text = one_line(RuntimeError("a " * 400 + "the reason"), limit=100)
    assert len(text) <= 100
    assert text.startswith("a a a")
    assert text.endswith("the reason")
