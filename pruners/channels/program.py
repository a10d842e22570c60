"""The ATen program of a network: `torch.export` without decompositions, made convenient to read and to run."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pruners.channels.packed import packed_as_padded
from pruners.channels.refusals import refusal
from pruners.channels.regions import inline_regions
from pruners.errors import FOREIGN, TraceError, first_line
from pruners.modules.calls import NetworkCall, know_dataclasses
from pruners.modules.copies import copy_to_trace
from pruners.modules.kept_state import KeptState, kept_state

__all__ = ["Program", "constants", "export", "named_tensors", "writes_in_place"]

_LONGEST_SIZE = 20
"""Most operations in the formula of a size. Networks that take other sizes stay below 12; from 30 on, torch spends
minutes on every operator, and the code turns out to be made for one size."""
_CHATTY = (
    "torch.fx.experimental.symbolic_shapes",
    "torch.fx.experimental.recording",
    "torch._subclasses.fake_tensor",
)


@dataclass(frozen=True, eq=False)
class Program:
    """An exported network.

    Parameters
    ----------
    module : GraphModule
        Runs the network; shares its parameters and buffers with the exported model.
    tensors : dict of str to str
        For each tensor that the graph fetches, its attribute in `module` -> its first name in the model.
    dynamic_batch : bool
        Whether `module` runs at other batch sizes than the example's.
    batch : int
        Batch size in the graph's shapes.
    guard : callable, optional
        Raises for inputs (the leaves, in order) whose sizes the network's code handles differently from `module`.
        None if all sizes but the batch are those of the example.
    autocast : bool
        Whether the network's own code enters autocast, which `module` runs without.
    kept : KeptState, optional
        State that the modules had kept from earlier calls when they were exported.
    """

    module: fx.GraphModule
    tensors: dict[str, str]
    dynamic_batch: bool
    batch: int
    guard: Callable[..., object] | None = None
    autocast: bool = False
    kept: KeptState | None = None


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, aliases of a shared tensor included."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def constants(module: fx.GraphModule, names: Iterable[str]) -> dict[str, Any]:
    """Compute the values of nodes that depend on no input, without gradients."""
    values: dict[fx.Node, Any] = {}
    wanted = set(names)

    def value(node: fx.Node) -> Any:
        if node not in values:
            if node.op == "get_attr":
                values[node] = operator.attrgetter(str(node.target))(module)
            else:
                assert callable(node.target)
                values[node] = node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
        return values[node]

    with torch.no_grad():
        return {node.name: value(node) for node in module.graph.nodes if node.name in wanted}


def export(
    model: nn.Module,
    example: NetworkCall,
    *,
    training: bool = False,
    observed: Collection[str] = (),
    every_size: bool = False,
) -> Program:
    """Export a copy of `model` in evaluation (or training) mode; the model itself is not modified.

    The batch axis (the first, if all inputs agree on its size) is dynamic if the network's code allows it.

    Parameters
    ----------
    training : bool, default=False
        Export the training mode.
    observed : collection of str, optional
        Paths of modules whose results, and those of the modules around them, stay in the graph even if nobody reads
        them; torch.export drops such code.
    every_size : bool, default=False
        Make the other axes of the inputs dynamic too, as far as the network's code allows. A program with such an axis
        has a guard.

    Raises
    ------
    TraceError
        The model cannot be copied, or torch.export refuses it. With `every_size`: it cannot be traced with free sizes,
        or torch cannot check the sizes afterwards.
    """
    try:
        twin = copy_to_trace(model).train(training)
    except FOREIGN as error:
        raise TraceError(f"{type(model).__name__} cannot be copied: {first_line(error)}") from error
    twin.register_forward_hook(lambda _, __, outputs: know_dataclasses(outputs))
    seen = _hand_out(twin, observed)
    program, batch = _dynamic(twin, example, training=training, every_size=every_size)
    dynamic = program is not None
    if program is None and not every_size:
        program, batch = _export(twin, example, None, training=training), example.batch or 1
    if program is None:
        raise TraceError(f"{type(model).__name__} cannot be traced with free sizes of its inputs")
    free = every_size and _other_sizes(program)
    module = program.module(check_guards=free)
    assert isinstance(module, fx.GraphModule)
    guard: Any = module._guards_fn if free else None
    if guard is not None and not _holds(guard, example):
        raise TraceError(f"torch cannot check the sizes of the inputs of {type(model).__name__}")
    autocast = inline_regions(module, training=training)
    _without_assertions(module)
    _without_replaced_buffers(module)
    if seen:
        (output,) = module.graph.find_nodes(op="output")
        output.args = (output.args[0][: -len(seen)],)
    _without_mutation(module)
    _with_masks_like_queries(module)
    module.recompile()
    return Program(module, _share_tensors(module, twin, model), dynamic, batch, guard, autocast, kept_state(model))


def _dynamic(
    twin: nn.Module, example: NetworkCall, *, training: bool, every_size: bool
) -> tuple[torch.export.ExportedProgram | None, int]:
    size = example.batch
    if size is None:
        return None, 1
    if size == 1:  # torch.export treats a size of 1 as a constant
        example, size = example.map(lambda item: torch.cat([item, item])), 2
    free = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for item in example.tensors:
        free[item] = dict.fromkeys(range(item.ndim if every_size else 1), torch.export.Dim.AUTO)
    try:
        with _ShortSizes() if every_size else contextlib.nullcontext():
            program = _export(twin, example, free, training=training)
    except TraceError:
        return None, size
    batched = not any(is_concrete_int(value.shape[0]) for value in _inputs(program))
    return (program if batched else None), size


class _ShortSizes(TorchFunctionMode):
    """Aborts a trace in which sizes become long formulas of the inputs' sizes."""

    def __torch_function__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            sizes: Iterable[Any] = result.shape
            for size in sizes:
                if isinstance(size, torch.SymInt) and size.node.expr.count_ops() > _LONGEST_SIZE:
                    raise TraceError("its sizes are long formulas of the sizes of its inputs")
        return result


