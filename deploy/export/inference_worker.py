"""The process in which one ONNX file is compiled and answers: ``python -m deploy.export.inference_worker``.

It speaks with `deploy.export.inference` through its standard input and output: lines of JSON, followed by the bytes
of arrays. It ends when its input does, so it never outlives the process that started it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from backends.base import Array, CompileOptions
from backends.errors import BackendError
from backends.registry import create

__all__ = ["main", "receive", "send"]


def send(stream: IO[bytes], message: dict[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Write one message and its arrays."""
    whole = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    headers = [(name, array.dtype.name, array.shape) for name, array in whole.items()]
    stream.write(json.dumps({**message, "arrays": headers}).encode() + b"\n")
    for array in whole.values():
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Read one message and its arrays; None when the other side has closed."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    arrays: dict[str, Array] = {}
    for name, dtype, shape in message.pop("arrays"):
        kind = np.dtype(dtype)
        data = stream.read(math.prod(shape) * kind.itemsize)
        if len(data) < math.prod(shape) * kind.itemsize:
            return None
        arrays[name] = np.frombuffer(data, kind).reshape(shape)
    return message, arrays


def main() -> None:
    """Compile what the first message says, then answer until the input ends."""
    # What a runtime prints must not mix with the answers: they go through a descriptor of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    questions = sys.stdin.buffer
    if (first := receive(questions)) is None:
        return
    job = first[0]
    try:
        compiled = create(job["backend"]).compile(Path(job["model"]), CompileOptions(**job["options"]))
        with closing(compiled):
            specs = {side: [asdict(spec) for spec in getattr(compiled, side)] for side in ("inputs", "outputs")}
            send(answers, specs)
            while (question := receive(questions)) is not None:
                send(answers, {}, compiled.run(question[1]))
    except BackendError as error:
        send(answers, {"error": str(error), "kind": type(error).__name__})


if __name__ == "__main__":
    main()
