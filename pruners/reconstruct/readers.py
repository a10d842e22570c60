"""Find the layers that read the channels of a group, as called in the traced graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from pruners.channels.propagation import hint, operator_name
from pruners.errors import MethodError
from pruners.graph import Graph
from pruners.groups import ChannelGroup
from pruners.plan import PruningPlan

__all__ = ["Branch", "Call", "Reader", "layers_among", "norm_behind", "parameters_behind", "reader_named", "readers_of"]

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The end of a residual branch: an addition to the output of a layer, or of a BatchNorm behind it.

    Parameters
    ----------
    addition, shortcut : str
        Names of nodes: the addition, and what it adds to the branch.
    norm : Node or None
        The BatchNorm between the layer and the addition.
    """

    addition: str
    shortcut: str
    norm: fx.Node | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a layer.

    Parameters
    ----------
    node, reads : str
        Names of nodes: the call, and its input.
    kernel, stride, dilation : tuple of int
        One per spatial axis of a convolution; empty for a linear layer.
    padding : tuple of (int, int)
        Zeros before and after, for each spatial axis.
    branch : Branch or None
        Set if the layer ends a residual branch.
    """

    node: str
    reads: str
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    branch: Branch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A linear layer, or a convolution of one group.

    Parameters
    ----------
    weight : str
        Name of its weight, of shape (out, in, ...).
    bias : str or None
        Name of its bias.
    shared_bias : bool
        Whether other layers use this bias too.
    calls : tuple of Call
        Several if the layer is used several times.
    units : tuple of tuple of int
        ``units[unit]`` are the positions along the weight's axis 1 that belong to a unit of a group; empty if no group
        was given.
    """

    weight: str
    bias: str | None
    shared_bias: bool
    calls: tuple[Call, ...]
    units: tuple[tuple[int, ...], ...] = ()


def readers_of(graph: Graph, group: ChannelGroup) -> tuple[Reader, ...]:
    """Return the layers that read the channels of a group, in the order in which the network calls them.

    Depthwise convolutions and normalisations only pass channels on. Products of two feature maps (attention) have no
    weights and are ignored.

    Raises
    ------
    MethodError
        Something other than a plain convolution or linear layer reads the channels, or nothing with weights does.
    """
    uses = _Uses(graph)
    positions: dict[str, list[tuple[int, ...]]] = {}
    for member in group.members:
        if member.produces or not uses.contracted(member.path):
            continue
        if member.axis != 1 or not uses.plain(member.path):
            raise MethodError(
                f"group {group.name!r} is read through {member.path!r}, which is not a weight of a plain convolution "
                "or linear layer; exclude it"
            )
        before = positions.get(member.path, [()] * group.n_units)
        positions[member.path] = [old + new for old, new in zip(before, member.indices, strict=True)]
    if not positions:
        raise MethodError(f"no layer with weights reads the channels of group {group.name!r}; exclude it")
    readers = [replace(uses.reader(weight), units=tuple(units)) for weight, units in positions.items()]
    return tuple(sorted(readers, key=lambda reader: uses.order[reader.calls[0].node]))


def reader_named(graph: Graph, weight: str) -> Reader | None:
    """Return the layer of a weight; None if it is not a plain convolution or linear layer."""
    uses = _Uses(graph)
    return uses.reader(weight) if uses.plain(weight) else None


def layers_among(graph: Graph, paths: Iterable[str]) -> tuple[tuple[Reader, ...], tuple[str, ...]]:
    """Find the parameters in `paths` that are factors in sums of products.

    Returns
    -------
    readers : tuple of Reader
        The plain layers among them, in the order in which the network calls them.
    others : tuple of str
        The others.
    """
    uses = _Uses(graph)
    factors = [path for path in dict.fromkeys(paths) if uses.contracted(path)]
    readers = [uses.reader(path) for path in factors if uses.plain(path)]
    others = tuple(path for path in factors if not uses.plain(path))
    return tuple(sorted(readers, key=lambda reader: uses.order[reader.calls[0].node])), others


def parameters_behind(graph: Graph, plan: PruningPlan) -> Iterator[str]:
    """Yield the parameters that read or carry channels of groups that a plan for the graph prunes."""
    for group in graph.groups:
        if plan.removed(group.name):
            yield from (member.path for member in group.members if not member.produces)


def norm_behind(graph: Graph, call: Call) -> str | None:
    """Return the name of the running mean of the BatchNorm that alone reads a call's output, and nothing else."""
    node = next(node for node in graph.module.graph.nodes if node.name == call.node)
    (user, *others) = node.users
    if others or operator_name(user.target) != "batch_norm" or user.args[0] is not node or user.args[5]:
        return None
    mean = user.args[3]
    assert isinstance(mean, fx.Node)
    name = graph.program.tensors.get(str(mean.target))
    uses = (user for node in graph.module.graph.nodes if node.target == mean.target for user in node.users)
    return name if name is not None and len(list(uses)) == 1 else None


