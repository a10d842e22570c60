"""The way through torch: a module is copied, captured by ``torch.export`` and translated by ``torch.onnx``.

Nothing here is shown to the user: what the exporter prints, warns and logs on the way is swallowed, and what it
raises is told in one line.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from deploy.errors import ExportError
from deploy.export.attention import in_four_axes
from deploy.export.recurrent import RECURRENCES, without_projections
from pruners.channels.packed import packed_as_padded

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "Translation",
    "batched_inputs",
    "batches",
    "copy_for_export",
    "one_batch",
    "output_keys",
    "tensors_of",
    "translate",
]

# What the code of a user's network, or the exporter on its way through it, may raise.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_REASON_LIMIT = 240


@dataclass(frozen=True, slots=True)
class Translation:
    """What came out of the exporter.

    Parameters
    ----------
    model : onnx_ir.Model
        Optimised by the exporter's own rules.
    arguments : tuple
        Names of the arguments of ``forward``, in the order of the graph's inputs.
    n_batch_norms : int
        BatchNormalization nodes before the optimiser ran.
    """

    model: ir.Model
    arguments: tuple[object, ...]
    n_batch_norms: int


def copy_for_export(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Copy the network in evaluation mode, and its example inputs, to the CPU.

    Raises
    ------
    ExportError
        `inputs` is not a tuple of tensors, or the network cannot be copied.
    """
    name = type(model).__name__
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module  # what it does on its GPUs; it does not run on the CPU
    if not isinstance(inputs, tuple):
        raise ExportError(f"example inputs of {name} must be a tuple of tensors, got {type(inputs).__name__}")
    if not inputs or not all(isinstance(value, Tensor) for value in inputs):
        given = ", ".join(type(value).__name__ for value in inputs) or "an empty tuple"
        raise ExportError(f"example inputs of {name} must be a tuple of tensors, got {given}")
    try:
        network = copy.deepcopy(model).cpu().eval()
    except _FAILURES as error:
        raise ExportError(f"{name} cannot be copied for the export: {_reason(error)}") from error
    return network, tuple(value.detach().cpu() for value in inputs)


