"""`NetworkCall`: the arguments of a network's call, in any nesting of containers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruners.errors import FOREIGN, InputError, PlanError, did_you_mean, first_line
from pruners.plan import CallSpec

__all__ = ["NetworkCall", "call_of", "call_spec", "filled", "know_dataclasses"]

_FORMS = (
    "give a tensor, a tuple of positional arguments, a dict of keyword arguments, or (args, kwargs), with torch tensors"
)
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, eq=False)
class NetworkCall:
    """Arguments of one call of a network.

    Parameters
    ----------
    args : tuple
        Positional arguments: tensors, Python values, and tuples, lists, dictionaries and dataclasses of them.
    kwargs : dict of str to object
        Keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __call__(self, network: Callable[..., Any]) -> Any:
        """Call the network; compiled functions in it run eagerly."""
        with torch.compiler.set_stance("force_eager"):
            return network(*self.args, **self.kwargs)

    @property
    def leaves(self) -> list[Any]:
        """Tensors and Python values in the order in which `torch.export` takes them as inputs."""
        leaves: list[Any] = pytree.tree_leaves((self.args, self.kwargs))
        return leaves

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the leaves."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def map(self, change: Callable[[Tensor], Tensor]) -> NetworkCall:
        """Return the call with each tensor changed."""
        args, kwargs = pytree.tree_map_only(Tensor, change, (self.args, self.kwargs))
        return NetworkCall(args, kwargs)

    def to(self, device: torch.device) -> NetworkCall:
        """Return the call with its tensors on a device."""
        return self.map(lambda tensor: tensor.to(device))

    @property
    def batch(self) -> int | None:
        """Size of axis 0 if all tensors agree on it, else None."""
        sizes = {tensor.shape[0] if tensor.ndim else None for tensor in self.tensors}
        return sizes.pop() if len(sizes) == 1 else None


def call_of(network: nn.Module, example_inputs: Any) -> NetworkCall:
    """Return the call that the user's example inputs describe.

    Parameters
    ----------
    network : Module
        The network to be called.
    example_inputs : Tensor, tuple, list, Mapping, (tuple, Mapping) or NetworkCall
        The only positional argument, all positional arguments, keyword arguments, or both.

    Raises
    ------
    InputError
        It is none of these, holds no tensor or a value that is neither a tensor nor a plain Python value, or names
        arguments that ``forward`` does not have.
    """
    if isinstance(example_inputs, NetworkCall):
        return example_inputs
    signature = _signature(network)
    match example_inputs:
        case Tensor():
            call = NetworkCall((example_inputs,))
        case Mapping():
            call = NetworkCall((), _ordered(example_inputs, signature))
        case (list() | tuple() as args, Mapping() as kwargs) if isinstance(args, tuple) or _binds(
            signature, args, kwargs
        ):
            call = NetworkCall(tuple(args), _ordered(kwargs, signature))
        case list() | tuple():
            call = NetworkCall(tuple(example_inputs))
        case _:
            raise InputError(f"example_inputs is {_kind(example_inputs)}; {_FORMS}")
    _check(network, signature, call)
    return call


def know_dataclasses(value: Any) -> None:
    """Register with torch the dataclasses in nested tuples, lists and dictionaries."""
    for leaf in pytree.tree_leaves(value):
        if is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(
                type(leaf), serialized_type_name=f"{type(leaf).__module__}.{type(leaf).__qualname__}"
            )
            know_dataclasses(leaf)


def _signature(network: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(network.forward)
    except (ValueError, TypeError):
        return None


def _ordered(kwargs: Mapping[Any, Any], signature: inspect.Signature | None) -> dict[str, Any]:
    """Return the keyword arguments in the order of the signature."""
    order = {name: place for place, name in enumerate(signature.parameters)} if signature else {}
    return dict(sorted(kwargs.items(), key=lambda item: order.get(item[0], len(order))))


def _binds(signature: inspect.Signature | None, args: Any, kwargs: Mapping[Any, Any]) -> bool:
    if not all(isinstance(name, str) for name in kwargs):
        return False
    try:
        if signature is not None:
            signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _check(network: nn.Module, signature: inspect.Signature | None, call: NetworkCall) -> None:
    know_dataclasses((call.args, call.kwargs))
    for path, leaf in pytree.tree_leaves_with_path((call.args, call.kwargs)):
        if not isinstance(leaf, (Tensor, *_PLAIN)):
            raise InputError(f"example_inputs{_where(path)} is {_kind(leaf)}; {_FORMS}")
    if not call.tensors:
        raise InputError(f"example_inputs holds no tensor; {_FORMS}")
    where = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    given = {tensor.device for tensor in call.tensors}
    if where and not where & given:
        here, there = (", ".join(sorted(map(str, devices))) for devices in (given, where))
        raise InputError(f"the example inputs are on {here}, the network on {there}: move them to it")
    if _binds(signature, call.args, call.kwargs) or signature is None:
        return
    name, known = type(network).__name__, list(signature.parameters)
    unknown = [str(key) for key in call.kwargs if key not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"; it takes {', '.join(known)}"
        instead = "(args, dict), {}" if call.args else "dict,"
        raise InputError(f"{name}.forward has no argument {unknown[0]!r}{hint} (a dict by position: write ({instead}))")
    try:
        signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise InputError(f"example_inputs do not fit {name}.forward{signature}: {error}") from error


def _where(path: tuple[Any, ...]) -> str:
    first, rest = path[0], path[1:]
    return ("" if first.idx == 0 else "[kwargs]") + pytree.keystr(rest)


def _kind(value: Any) -> str:
    module, name = type(value).__module__, type(value).__name__
    return f"a numpy {name} (torch.from_numpy makes a tensor of it)" if module == "numpy" else f"of type {name}"


def call_spec(call: NetworkCall) -> CallSpec | None:
    """Return where the tensors of a call are placed; None if they are its positional arguments."""
    if not call.kwargs and all(isinstance(item, Tensor) for item in call.args):
        return None
    leaves, tree = pytree.tree_flatten((call.args, call.kwargs))
    try:
        structure = json.loads(pytree.treespec_dumps(tree))
    except NotImplementedError as error:  # a class that torch has no name for
        return CallSpec(unknown=first_line(error))
    return CallSpec(tree=structure, constants=tuple(None if isinstance(x, Tensor) else (x,) for x in leaves))


def filled(spec: CallSpec | None, tensors: tuple[Tensor, ...]) -> NetworkCall:
    """Return the call that a plan describes, with these tensors.

    Raises
    ------
    PlanError
        The plan could not describe it, or is damaged.
    """
    if spec is None:
        return NetworkCall(tensors)
    if spec.unknown:
        raise PlanError(f"the plan does not say how the network is called ({spec.unknown}): hand in its graph")
    following = iter(tensors)
    try:
        leaves = [next(following) if one is None else one[0] for one in spec.constants]
        args, kwargs = pytree.tree_unflatten(leaves, pytree.treespec_loads(json.dumps(spec.tree)))
    except (*FOREIGN, StopIteration) as error:
        raise PlanError(f"the plan does not say how the network is called: {first_line(error)}") from error
    return NetworkCall(args, kwargs)
