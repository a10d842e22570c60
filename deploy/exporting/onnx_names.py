"""Readable names in an exported graph: inputs, outputs, the batch axis, and nodes by their torch module."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import onnx

from backends.modelfile import subgraphs

__all__ = ["name_nodes", "name_parameters", "rename_dimension", "rename_values", "strip_metadata"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def name_parameters(model: onnx.ModelProto) -> None:
    """Rename biases that folding added as torch would name them, from ``X.weight_bias`` to ``X.bias``, in place."""
    names = {tensor.name for tensor in model.graph.initializer}
    wanted = {name: f"{name.removesuffix('.weight_bias')}.bias" for name in names if name.endswith(".weight_bias")}
    rename_values(model, {old: new for old, new in wanted.items() if new not in names})


def name_nodes(model: onnx.ModelProto, parameters: Iterable[str]) -> None:
    """Name each node ``<path of its torch module>/<operator>``, numbered if that is not unique.

    The path comes from the layer's weight if it has one (an optimiser that folds two nodes keeps the record of
    either), else from what the exporter recorded.

    Parameters
    ----------
    model : ModelProto
        Changed in place.
    parameters : iterable of str
        Names of the parameters of the torch module.
    """
    owners = {name: name.rpartition(".")[0] for name in parameters}
    taken: Counter[str] = Counter()
    for graph in subgraphs(model.graph):
        for node in graph.node:
            weight = node.input[1] if node.op_type in _WEIGHTED and len(node.input) > 1 else ""
            path = owners.get(weight, _recorded_path(node))
            base = f"{path}/{node.op_type}" if path else node.op_type
            node.name = f"{base}_{taken[base]}" if taken[base] else base
            taken[base] += 1


def _recorded_path(node: onnx.NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes = ast.literal_eval(entry.value)
            modules = [scope for scope in scopes[:-1] if not scope.startswith("_empty_nn_module_stack")]
            return modules[-1] if modules else ""
    return ""


def rename_values(model: onnx.ModelProto, wanted: Mapping[str, str]) -> None:
    """Rename values in place; another value that already has a new name is renamed too.

    Parameters
    ----------
    model : ModelProto
        Changed in place.
    wanted : Mapping of str to str
        Old name to new name; new names must be unique.
    """
    names = dict(wanted)
    present = {name for graph in subgraphs(model.graph) for name in _value_names(graph)}
    for name in set(wanted.values()) & (present - wanted.keys()):
        number = next(i for i in range(1, len(present) + 2) if f"{name}_{i}" not in present)
        names[name] = f"{name}_{number}"
    for graph in subgraphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = names.get(value.name, value.name)
        for node in graph.node:
            _replace(node.input, names)
            _replace(node.output, names)


def _replace(values: Sequence[str], names: Mapping[str, str]) -> None:
    for index, name in enumerate(values):
        values[index] = names.get(name, name)  # type: ignore[index]


def _value_names(graph: onnx.GraphProto) -> set[str]:
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    return names | {name for node in graph.node for name in node.output}


def rename_dimension(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a free dimension in place, including inside expressions such as ``4*s77``."""
    word = re.compile(rf"\b{re.escape(old)}\b")
    for graph in subgraphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param"):
                    dim.dim_param = word.sub(new, dim.dim_param)


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove the exporter's metadata: its stack traces name files of this machine and make the file larger."""
    del model.metadata_props[:]
    for graph in subgraphs(model.graph):
        del graph.metadata_props[:]
        for value in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            del value.metadata_props[:]
            value.ClearField("doc_string")
