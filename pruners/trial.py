"""Which groups the module's own code lets shrink: tried on copies, one unit of each group at a time.

The graph says what could be removed; the module's Python code may have sizes written into it, or a training path with
further readers of a channel (auxiliary classifiers). Only running it tells.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from pruners.errors import SurgeryError
from pruners.groups import ChannelGroup
from pruners.module_form import resize_
from pruners.program import FOREIGN, first_line

__all__ = ["fix_what_breaks"]


def fix_what_breaks(
    model: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup]
) -> tuple[ChannelGroup, ...]:
    """Return the groups, those that the module's code does not let shrink with the reason in `fixed`.

    The last unit of each group goes, in copies of `model`; they run once in evaluation and once in training mode. If
    that fails, the groups at fault are found by bisection.
    """
    reasons: dict[str, str] = {}
    _search(model, inputs, [group for group in groups if group.prunable], False, reasons)
    if any(item.ndim and item.shape[0] == 1 for item in inputs):  # BatchNorm trains on two values at least
        inputs = tuple(torch.cat([item, item]) if item.ndim else item for item in inputs)
    left = [group for group in groups if group.prunable and group.name not in reasons]
    if _failure(model, inputs, left, True) and not _failure(model, inputs, [], True):
        _search(model, inputs, left, True, reasons)
    return tuple(replace(group, fixed=reasons.get(group.name, group.fixed)) for group in groups)


def _search(
    model: nn.Module, inputs: tuple[Tensor, ...], groups: list[ChannelGroup], training: bool, reasons: dict[str, str]
) -> None:
    failure = _failure(model, inputs, groups, training) if groups else ""
    if not failure:
        return
    if len(groups) == 1:
        where = "its training path" if training else "its code"
        reasons[groups[0].name] = f"the network can not run with fewer of these channels: {where} says {failure}"
        return
    middle = len(groups) // 2
    _search(model, inputs, groups[:middle], training, reasons)
    _search(model, inputs, groups[middle:], training, reasons)


def _failure(model: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[ChannelGroup], training: bool) -> str:
    gone: dict[str, dict[int, list[int]]] = {}
    for group in groups:
        for member in group.members:
            gone.setdefault(member.path, {}).setdefault(member.axis, []).extend(member.indices[-1])
    twin = copy.deepcopy(model).train(training)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            resize_(twin, gone)
            twin(*inputs)
    except (*FOREIGN, SurgeryError) as error:
        return first_line(error)
    return ""
