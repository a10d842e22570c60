"""Label the tensors of a network and carry the labels through its programs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

import pruners.channels.rules.contraction
import pruners.channels.rules.elementwise
import pruners.channels.rules.movement
import pruners.channels.rules.recurrent
import pruners.channels.rules.reduction
import pruners.channels.rules.spectral
import pruners.channels.rules.windows  # noqa: F401 - each import registers rules
from pruners.channels.labels import Labels, Value
from pruners.channels.program import Program, named_tensors
from pruners.channels.propagation import Propagation, operator_name
from pruners.modules.precision import varies
from pruners.policy import Policy

__all__ = ["label_tensors", "walk_program"]


def label_tensors(model: nn.Module, labels: Labels, program: Program) -> dict[str, Value]:
    """Label every entry along every axis of every real or complex parameter and buffer.

    Positions of kernels get no labels: a convolution slides over them, so they stay.

    Returns
    -------
    dict of str to Value
        Labels by tensor name; of a shared tensor, by its first name.
    """
    values: dict[str, Value] = {}
    seen: set[int] = set()
    kernels = _kernels(program)
    for name, tensor in named_tensors(model).items():
        if id(tensor) in seen or not varies(tensor):
            continue
        seen.add(id(tensor))
        shape = tuple(tensor.shape)
        slots = tuple(
            labels.fresh(size).reshape([1] * axis + [-1] + [1] * (len(shape) - axis - 1))
            for axis, size in enumerate(shape[:2] if name in kernels else shape)
            if size > 1
        )
        values[name] = Value(shape, slots)
    return values


def _kernels(program: Program) -> set[str]:
    """Return names of tensors that convolution weights are computed from, of the same rank and kernel size."""
    kernels: set[str] = set()
    for node in program.module.graph.nodes:
        if not operator_name(node.target).startswith("conv"):
            continue
        weight = node.args[1]
        space = weight.meta["val"].shape[2:]
        ahead, seen = [weight], {weight}
        while ahead:
            one = ahead.pop()
            if one.op == "get_attr":
                if str(one.target) in program.tensors and one.meta["val"].shape[2:] == space:
                    kernels.add(program.tensors[str(one.target)])
                continue
            ahead += [item for item in one.all_input_nodes if item not in seen]
            seen.update(one.all_input_nodes)
    return kernels


def walk_program(
    program: Program,
    tensors: Mapping[str, Value],
    labels: Labels,
    policy: Policy,
    evaluation: Propagation | None = None,
) -> Propagation:
    """Carry the labels of `tensors` (by the model's names) through a program; the caller calls `labels.close`."""
    fetched = {target: tensors[name] for target, name in program.tensors.items() if name in tensors}
    walk = Propagation(tensors=fetched, names=program.tensors, labels=labels, policy=policy, evaluation=evaluation)
    walk.walk(program.module)
    return walk
