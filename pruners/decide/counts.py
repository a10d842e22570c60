"""How many units each group keeps without ranking across groups: by given ratios, or along a curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pruners.decide.budget import Budget
from pruners.decide.choices import Choices, groups_by_ratio
from pruners.errors import NothingToPruneError
from pruners.groups import ChannelGroup

__all__ = ["counts_along", "ratio_counts"]

_BISECTIONS = 60


def ratio_counts(choices: Choices, groups: Iterable[ChannelGroup], ratios: Mapping[str, float]) -> dict[str, int]:
    """Return the kept counts for given ratios.

    ``kept = floor(n_units * (1 - removed))`` as in Li et al. 2017, then the nearest legal count; constraints win over
    ratios. Groups that no pattern matches stay whole.

    Raises
    ------
    SelectorError
        A pattern matches no group.
    NothingToPruneError
        Every named group stays whole.
    """
    counts, whole = choices.ceiling, choices.whole
    for name, removed in groups_by_ratio(groups, ratios).items():
        if name in counts:
            # 1e-9: 10 * (1 - 0.9) is 0.9999999999999998 in floating point, and one unit is meant.
            counts[name] = choices.nearest(name, int(whole[name] * (1.0 - removed) + 1e-9))
    if counts == whole:
        raise NothingToPruneError(f"the ratios {dict(ratios)} remove no unit under the constraints")
    return counts


def counts_along(fractions: Callable[[float], Mapping[str, float]], choices: Choices, budget: Budget) -> dict[str, int]:
    """Follow a curve from the whole network (strength 0) to the smallest (1) until the budget is met.

    The weakest strength that meets the budget is found by bisection; each count is the nearest legal one to
    ``fraction * size``. Rounding makes many groups step at once, so each group is then given back one legal step while
    the budget still holds, groups furthest below their fraction first. No group ends more than that one step above its
    fraction's count, unless landing on the budget takes more.

    Parameters
    ----------
    fractions : callable
        ``fractions(strength)``: kept fraction of each group, in [0, 1]; all 1 at strength 0, all 0 at strength 1, and
        never rising in between.
    choices : Choices
        Legal counts of each group.
    budget : Budget
        The limit, and what counts cost.

    Raises
    ------
    TargetError
        The budget is not reachable.
    """
    budget.require_reachable(choices)

    def counts_at(strength: float) -> dict[str, int]:
        return {name: choices.nearest(name, share * whole[name]) for name, share in fractions(strength).items()}

    whole = choices.whole
    weak, strong = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (weak + strong) / 2
        if budget.met(counts_at(middle)):
            strong = middle
        else:
            weak = middle
    counts = counts_at(strong)
    wanted = fractions(strong)

    def give_back() -> bool:
        stepped = False
        for name in sorted(counts, key=lambda name: counts[name] / whole[name] - wanted[name]):
            larger = choices.above(name, counts[name])
            if larger is not None and budget.met({**counts, name: larger}):
                counts[name] = larger
                stepped = True
        return stepped

    while give_back() and not budget.landed(counts):
        pass
    return counts