def _holds(guard: Callable[..., object], example: NetworkCall) -> bool:
    """Whether torch can check the inputs; it cannot if some are passed in ``**kwargs``."""
    try:
        guard(*example.leaves)
    except (*FOREIGN, NameError):
        return False
    return True


def _inputs(program: torch.export.ExportedProgram) -> list[Tensor]:
    values = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    return [value for value in values if isinstance(value, Tensor)]


def _other_sizes(program: torch.export.ExportedProgram) -> bool:
    """Whether an axis other than the batch is dynamic."""
    return any(not is_concrete_int(size) for value in _inputs(program) for size in value.shape[1:])


def _export(
    twin: nn.Module,
    example: NetworkCall,
    dynamic_shapes: torch.export.ShapesCollection | None,
    *,
    training: bool,
) -> torch.export.ExportedProgram:
    try:
        # With gradients, so that a part of the network that runs without them stays such a part.
        with torch.set_grad_enabled(training), _quiet(), packed_as_padded():
            return torch.export.export(twin, example.args, example.kwargs, dynamic_shapes=dynamic_shapes, strict=False)
    except FOREIGN as error:
        raise TraceError(f"torch.export cannot trace {type(twin).__name__}: {refusal(error, twin)}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch.export's messages about a copy: its error is passed on, and the copy is discarded."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # it prints the graph of its error
            warnings.filterwarnings("ignore", message="The tensor attributes? ", category=UserWarning)
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _hand_out(twin: nn.Module, observed: Collection[str]) -> list[Tensor]:
    """Make a network return, after its own results, those of some modules; the list holds them after each call."""
    seen: list[Tensor] = []
    around = {".".join(parts[:n]) for parts in (path.split(".") for path in observed) for n in range(1, len(parts) + 1)}
    for path in sorted(around - {""}):
        twin.get_submodule(path).register_forward_hook(
            lambda _, __, result: seen.extend(leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor))
        )
    if observed:
        twin.register_forward_pre_hook(lambda *_: seen.clear())
        twin.register_forward_hook(lambda _, __, outputs: (outputs, list(seen)))
    return seen


