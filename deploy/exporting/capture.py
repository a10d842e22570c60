"""The torch part of the export: a module is copied, captured by ``torch.export`` and translated by ``torch.onnx``.

The exporter's prints, warnings and log records are suppressed, and its exceptions reported in one line.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from inspect import signature
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deploy.errors import ExportError
from deploy.exporting.attention import in_four_axes
from deploy.exporting.recurrent import RECURRENCES, without_projections
from pruners.channels.outputs import path_name
from pruners.channels.packed import packed_as_padded
from pruners.errors import InputError
from pruners.modules.calls import NetworkCall, call_of, know_dataclasses

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "Translation",
    "argument_names",
    "batched_inputs",
    "batches",
    "copy_for_export",
    "one_batch",
    "output_keys",
    "tensors_of",
    "translate",
]

# What the code of a user's network, or the exporter while tracing it, may raise.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_REASON_LIMIT = 240


@dataclass(frozen=True, slots=True)
class Translation:
    """Result of the exporter.

    Parameters
    ----------
    model : onnx_ir.Model
        Optimised by the exporter's own rules.
    n_batch_norms : int
        BatchNormalization nodes before the optimiser ran.
    """

    model: ir.Model
    n_batch_norms: int


def copy_for_export(model: nn.Module, inputs: Any) -> tuple[nn.Module, NetworkCall]:
    """Copy the network in evaluation mode, and its example inputs, to the CPU.

    Parameters
    ----------
    inputs
        As in `pruners.modules.calls.call_of`.

    Raises
    ------
    ExportError
        The network cannot be called with `inputs`, or cannot be copied.
    """
    name = type(model).__name__
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # the wrapped network; the wrapper does not run on the CPU
    try:
        network = copy.deepcopy(model).cpu().eval()
    except _FAILURES as error:
        raise ExportError(f"{name} cannot be copied for the export: {_reason(error)}") from error
    if isinstance(inputs, NetworkCall):
        inputs = (inputs.args, inputs.kwargs)
    here = pytree.tree_map_only(
        Tensor, lambda value: value.detach().cpu(), dict(inputs) if isinstance(inputs, Mapping) else inputs
    )
    try:
        return network, call_of(network, here)
    except InputError as error:
        raise ExportError(f"{name}: {error}") from error


def argument_names(network: nn.Module, call: NetworkCall) -> tuple[str, ...]:
    """Name the tensors of a call by the arguments of ``forward`` that hold them, ``"states.h.0"`` if nested.

    Wrappers that only pass their arguments on are unwrapped.
    """
    while len(children := list(network.children())) == 1 and _hands_on(network):
        (network,) = children
    parameters = signature(network.forward).parameters.values()
    by_place = [each.name for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD]
    names = []
    for path, leaf in pytree.tree_leaves_with_path((call.args, call.kwargs)):
        if isinstance(leaf, Tensor):
            by_keyword, first, *rest = path_name(path).split(".")
            if by_keyword == "0":
                first = by_place[int(first)] if int(first) < len(by_place) else f"args_{first}"
            names.append(".".join((first, *rest)))
    return tuple(names)


def _hands_on(network: nn.Module) -> bool:
    return all(p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in signature(network.forward).parameters.values())


def batched_inputs(inputs: Sequence[Tensor]) -> tuple[int, ...]:
    """List the inputs whose axis 0 is the batch: the first one that has axes, and those with the same size there."""
    sizes = [value.shape[0] if value.ndim else None for value in inputs]
    batch = next((size for size in sizes if size is not None), None)
    return tuple(index for index, size in enumerate(sizes) if size is not None and size == batch)


def batches(call: NetworkCall, size: int) -> Iterator[NetworkCall]:
    """Cut the examples into batches of `size`; the last one is filled up with the last example."""
    batched = batched_inputs(call.tensors)
    n = call.tensors[batched[0]].shape[0] if batched else 1
    for start in range(0, n, size):
        rows = torch.arange(start, start + size).clamp(max=n - 1)
        yield _with_batch(call, lambda value, rows=rows: value[rows.to(value.device)])  # type: ignore[misc]


def one_batch(call: NetworkCall, size: int) -> NetworkCall:
    """Take the first `size` examples; if there are fewer, the last one is repeated."""
    return next(batches(call, size))


def _with_batch(call: NetworkCall, change: Callable[[Tensor], Tensor]) -> NetworkCall:
    """Apply `change` to the tensors that have the batch axis."""
    batched, numbers = batched_inputs(call.tensors), count()
    return call.map(lambda value: change(value) if next(numbers) in batched else value)


def output_keys(network: nn.Module, call: NetworkCall) -> tuple[str, ...]:
    """Run the network once and name what it returns, in the order of the graph's outputs.

    Raises
    ------
    ExportError
        The network fails on the example inputs, or returns something that is not a tensor.
    """
    keys = tuple(key for key, _ in _results(network, call))
    return tuple(f"output_{key}" if key.replace(".", "").isdigit() else key or "output" for key in keys)


def tensors_of(network: nn.Module, call: NetworkCall) -> tuple[Tensor, ...]:
    """Run the network and list the tensors that it returns, in the order of the graph's outputs.

    Raises
    ------
    ExportError
        The network fails on the inputs, or returns something that is not a tensor.
    """
    return tuple(value for _, value in _results(network, call))


def _results(network: nn.Module, call: NetworkCall) -> list[tuple[str, Tensor]]:
    """Run the network; return its tensors and their paths in tuples, mappings and dataclasses. None is left out."""
    name = type(network).__name__
    try:
        with torch.no_grad(), _quiet():
            outputs = call(network)
    except _FAILURES as error:
        shapes = ", ".join(f"{str(x.dtype).removeprefix('torch.')}{tuple(x.shape)}" for x in call.tensors)
        raise ExportError(f"{name} fails on inputs {shapes}: {_reason(error)}") from error
    know_dataclasses(outputs)
    found = [(path_name(path), leaf) for path, leaf in pytree.tree_leaves_with_path(outputs) if leaf is not None]
    for key, leaf in found:
        if not isinstance(leaf, Tensor):
            where = f" in {key!r}" if key else ""
            raise ExportError(
                f"{name} returns a {type(leaf).__name__}{where}; an ONNX graph returns tensors only: leave it out "
                "(use_cache=False among the inputs of a decoder of transformers)"
            )
    if not found:
        raise ExportError(f"{name} returns a {type(outputs).__name__} without tensors; an ONNX graph returns some")
    return found


def translate(network: nn.Module, call: NetworkCall, *, opset: int, dynamic_batch: bool) -> Translation:
    """Capture a network and translate it to ONNX.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on the CPU.
    call : NetworkCall
        With example inputs. For a dynamic batch, a batch of 1 is doubled, as the capture would bake it in.
    opset : int
        Requested operator set; the exporter may silently keep another one.
    dynamic_batch : bool
        Leave axis 0 of `batched_inputs` free.

    Returns
    -------
    Translation
        The optimised model, and its number of BatchNorms before the optimisation.

    Raises
    ------
    ExportError
        One line with the exporter's reason.
    """
    name = type(network).__name__
    try:
        return _translate(network, call, opset=opset, dynamic_batch=dynamic_batch)
    except _FAILURES as error:
        reason = _reason(error)
        if dynamic_batch and _translates_fixed(network, call, opset=opset):
            n = call.tensors[batched_inputs(call.tensors)[0]].shape[0]
            raise ExportError(
                f"{name} cannot be exported with a dynamic batch: {reason}; "
                f"export it with dynamic_batch=False, which bakes in the batch of the example ({n})"
            ) from error
        raise ExportError(f"{name} cannot be exported to ONNX: {reason}") from error


def _translate(network: nn.Module, call: NetworkCall, *, opset: int, dynamic_batch: bool) -> Translation:
    shapes = None
    if dynamic_batch:
        free = batched_inputs(call.tensors)
        if call.tensors[free[0]].shape[0] == 1:
            call = _with_batch(call, lambda value: torch.cat([value, value]))
        shapes = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
        batch = torch.export.Dim("batch")
        for index in free:  # by tensor: a forward(*args, **kwargs) has no argument names
            shapes[call.tensors[index]] = {0: batch}
    with torch.no_grad(), _quiet():
        with packed_as_padded():
            exported = torch.export.export(network, call.args, call.kwargs, dynamic_shapes=shapes, strict=False)
        exported.example_inputs = None  # torch fails to check inputs in **kwargs beside named ones
        captured = without_projections(in_four_axes(exported))
        program = torch.onnx.export(
            captured, (), opset_version=opset, verbose=False, optimize=False, custom_translation_table=RECURRENCES
        )
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        n_batch_norms = sum(node.op_type == "BatchNormalization" for node in program.model.graph)
        program.optimize()
        return Translation(program.model, n_batch_norms)


def _translates_fixed(network: nn.Module, call: NetworkCall, *, opset: int) -> bool:
    try:
        _translate(network, call, opset=opset, dynamic_batch=False)
    except _FAILURES:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress prints, warnings and log records of torch and its exporter; restore everything afterwards."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _reason(error: BaseException) -> str:
    """Return the message of the root cause of an exception, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [_ANSI.sub("", line).strip(" -\t").partition(". If you're using")[0] for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Constraints violated") and len(lines) > 1:
        lines = lines[1:]  # the first line only announces the others
    return lines[0] if len(lines[0]) <= _REASON_LIMIT else f"{lines[0][: _REASON_LIMIT - 3]}..."
