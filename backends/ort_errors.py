"""ONNX Runtime's exceptions, and the part of their message that gives the cause."""

from __future__ import annotations

import re

from backends.errors import OutOfMemoryError, RunError, one_line, shortened

__all__ = ["cause", "failures", "run_error"]

_BEFORE = re.compile(
    r"^(?:\[ONNXRuntimeError\] : \d+ : \w+ : |Error in execution: )(?:Load model from .*? failed:)?"
    r"(?:This is an invalid model\. |Exception during initialization: )?"
)
_OPSET = re.compile(r".*(Opset \d+) is under development.*for domain (\S+) is till (opset \d+).*")
_RUNNING = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'(.*?)' Status Message: ")
_PLACE = re.compile(
    r"\S*\.(?:cc|h|hpp|cpp):\d+ (?:[^()]*?::(?:operator\(\)|[^()\s]+)\((?:[^()]|\([^()]*\))*\)(?: const)?"
    r"(?: \[with [^\]]*\])?|\w+) (?:\[ONNXRuntimeError\] : \d+ : \w+ : )?"
)
"""File, line and signature of a function that raised the error; the last one precedes the reason."""
_NO_ROOM = re.compile(
    r"Failed to allocate memory|bad_alloc|exceeds the supported maximum of|Tensor storage size overflowed"
)
_REMEDIES = (
    (
        re.compile(r"Unsupported model IR version"),
        "save the file with an older ir_version, try --backend openvino, or update onnxruntime",
    ),
    (
        re.compile(r"^Opset \d+ is too new"),
        "export the model with an older opset, or update onnxruntime",
    ),
    (
        _NO_ROOM,
        "that is more memory than a process gets here: try smaller sizes with --batch or --shape",
    ),
    (
        re.compile(r"is not a registered function/op|Could not find an implementation|No Op registered"),
        "try another backend, or update onnxruntime",
    ),
)


def failures() -> tuple[type[Exception], ...]:
    """List onnxruntime's error classes, which share no base class; some failures are plain `RuntimeError`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (getattr(state, name) for name in dir(state))
    return (RuntimeError, *(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)))


def cause(error: BaseException) -> str:
    """Return why it failed, in one line: the cause without its prefix, plus a remedy if one is known.

    ``[ONNXRuntimeError] : 1 : FAIL : Load model from x failed:/src/model.cc:181 onnxruntime::Model::Model(...) Why``
    becomes ``Why``.
    """
    text = _BEFORE.sub("", one_line(error, limit=10_000), count=1)
    where = _RUNNING.match(text)
    said = text[where.end() :] if where else text
    said = _PLACE.split(said)[-1] or said
    said = _OPSET.sub(r"\1 is too new: domain \2 is known up to \3", said)
    node = f"{where[1]} node {where[2]!r}: " if where else ""
    remedy = next((f"; {remedy}" for pattern, remedy in _REMEDIES if pattern.search(said)), "")
    return f"{node}{shortened(said, 300)}{remedy}"


def run_error(error: BaseException, doing: str) -> RunError:
    """Return the exception to raise for a failed run, with the message ``"DOING: CAUSE"``."""
    kind = OutOfMemoryError if _NO_ROOM.search(str(error)) else RunError
    return kind(f"{doing}: {cause(error)}")