def batched_inputs(inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    """List the inputs whose axis 0 is the batch: the first one that has axes, and those of the same size there."""
    sizes = [value.shape[0] if value.ndim else None for value in inputs]
    batch = next((size for size in sizes if size is not None), None)
    return tuple(index for index, size in enumerate(sizes) if size is not None and size == batch)


def batches(inputs: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Cut the examples into batches of `size`; the last one is filled up with the last example."""
    batched = batched_inputs(inputs)
    n = inputs[batched[0]].shape[0] if batched else 1
    for start in range(0, n, size):
        rows = torch.arange(start, start + size).clamp(max=n - 1)
        yield tuple(value[rows.to(value.device)] if index in batched else value for index, value in enumerate(inputs))


def one_batch(inputs: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    """Take the first `size` examples; the last one is repeated where there are fewer."""
    return next(batches(inputs, size))


def output_keys(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Run the network once and name what it returns, in the order of the graph's outputs.

    Raises
    ------
    ExportError
        The network fails on the example inputs, or returns something that is not a tensor.
    """
    keys = tuple(".".join(path) for path, _ in _leaves(_run(network, inputs), type(network).__name__))
    return tuple(f"output_{key}" if key.replace(".", "").isdigit() else key or "output" for key in keys)


def tensors_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Run the network and list the tensors that it returns, in the order of the graph's outputs.

    Raises
    ------
    ExportError
        The network fails on the inputs, or returns something that is not a tensor.
    """
    return tuple(value for _, value in _leaves(_run(network, inputs), type(network).__name__))


def _run(network: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    try:
        with torch.no_grad(), _quiet():
            return network(*inputs)
    except _FAILURES as error:
        shapes = ", ".join(f"{str(x.dtype).removeprefix('torch.')}{tuple(x.shape)}" for x in inputs)
        raise ExportError(f"{type(network).__name__} fails on inputs {shapes}: {_reason(error)}") from error


def _leaves(value: object, name: str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, name, (*path, str(key)))
    elif isinstance(value, tuple | list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, name, (*path, str(index)))
    elif value is not None or not path:  # None in a tuple or mapping is no output of the graph
        what = "an empty" if isinstance(value, Mapping | tuple | list) else "a"
        raise ExportError(f"{name} returns {what} {type(value).__name__}; an ONNX graph returns tensors only")


def translate(network: nn.Module, inputs: tuple[Tensor, ...], *, opset: int, dynamic_batch: bool) -> Translation:
    """Capture and translate.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on the CPU.
    inputs : tuple of Tensor
        Example inputs. For a dynamic batch a batch of 1 is doubled: the capture would bake it in.
    opset : int
        Operator set asked for; the exporter may keep another one without saying so.
    dynamic_batch : bool
        Leave axis 0 of `batched_inputs` free.

    Returns
    -------
    Translation
        The optimised model, and what it was made from.

    Raises
    ------
    ExportError
        One line with the exporter's reason.
    """
    name = type(network).__name__
    try:
        return _translate(network, inputs, opset=opset, dynamic_batch=dynamic_batch)
    except _FAILURES as error:
        reason = _reason(error)
        if dynamic_batch and _translates_fixed(network, inputs, opset=opset):
            n = inputs[batched_inputs(inputs)[0]].shape[0]
            raise ExportError(
                f"{name} cannot be exported with a dynamic batch: {reason}; "
                f"export it with dynamic_batch=False, which bakes in the batch of the example ({n})"
            ) from error
        raise ExportError(f"{name} cannot be exported to ONNX: {reason}") from error


def _translate(network: nn.Module, inputs: tuple[Tensor, ...], *, opset: int, dynamic_batch: bool) -> Translation:
    shapes = None
    if dynamic_batch:
        free = batched_inputs(inputs)
        if inputs[free[0]].shape[0] == 1:
            inputs = tuple(torch.cat([x, x]) if index in free else x for index, x in enumerate(inputs))
        shapes = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
        batch = torch.export.Dim("batch")
        for index in free:  # by tensor: a forward of (*args, **kwargs) has no arguments to give shapes to
            shapes[inputs[index]] = {0: batch}
    with torch.no_grad(), _quiet():
        with packed_as_padded():
            exported = torch.export.export(network, inputs, dynamic_shapes=shapes, strict=False)
        captured = without_projections(in_four_axes(exported))
        program = torch.onnx.export(
            captured, (), opset_version=opset, verbose=False, optimize=False, custom_translation_table=RECURRENCES
        )
        if program is None:
            raise RuntimeError("the exporter returned nothing")
        n_batch_norms = sum(node.op_type == "BatchNormalization" for node in program.model.graph)
        program.optimize()
        arguments = _wrapped_arguments(network, len(inputs)) or captured.graph_signature.user_inputs
        return Translation(program.model, tuple(arguments), n_batch_norms)


def _wrapped_arguments(network: nn.Module, n: int) -> tuple[str, ...]:
    """Name the arguments of the network inside wrappers that hand on whatever they get; empty where there is none."""
    while (children := list(network.children())) and len(children) == 1 and _hands_on(network):
        (network,) = children
        named = [p.name for p in signature(network.forward).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        if not _hands_on(network):
            return tuple(named[:n]) if len(named) >= n else ()
    return ()


def _hands_on(network: nn.Module) -> bool:
    return all(p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in signature(network.forward).parameters.values())


def _translates_fixed(network: nn.Module, inputs: tuple[Tensor, ...], *, opset: int) -> bool:
    try:
        _translate(network, inputs, opset=opset, dynamic_batch=False)
    except _FAILURES:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Swallow prints, warnings and log records of the libraries below; restore everything afterwards."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _reason(error: BaseException) -> str:
    """Return in one line what is at the bottom of a chain of exceptions."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [_ANSI.sub("", line).strip(" -\t").partition(". If you're using")[0] for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Constraints violated") and len(lines) > 1:
        lines = lines[1:]  # the first line only says that there are more
    return lines[0] if len(lines[0]) <= _REASON_LIMIT else f"{lines[0][: _REASON_LIMIT - 3]}..."
