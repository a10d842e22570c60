"""What a plan removes, as rows: a group each, with what it keeps. The chart, the picture and the page draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.report.formatting import percent

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.plan import PruningPlan

__all__ = ["GroupRow", "bars", "group_rows"]

_NAME = 40
_KEPT, _GONE = "#", "."


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One group.

    Parameters
    ----------
    name : str
        Its first layer, and how many others make the same channels.
    kept, of : int
        Units; none are kept of a group whose residual block is removed.
    """

    name: str
    kept: int
    of: int

    @property
    def share(self) -> float:
        """Kept share, in [0, 1]."""
        return self.kept / self.of


def group_rows(plan: PruningPlan, graph: Graph | None = None) -> tuple[GroupRow, ...]:
    """List the groups that lose units; with the network's graph, every group that may be pruned, in its order."""
    if graph is None:
        return tuple(GroupRow(name=name, kept=len(kept), of=plan.sizes[name]) for name, kept in plan.kept.items())
    from pruners.decide.choices import producers

    rows, dropped = [], graph.dropped(plan)
    for group in graph.groups:
        if group.prunable:
            others = len(producers(group)) - 1
            name = f"{group.name} (+{others})" if others > 0 else group.name
            left = all(member.path in dropped for member in group.members)
            kept = () if left else plan.kept.get(group.name, range(group.n_units))
            rows.append(GroupRow(name=name, kept=len(kept), of=group.n_units))
    return tuple(rows)


def bars(rows: Sequence[GroupRow], width: int = 100) -> tuple[str, ...]:
    """Draw one line a group: its name, units kept and before, and a bar as long as the group is wide.

    Parameters
    ----------
    rows : sequence of GroupRow
        See there.
    width : int, default=100
        Characters of the longest line.
    """
    names = [_short(row.name) for row in rows]
    of = max((len(str(row.of)) for row in rows), default=1)
    heads = [
        f"{name:<{max(map(len, names))}}  {row.kept:>{of}} of {row.of:>{of}}  {percent(row.share):>5}"
        for name, row in zip(names, rows, strict=True)
    ]
    room = width - max(map(len, heads), default=0) - 2
    widest = max((row.of for row in rows), default=1)
    return tuple(f"{head}  {_bar(row, room / widest)}" for head, row in zip(heads, rows, strict=True))


def _bar(row: GroupRow, scale: float) -> str:
    """Show of a group that lost units what it lost and what it kept, however short the bar."""
    whole = max(2, round(row.of * scale)) if row.kept < row.of else max(1, round(row.of * scale))
    kept = whole if row.kept == row.of else min(max(min(1, row.kept), round(row.kept * scale)), whole - 1)
    return _KEPT * kept + _GONE * (whole - kept)


def _short(name: str) -> str:
    if len(name) <= _NAME:
        return name
    head = (_NAME - 3) // 2
    return f"{name[:head]}...{name[head + 3 - _NAME :]}"