def _without_assertions(module: fx.GraphModule) -> None:
    for node in reversed(module.graph.nodes):
        checks = node.op == "call_module" or (node.op == "call_function" and "assert" in str(node.target))
        if checks and not node.users:
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code(lambda node: node.op not in {"call_function", "get_attr"} or writes_in_place(node))


def _without_replaced_buffers(module: fx.GraphModule) -> None:
    """Remove writes of a cache to a buffer of another shape: the network replaces the buffer, a graph cannot."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
        to, value = node.args[:2]
        if not node.users and to.op == "get_attr":
            buffer = operator.attrgetter(str(to.target))(module)
            if buffer.ndim == value.meta["val"].ndim and buffer.numel() < value.meta["val"].numel():
                module.graph.erase_node(node)


def writes_in_place(node: fx.Node) -> bool:
    """Whether an operator changes one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _without_mutation(module: fx.GraphModule) -> None:
    """Replace ``x.relu_()`` by ``x.relu()`` where `x` is a fresh tensor, so that values can be tapped and kept."""
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    for node in list(module.graph.nodes):
        if not writes_in_place(node) or not str(node.target._schema.name).endswith("_") or not node.args:
            continue
        target, written = node.target, node.args[0]
        functional = getattr(torch.ops.aten, str(target._schema.name).removeprefix("aten::").removesuffix("_"), None)
        overload = getattr(functional, target._overloadname, None)
        if overload is None or not isinstance(written, fx.Node) or not _fresh(written):
            continue
        earlier = [user for user in written.users if user is not node and order[user] < order[node]]
        if any(_is_view(user) for user in earlier):
            continue
        node.target = overload
        for user in list(written.users):
            if user is not node and order[user] > order[node]:
                user.replace_input_with(written, node)


def _with_masks_like_queries(module: fx.GraphModule) -> None:
    """Cast attention masks to the precision of the queries, for a graph that runs in another one than it was traced in.

    The precision of a mask that the code made for the queries is fixed in the graph, and torch's fused kernels silently
    misread a mask of another precision (torch 2.15, double queries with a float mask on the CPU).
    """
    for node in list(module.graph.nodes):
        if node.target is not torch.ops.aten.scaled_dot_product_attention.default:
            continue
        mask = node.args[3] if len(node.args) > 3 else node.kwargs.get("attn_mask")
        if isinstance(mask, fx.Node) and mask.meta["val"].is_floating_point():
            with module.graph.inserting_before(node):
                alike = module.graph.call_function(torch.ops.aten.type_as.default, (mask, node.args[0]))
            alike.meta = {**mask.meta, "nn_module_stack": node.meta.get("nn_module_stack", {})}
            node.replace_input_with(mask, alike)


def _fresh(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) and not _is_view(node)


def _is_view(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return True
    return isinstance(node.target, torch._ops.OpOverload) and any(
        item.alias_info is not None for item in node.target._schema.returns
    )


def _share_tensors(module: fx.GraphModule, twin: nn.Module, model: nn.Module) -> dict[str, str]:
    """Make the graph module use the model's own tensors instead of the twin's."""
    first_name: dict[int, str] = {}
    for name, tensor in named_tensors(twin).items():
        first_name.setdefault(id(tensor), name)
    own = named_tensors(model)
    names: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op != "get_attr" or str(node.target) in names:
            continue
        parent, _, attribute = str(node.target).rpartition(".")
        owner = module.get_submodule(parent)
        known = first_name.get(id(getattr(owner, attribute)))
        if known is not None:
            names[str(node.target)] = known
            holder: dict[str, Any] = owner._parameters if attribute in owner._parameters else owner._buffers
            holder[attribute] = own[known]
    return names
