"""Write ONNX files of any size."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

from backends.modelfile import subgraphs

__all__ = ["EMBEDDED_LIMIT_BYTES", "write_model"]

EMBEDDED_LIMIT_BYTES = 1_900_000_000
"""Weights above this go to external data: a protobuf message is at most 2 GiB."""

_SMALLEST_APART = 1024
"""Bytes of the smallest weight that goes to external data."""
_ALIGNED = 4096
"""Weights begin at a multiple of this: runtimes may compute with them where the file is mapped."""


def write_model(proto: onnx.ModelProto, path: Path, *, apart: bool = False) -> bool:
    """Write a model, with its weights in ``<path>.data`` beside it if they are too large for the file.

    An earlier file of either name is replaced.

    Parameters
    ----------
    proto : ModelProto
        With its weights in memory; those that go to the second file are taken out of it.
    path : Path
        ONNX file.
    apart : bool
        Whether the weights go there in any case.

    Returns
    -------
    bool
        Whether the weights are in the second file.
    """
    weights = [tensor for graph in subgraphs(proto.graph) for tensor in graph.initializer]
    apart = apart or sum(tensor.ByteSize() for tensor in weights) > EMBEDDED_LIMIT_BYTES
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # onnx would append to it
    if apart:
        offset = 0
        for tensor in weights:
            if (length := len(tensor.raw_data)) >= _SMALLEST_APART:
                set_external_data(tensor, data.name, offset=offset, length=length)
                offset += -(-length // _ALIGNED) * _ALIGNED
    onnx.save_model(proto, path)
    return apart
