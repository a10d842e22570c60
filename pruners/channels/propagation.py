"""Carry labels through an exported graph: one visit per node, one rule per operator; without a rule, labels lock.

The rules live in the modules of `pruners.channels.rules`, by kind of operator, and are registered by name in `RULES`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from pruners.channels.labels import Labels, Lock, Value, varying
from pruners.channels.outputs import output_names, wanted_outputs
from pruners.errors import TraceError
from pruners.policy import Policy

__all__ = ["RULES", "MacTerm", "Propagation", "always", "hint", "operator_name", "rule"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Operator name, as returned by `operator_name` -> rule."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule ``f(propagation, *args, **kwargs) -> Value | list of Value`` for ATen operators."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def always(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule that also runs on unlabelled inputs, because it counts MACs or makes labels."""

    def register(function: Rule) -> Rule:
        function.runs_unlabelled = True  # type: ignore[attr-defined]
        return rule(*names)(function)

    return register


@dataclass(frozen=True, slots=True, eq=False)
class MacTerm:
    """MACs of one contraction: the product of the sizes of `axes`, each an axis of a tensor; and its result."""

    node: str
    axes: tuple[tuple[Value, int], ...]
    result: Value


@dataclass(eq=False)
class Propagation:
    """State of one walk through the graph, and what the rules need.

    Parameters
    ----------
    tensors : Mapping of str to Value
        Labelled parameters and float buffers by the name under which the graph fetches them.
    names : Mapping of str to str
        Name of a tensor in the graph -> its name in the model.
    labels : Labels
        Shared by all walks through one network.
    policy : Policy
        What to prune where there is a choice; choices made here are added to it.
    computed : dict of str to str
        Parameter, by the name under which the graph fetches it -> node of the weight that is computed from it.
    evaluation : Propagation, optional
        For a program in training mode, the walk through the one in evaluation mode: channels that may shrink in the
        outputs of evaluation may shrink in those of training.
    outputs : list of (object, bool)
        After the walk, what the network returns and whether its channels stay.
    """

    tensors: Mapping[str, Value]
    names: Mapping[str, str]
    labels: Labels
    policy: Policy
    evaluation: Propagation | None = None
    values: dict[str, Any] = field(default_factory=dict)
    every: list[Value] = field(default_factory=list)
    mac_terms: list[MacTerm] = field(default_factory=list)
    parts: list[tuple[Value, int]] = field(default_factory=list)
    produced: dict[int, int] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    carriers: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    computed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: list[tuple[Any, bool]] = field(default_factory=list)
    node: fx.Node = field(init=False)
    parameters: frozenset[str] = frozenset()
    order: int = 0

    def walk(self, module: fx.GraphModule) -> None:
        """Visit every node of the graph once, in order."""
        self.every.extend(self.tensors.values())
        self.parameters = frozenset(name for name, _ in module.named_parameters(remove_duplicate=False))
        for self.order, self.node in enumerate(module.graph.nodes):
            if self.node.op == "placeholder" or any(item.name in self.active for item in self.node.all_input_nodes):
                self.active.add(self.node.name)
            result = self._visit(module, self.node)
            self.values[self.node.name] = result
            self.every.extend(item for item in _flat(result) if isinstance(item, Value))

    def _visit(self, module: fx.GraphModule, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.plain(node.meta.get("val"))
        if node.op == "get_attr":
            name = str(node.target)
            if name in self.tensors:
                return self.tensors[name]
            target = operator.attrgetter(name)(module)
            return Value(tuple(target.shape)) if isinstance(target, Tensor) else None
        args = fx.map_arg(node.args, lambda n: self.values[n.name])
        kwargs = fx.map_arg(node.kwargs, lambda n: self.values[n.name])
        if node.op == "output":
            self._return(module, _flat(args))
            return None
        if node.target is operator.getitem:
            several, position = args
            if isinstance(several, (list, tuple)) and isinstance(position, int):
                return several[position]
            return self.plain(node.meta.get("val"))
        return self._apply(node, args, kwargs)

    def _return(self, module: fx.GraphModule, items: Sequence[Any]) -> None:
        if self.evaluation is None:
            names = output_names(module)
            wanted = wanted_outputs(names, self.policy.outputs)
            self.outputs = [(item, name in wanted) for name, item in zip(names, items, strict=True)]
        else:
            free = self.evaluation.free_labels()
            self.outputs = [(item, not free.issuperset(_labels_of(item))) for item in items]
        for item, stays in self.outputs:
            if stays and isinstance(item, Value):
                self.lock(item.slots, Lock("its channels are an output of the network"))

    def free_labels(self) -> set[int]:
        """Return the labels of the outputs that may shrink."""
        return {label for item, stays in self.outputs if not stays for label in _labels_of(item)}

    def _apply(self, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        labelled = [item for item in _flat((args, dict(kwargs))) if isinstance(item, Value) and item.slots]
        if not labelled:
            return self._unlabelled(node, args, kwargs)
        target = node.target
        name = operator_name(target)
        known = RULES.get(name)
        if known is not None:
            return known(self, *args, **kwargs)
        if isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags:
            return RULES["pointwise"](self, *args, **kwargs)
        if isinstance(node.meta.get("val"), (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self.plain(node.meta["val"])
        return self.refuse(labelled, f"{target} is unknown to the label engine")

    def _unlabelled(self, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Apply the few rules that also run without labels."""
        known = RULES.get(operator_name(node.target))
        if known is not None and getattr(known, "runs_unlabelled", False):
            return known(self, *args, **kwargs)
        return self.plain(node.meta.get("val"))

    def plain(self, val: Any) -> Any:
        """Return the unlabelled value for what the exporter recorded for a node."""
        if isinstance(val, Tensor):
            return Value(tuple(hint(size) for size in val.shape))
        if isinstance(val, (list, tuple)):
            return [self.plain(item) for item in val]
        if isinstance(val, torch.SymInt):
            return hint(val)
        if isinstance(val, (torch.SymFloat, torch.SymBool)):
            return None
        return val

    def name_of(self, weight: Any, layer: fx.Node) -> str:
        """Return the model's name of the weight of a layer, or the layer's name where the weight is computed."""
        if isinstance(weight, fx.Node) and weight.op == "get_attr" and str(weight.target) in self.names:
            return self.names[str(weight.target)]
        return layer.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that the current node returns."""
        return tuple(hint(size) for size in self.node.meta["val"].shape)

    def refuse(self, values: Sequence[Value], reason: str) -> Any:
        """Lock everything that the current node touches; its result has no labels."""
        self.unknown[self.node.name] = reason
        self.refused[self.node.name] = [slot for value in values for slot in value.slots]
        self.lock(self.refused[self.node.name], Lock(reason))
        return self.plain(self.node.meta.get("val"))

    def part(self, value: Value, axis: int) -> None:
        """Record a part of an axis: its units form a group of their own, so that some of them stay."""
        if any(slot.shape[axis] > 1 for slot in value.slots):
            self.parts.append((value, axis))

    def lock(self, slots: Sequence[Tensor], lock: Lock) -> None:
        """Lock all labels of `slots`."""
        for slot in slots:
            self.labels.lock(slot, lock)

    def flag(self, value: Value, axes: Sequence[int]) -> None:
        """Flag the labels that a statistic is taken over; see `Labels.flag`."""
        for slot in value.slots:
            if any(slot.shape[axis] > 1 for axis in axes):
                self.labels.flag(slot, axes)

    def weigh(self, slots: Sequence[Tensor]) -> None:
        """Record what the current node sums over, if it computes with weights only; see `Labels.weigh`."""
        for slot in slots if self.node.name not in self.active else ():
            self.labels.weigh(slot)

    def inexact(self) -> set[int]:
        """Return the classes that a statistic is taken over; see `Labels.inexact`."""
        active = (item for name in self.active for item in _flat(self.values[name]) if isinstance(item, Value))
        return self.labels.inexact(slot for value in active for slot in value.slots)

    def flag_compared(self, values: Sequence[Value], axis: int) -> None:
        """Flag what is compared with a weight along an axis: a masked channel is zero, the weight is not."""
        if any(isinstance(item, fx.Node) and item.name not in self.active for item in self.node.args[: len(values)]):
            for value in values:
                self.flag(value, [axis % len(value.shape)])

    def tie(self, slot: Tensor, axes: Sequence[int]) -> Tensor:
        """Tie a slot along `axes`; see `Labels.tie`."""
        return self.labels.tie(slot, axes, Lock(f"{self.node.name} ties all its channels"))

    def mark_produced(self, slots: Sequence[Tensor]) -> None:
        """Record the labels of `slots` as produced by the current node.

        If its weight is computed (masked, normalised), record those of the parameter that it is computed from.
        """
        for slot in slots:
            for label in self._stored(slot).reshape(-1).tolist():
                self.produced.setdefault(label, self.order)

    def _stored(self, slot: Tensor) -> Tensor:
        for operand in self.node.all_input_nodes:
            value, stored = self.values[operand.name], self._stored_as(operand)
            if stored is None:
                continue
            axes = [varying(own) for own in value.slots if _holds(own, slot)]
            for own in self.tensors[stored].slots:
                if varying(own) in axes:
                    self.computed[stored] = operand.name
                    return own
        return slot

    def _stored_as(self, operand: fx.Node) -> str | None:
        """Return the parameter of the same shape that a weight is computed from."""
        value = self.values[operand.name]
        if operand.name in self.active or operand.op == "get_attr" or not isinstance(value, Value):
            return None
        ahead = [operand]
        for one in ahead:
            name = str(one.target)
            if one.op == "get_attr" and name in self.parameters and name in self.tensors:
                if self.tensors[name].shape == value.shape:
                    return name
                continue
            ahead += [item for item in one.all_input_nodes if item not in ahead]
        return None

    def join(self, operands: Sequence[Value], *, wait: bool = True) -> Value:
        """Broadcast operands against each other, element by element: labels that meet are united.

        Parameters
        ----------
        operands : sequence of Value
        wait : bool, default=True
            Whether a slot that lacks some of the axes of another one waits (`Labels.defer`) until it is known along
            which axis that one is pruned.
        """
        rank = max(len(operand.shape) for operand in operands)
        shapes = [(1,) * (rank - len(operand.shape)) + operand.shape for operand in operands]
        slots = [
            (owner, slot.reshape((1,) * (rank - slot.ndim) + slot.shape))
            for owner, operand in enumerate(operands)
            for slot in operand.slots
        ]
        clusters: list[tuple[set[int], list[tuple[int, Tensor]]]] = []
        for owner, slot in slots:
            axes, members = set(varying(slot)), [(owner, slot)]
            for cluster in [c for c in clusters if c[0] & axes]:
                clusters.remove(cluster)
                axes, members = axes | cluster[0], cluster[1] + members
            clusters.append((axes, members))
        merged = (self._merge(axes, members, shapes, wait=wait) for axes, members in clusters)
        shape = tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*shapes, strict=True))
        return Value(shape, tuple(slot for slot in merged if slot.numel() > 1))

    def _merge(
        self, axes: set[int], members: list[tuple[int, Tensor]], shapes: Sequence[tuple[int, ...]], *, wait: bool
    ) -> Tensor:
        """Unite slots that meet on some axis; tie or lock what meets a tensor that cannot shrink with it."""
        lock = Lock(f"{self.node.name} joins it with a tensor that cannot shrink")
        members = sorted(members, key=lambda member: -len(varying(member[1])))
        first = members[0][1]
        for _, slot in members[1:]:
            if wait and set(varying(slot)) < set(varying(first)):
                self.labels.defer(first, slot, lock)
                continue
            self.labels.unite(first, slot, lock)
            if slot.numel() > 1 and any(a == 1 < b for a, b in zip(first.shape, slot.shape, strict=True)):
                first = first.expand([max(sizes) for sizes in zip(first.shape, slot.shape, strict=True)])
        for owner, shape in enumerate(shapes):
            covered = {axis for o, slot in members if o == owner for axis in varying(slot)}
            held = [axis for axis in axes if shape[axis] > 1 and axis not in covered]
            if set(held) >= set(varying(first)):
                self.labels.lock(first, lock)
            else:
                first = self.labels.tie(first, held, lock)
        return first


def _holds(slot: Tensor, part: Tensor) -> bool:
    labels = part.reshape(-1)
    return bool(labels.any()) and bool(torch.isin(labels[labels > 0][0], slot))


def operator_name(target: Any) -> str:
    """Return the name of an operator without overload and in-place underscore, for ATen without namespace.

    Empty for anything but an operator.
    """
    if not isinstance(target, torch._ops.OpOverload):
        return ""
    name = str(target._schema.name).removeprefix("aten::")
    return name if name.endswith("__") else name.removesuffix("_")


def hint(size: Any) -> int:
    """Return the size that a symbolic size had while exporting.

    Raises
    ------
    TraceError
        It had none: the size of a tensor depends on values, as with a boolean index.
    """
    node: Any = size.node if isinstance(size, torch.SymInt) else None
    if node is None:
        return int(size)
    if node.hint is None:
        raise TraceError(
            "the network computes a tensor whose size depends on values (a boolean index, nonzero): leave that part "
            "out of what is pruned"
        )
    return int(node.hint)


def _labels_of(item: Any) -> set[int]:
    return {label for slot in item.slots for label in slot.reshape(-1).tolist()} if isinstance(item, Value) else set()


def _flat(item: Any) -> list[Any]:
    if isinstance(item, (list, tuple)):
        return [leaf for part in item for leaf in _flat(part)]
    if isinstance(item, dict):
        return [leaf for part in item.values() for leaf in _flat(part)]
    return [item]
