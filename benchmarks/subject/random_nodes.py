"""Find the nodes of a model that draw random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backends import modelfile
from backends.modelfile import bodies, constants, node_name

if TYPE_CHECKING:
    import onnx

__all__ = ["random_nodes"]

_DRAWING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_TRAINING = {"Dropout": 2, "BiasDropout": 4, "BitmaskBiasDropout": 4, "BitmaskDropout": 2}
"""Index of the input that enables training mode; without it training mode is off."""


def random_nodes(model: Path) -> tuple[str, ...]:
    """Return the names and operators of the nodes of an ONNX file that draw random numbers.

    Parameters
    ----------
    model : Path
        The file.

    Returns
    -------
    tuple of str
        For example ``"'noise' (RandomNormalLike)"``; a node without a name is named after its output.
    """
    proto = modelfile.read(model).proto
    off = {name for name, tensor in constants(proto) if _is_false(tensor)}
    return tuple(
        f"{node_name(node)!r} ({node.op_type})"
        for graph in bodies(proto)
        for node in graph.node
        if node.op_type in _DRAWING or _is_training(node, off)
    )


def _is_training(node: onnx.NodeProto, off: set[str]) -> bool:
    switch = _TRAINING.get(node.op_type, len(node.input))
    return len(node.input) > switch and bool(node.input[switch]) and node.input[switch] not in off


def _is_false(tensor: onnx.TensorProto) -> bool:
    import onnx

    small = tensor.data_type == onnx.TensorProto.BOOL and tensor.data_location != onnx.TensorProto.EXTERNAL
    return small and not np.any(onnx.numpy_helper.to_array(tensor))
