"""What was requested of the pruned network, in words; terminal and page say the same."""

from __future__ import annotations

from typing import NamedTuple

from deploy.report.answer.records import Answer
from deploy.report.formatting import difference_unit, ratio

__all__ = ["Wish", "wishes_of"]


class Wish(NamedTuple):
    """One request and its outcome."""

    name: str
    words: str
    verdict: str
    met: bool


def wishes_of(answer: Answer) -> tuple[Wish, ...]:
    """Return what was requested and the outcome: each speed-up, and the allowed drop.

    Parameters
    ----------
    answer : Answer
        Answer of results.
    """
    wishes = []
    for one in answer.asked:
        threads = "1 thread" if one.threads == 1 else f"{one.threads} threads"
        words = f"asked {ratio(one.asked)} on {one.backend}, {threads}; got {ratio(one.got)}"
        wishes.append(Wish("target", words, "ok" if one.met else "MISSED", one.met))
    if (drop := answer.drop) is not None:
        unit = difference_unit(drop.metric)
        # Subtracted from 0, so that no change is +0.00, not -0.00.
        parts = [f"{drop.kept}: {0.0 - drop.lost:+.2f} {unit} on validation, {0.0 - drop.allowed:g} allowed"]
        parts += [f"{asked}: {'out of reach' if lost is None else f'{0.0 - lost:+.2f}'}" for asked, lost in drop.others]
        wishes.append(Wish("max drop", "; ".join(parts), "ok" if drop.reached else "TARGET NOT REACHED", drop.reached))
    return tuple(wishes)
