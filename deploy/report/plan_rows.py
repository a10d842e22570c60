"""What a plan removes from each group: counts, a table of them, and bars for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.bundles.pruning import GroupCount, PruningRecord
from deploy.report.formatting import percent
from deploy.report.table import Table, left

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.plan import PruningPlan

__all__ = ["bars", "group_rows", "group_table", "shorten"]

_NAME = 40
_KEPT, _GONE = "#", "."


def group_rows(plan: PruningPlan, graph: Graph | None = None) -> tuple[GroupCount, ...]:
    """List the groups that lose units; with the network's graph, every prunable group, in graph order.

    A group is named after its first layer, plus the number of other layers that produce the same channels. A group
    whose residual block is removed keeps none.
    """
    if graph is None:
        return PruningRecord.of(plan.kept, plan.sizes).groups
    from pruners.decide.choices import producers  # late: it imports torch

    rows, dropped = [], graph.dropped(plan)
    for group in graph.groups:
        if group.prunable:
            others = len(producers(group)) - 1
            name = f"{group.name} (+{others})" if others > 0 else group.name
            removed = all(member.path in dropped for member in group.members)
            kept = () if removed else plan.kept.get(group.name, range(group.n_units))
            rows.append(GroupCount(name=name, kept=len(kept), of=group.n_units))
    return tuple(rows)


def group_table(pruning: PruningRecord, title: str) -> Table:
    """Count the units of each group before and after; the caption names the residual blocks that are removed."""
    blocks = f"Removed residual blocks: {', '.join(pruning.blocks)}. " if pruning.blocks else ""
    return Table(
        title,
        (*left("group"), "kept", "of", "share"),
        tuple((row.name, str(row.kept), str(row.of), percent(row.share)) for row in pruning.groups),
        caption=f"{blocks}All other groups keep everything.",
    )


def bars(rows: Sequence[GroupCount], width: int = 100) -> tuple[str, ...]:
    """Draw one line per group: name, kept units, units before, and a bar whose length is the group's width.

    Parameters
    ----------
    rows : sequence of GroupCount
        In drawing order.
    width : int, default=100
        Length of the longest line, in characters.
    """
    names = [shorten(row.name, _NAME, "...") for row in rows]
    of = max((len(str(row.of)) for row in rows), default=1)
    heads = [
        f"{name:<{max(map(len, names))}}  {row.kept:>{of}} of {row.of:>{of}}  {percent(row.share):>5}"
        for name, row in zip(names, rows, strict=True)
    ]
    room = width - max(map(len, heads), default=0) - 2
    widest = max((row.of for row in rows), default=1)
    return tuple(f"{head}  {_bar(row, room / widest)}" for head, row in zip(heads, rows, strict=True))


def shorten(name: str, length: int, dots: str) -> str:
    """Shorten a long name in the middle."""
    if len(name) <= length:
        return name
    head = (length - len(dots)) // 2
    return f"{name[:head]}{dots}{name[head + len(dots) - length :]}"


def _bar(row: GroupCount, scale: float) -> str:
    """Draw a bar; if the group lost units, both parts are visible, however short the bar."""
    drawn = max(2, round(row.of * scale)) if row.kept < row.of else max(1, round(row.of * scale))
    kept = drawn if row.kept == row.of else min(max(min(1, row.kept), round(row.kept * scale)), drawn - 1)
    return _KEPT * kept + _GONE * (drawn - kept)
