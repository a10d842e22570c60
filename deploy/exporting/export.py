"""Export a torch module as an ONNX file: capture, translate, fold, name, check, and write it atomically."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import nn

from backends import modelfile
from benchmarks.records.disk import file_sha256
from benchmarks.subject.model_writer import write_model
from deploy.errors import ExportError
from deploy.exporting.capture import argument_names, batched_inputs, copy_for_export, output_keys, translate
from deploy.exporting.drop_empty_scatter import drop_empty_writes
from deploy.exporting.export_info import DEFAULT_OPSET, ExportInfo, require_opset
from deploy.exporting.fold_batch_norm import batch_norms, fold_batch_norms
from deploy.exporting.fold_constants import fold_large_constants
from deploy.exporting.onnx_check import check_onnx, model_files, opset_of
from deploy.exporting.onnx_names import name_nodes, name_parameters, rename_dimension, rename_values, strip_metadata
from deploy.exporting.split_sizes import write_split_sizes
from deploy.files.atomic import output_errors, staged_folder, sync

__all__ = ["BATCH", "export_onnx"]

BATCH = "batch"
"""Name of the free dimension."""


def export_onnx(
    model: nn.Module,
    example_inputs: Any,
    path: str | PathLike[str],
    *,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    external_data: bool = False,
) -> ExportInfo:
    """Write `model` as a checked ONNX file.

    A copy in evaluation mode, on the CPU, is exported; `model` itself is not changed. Each BatchNorm that is the only
    consumer of a convolution or linear layer is folded into its weights; the others stay and are listed.

    Parameters
    ----------
    model : nn.Module
        Hooks that take part in its computation (weight norm, ``torch.nn.utils.prune``) are exported with it.
    example_inputs : Tensor, tuple, list, Mapping, (tuple, Mapping) or NetworkCall
        Arguments of ``forward``: one tensor, those by position, those by keyword, or both, in tuples, lists, mappings
        and dataclasses. Anything that is not a tensor is baked in. With `dynamic_batch`, axis 0 of the first tensor
        that has axes is the batch, and so is axis 0 of every tensor that has the same size there.
    path : str or path
        Replaced only when the new file is complete and valid.
    opset : int, default=20
        Version of the ONNX operator set, 18 to 23.
    dynamic_batch : bool, default=True
        Leave the batch dimension free, under the name ``"batch"``; otherwise that of `example_inputs` is baked in.
    input_names : sequence of str, optional
        Defaults to the argument names of ``forward``, followed by keys and positions for a nested tensor
        (``"states.h.0"``).
    output_names : sequence of str, optional
        In the order of the outputs inside tuples, mappings and dataclasses. Defaults to the keys, or ``"output"``, or
        ``"output_0"`` and so on.
    external_data : bool, default=False
        Keep the weights in ``<path>.data`` beside the file. Weights of more than 1.9 GB always go there.

    Returns
    -------
    ExportInfo
        With ``sha256`` and ``file_bytes`` over the ONNX file followed by its external data.

    Raises
    ------
    ExportError
        One line with the reason: the network does not accept the example, cannot be captured or translated, cannot
        be exported with a free batch dimension (if a fixed one works, the message suggests it), or `opset` or the
        names do not fit.
    OutputError
        The file cannot be written.
    """
    require_opset(opset)
    path = Path(path)
    name = type(model).__name__
    network, call = copy_for_export(model, example_inputs)
    if dynamic_batch and not batched_inputs(call.tensors):
        raise ExportError(f"{name} takes only scalars, which have no batch axis; export it with dynamic_batch=False")
    keys = output_keys(network, call)
    _check_names(name, "input", input_names, len(call.tensors))
    _check_names(name, "output", output_names, len(keys))
    translation = translate(network, call, opset=opset, dynamic_batch=dynamic_batch)
    fold_large_constants(translation.model)
    drop_empty_writes(translation.model)
    write_split_sizes(translation.model)
    fold_batch_norms(translation.model)
    proto = ir.to_proto(translation.model)
    if (written := opset_of(proto)) != opset:
        raise ExportError(f"{name} cannot be converted to opset {opset}; choose {written}")

    name_parameters(proto)
    name_nodes(proto, [key for key, _ in network.named_parameters(remove_duplicate=False)])
    _name_interface(proto, name, input_names or argument_names(network, call), output_names, keys)
    if dynamic_batch:
        _name_batch(proto, batched_inputs(call.tensors)[0], name)
    strip_metadata(proto)
    left = batch_norms(proto)
    apart, sha256, file_bytes = _write(proto, path, apart=external_data)
    file = modelfile.read(path)
    return ExportInfo(
        opset=opset,
        ir_version=file.proto.ir_version,
        torch_version=version("torch"),
        onnxscript_version=version("onnxscript"),
        onnx_version=version("onnx"),
        dynamic_batch=dynamic_batch,
        inputs=file.inputs,
        outputs=file.outputs,
        n_nodes=len(file.proto.graph.node),
        batch_norms_folded=translation.n_batch_norms - len(left),
        batch_norms_left=left,
        external_data=apart,
        file_bytes=file_bytes,
        sha256=sha256,
    )


def _check_names(network: str, kind: str, names: Sequence[str] | None, n: int) -> None:
    if names is None:
        return
    if len(names) != n:
        raise ExportError(f"{network} has {n} {kind}{'s' if n > 1 else ''}, got {len(names)} {kind} names")
    if len(set(names)) != len(names) or not all(names):
        raise ExportError(f"{kind} names must differ and not be empty, got {', '.join(map(repr, names))}")


def _name_interface(
    proto: onnx.ModelProto,
    network: str,
    inputs: Sequence[str],
    output_names: Sequence[str] | None,
    keys: Sequence[str],
) -> None:
    if output_names is None:
        outputs: list[str] = []
        for key in keys:
            free = key
            while free in inputs or free in outputs:
                free += "_out"
            outputs.append(free)
    elif clash := sorted(set(inputs) & set(output_names)):
        raise ExportError(f"{network}: {clash[0]!r} names an input and an output; choose another output name")
    else:
        outputs = list(output_names)
    values = [value.name for value in (*proto.graph.input, *proto.graph.output)]
    if len(values) != len(inputs) + len(outputs) or len(set(values)) != len(values):
        raise ExportError(
            f"{network} was given {len(inputs)} inputs and returned {len(outputs)} outputs, but its graph has "
            f"{len(proto.graph.input)} and {len(proto.graph.output)}; export it with tensors alone"
        )
    rename_values(proto, dict(zip(values, (*inputs, *outputs), strict=True)))


def _name_batch(proto: onnx.ModelProto, first: int, network: str) -> None:
    dim = proto.graph.input[first].type.tensor_type.shape.dim[0]
    if not dim.dim_param:
        raise ExportError(
            f"{network} cannot be exported with a dynamic batch: the exporter baked in {dim.dim_value}; "
            "export it with dynamic_batch=False"
        )
    rename_dimension(proto, dim.dim_param, BATCH)


def _write(proto: onnx.ModelProto, path: Path, *, apart: bool) -> tuple[bool, str, int]:
    """Write and check under a temporary name, then rename, the external data first.

    Returns
    -------
    (bool, str, int)
        Whether there are external data, the hash of it all and its bytes.
    """
    with output_errors(path), staged_folder(path) as stage:
        staged = stage / path.name
        apart = write_model(proto, staged, apart=apart)
        check_onnx(staged)
        files = model_files(staged)
        sha256, file_bytes = file_sha256(*files), sum(file.stat().st_size for file in files)
        sync(stage)
        for file in reversed(files):
            file.replace(path.with_name(file.name))
    return apart, sha256, file_bytes