class _Uses:
    """Where the parameters of a graph are combined with data."""

    def __init__(self, graph: Graph) -> None:
        nodes = list(graph.module.graph.nodes)
        self.order = {node.name: place for place, node in enumerate(nodes)}
        self._fetches: dict[str, list[fx.Node]] = {}
        self._names: dict[fx.Node, str] = {}
        self._data: set[fx.Node] = set()
        self._sums = {term.node for term in graph.grouping.walk.mac_terms}
        for node in nodes:
            if node.op == "get_attr" and (name := graph.program.tensors.get(str(node.target))) is not None:
                self._names[node] = name
                self._fetches.setdefault(name, []).append(node)
            if node.op == "placeholder" or any(item in self._data for item in node.all_input_nodes):
                self._data.add(node)

    def contracted(self, path: str) -> bool:
        """Return whether a parameter is multiplied with data and summed, directly or after other operations."""
        met = (pair for fetch in self._fetches.get(path, ()) for pair in self._meets_data(fetch))
        return any(user.name in self._sums and _is_factor(user, operand) for user, operand in met)

    def plain(self, path: str) -> bool:
        """Return whether a parameter is only used as the weight of a convolution of one group, or of a linear layer.

        Always with the same bias: a parameter, or none.
        """
        users = self._users(path)
        if not users or not all(_is_plain(user) for user in users):
            return False
        given = [_arguments(user) for user in users]
        biases = {item["bias"] and self._names.get(item["bias"], "") for item in given}
        return all(self._names.get(item["weight"]) == path for item in given) and len(biases) == 1 and "" not in biases

    def reader(self, path: str) -> Reader:
        """Describe the layer of a plain weight."""
        users = self._users(path)
        fetched = _arguments(users[0])["bias"]
        bias = None if fetched is None else self._names[fetched]
        shared = bias is not None and self._users(bias) != users
        return Reader(weight=path, bias=bias, shared_bias=shared, calls=tuple(_call(user) for user in users))

    def _users(self, path: str) -> list[fx.Node]:
        users = {user for fetch in self._fetches.get(path, ()) for user in fetch.users}
        return sorted(users, key=lambda node: self.order[node.name])

    def _meets_data(self, node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
        """Follow a parameter to each operator that also takes data; yield it with the operand that carries it."""
        for user in node.users:
            if user in self._data:
                yield user, node
            else:
                yield from self._meets_data(user)


def _is_factor(node: fx.Node, operand: fx.Node) -> bool:
    """Return whether `operand` is a factor in a sum of products, not its bias."""
    arguments = _arguments(node)
    if operator_name(node.target) in ("addmm", "baddbmm"):
        return arguments["self"] is not operand
    return arguments.get("bias") is not operand


def _is_plain(node: fx.Node) -> bool:
    name = operator_name(node.target)
    return name == "linear" or (name in _CONVOLUTIONS and _arguments(node)["groups"] == 1)


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of an operator by name, its defaults included."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = dict(zip((item.name for item in schema), node.args, strict=False)) | dict(node.kwargs)
    return {item.name: given.get(item.name, item.default_value) for item in schema}


def _call(node: fx.Node) -> Call:
    arguments = _arguments(node)
    called = Call(node=node.name, reads=arguments["input"].name, branch=_branch(node))
    if operator_name(node.target) == "linear":
        return called
    kernel = tuple(hint(size) for size in arguments["weight"].meta["val"].shape[2:])
    stride, dilation = (_each(arguments[name], len(kernel)) for name in ("stride", "dilation"))
    padding: Any = arguments["padding"]
    if isinstance(padding, str):
        totals = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        pairs = tuple((total // 2, total - total // 2) for total in totals)
    else:
        pairs = tuple((size, size) for size in _each(padding, len(kernel)))
    return replace(called, kernel=kernel, stride=stride, dilation=dilation, padding=pairs)


def _each(sizes: Any, rank: int) -> tuple[int, ...]:
    given = [sizes] if isinstance(sizes, int) else list(sizes)
    return tuple(given * rank if len(given) == 1 else given)


def _branch(node: fx.Node) -> Branch | None:
    norm, end = None, node
    while len(end.users) == 1:
        (user,) = end.users
        name = operator_name(user.target)
        if name == "batch_norm" and norm is None and user.args[0] is end and not user.args[5]:
            norm = end = user
        elif name == "dropout":  # of an evaluation graph
            end = user
        elif name == "add" and len(user.all_input_nodes) == 2 and user.kwargs.get("alpha", 1) == 1:
            (shortcut,) = (item for item in user.all_input_nodes if item is not end)
            if shortcut.op == "get_attr" or _shape(shortcut) != _shape(node):
                return None
            return Branch(addition=user.name, shortcut=shortcut.name, norm=norm)
        else:
            return None
    return None


def _shape(node: fx.Node) -> list[int]:
    return [hint(size) for size in node.meta["val"].shape]
