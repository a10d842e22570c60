"""The random baseline: draws how many units each group keeps, and which ones."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random as Generator
from typing import TYPE_CHECKING, ClassVar

from pruners.base import Method, Outcome, counts_of, plan_of
from pruners.decide.budget import Budget
from pruners.decide.choices import Choices
from pruners.decide.counts import counts_along
from pruners.decide.units import top_units

if TYPE_CHECKING:
    from pruners.graph import Graph
    from pruners.task import PruningTask

__all__ = ["Random"]


class Random(Method):
    """Draw how many units each group keeps, then which (seeded).

    Group ``g`` keeps the fraction ``u_g ** t`` of its units: ``u_g`` is drawn uniformly from (0, 1), and ``t >= 0`` is
    the smallest common exponent that meets the target. So every group is thinned, some a little and some a lot, and
    the result lands on the target. Ranking all units of the network by one random number each, as some do, would
    instead keep nearly the same fraction everywhere: that is the `uniform` baseline, see its docstring.

    With a target of ratios the counts are given, and only the units are drawn.
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "baseline, no paper"

    def _decide(self, task: PruningTask, graph: Graph) -> Outcome:
        draw = Generator(task.seed)

        def random_counts(choices: Choices, budget: Budget) -> dict[str, int]:
            # 1 - random() is in (0, 1]; the lower bound keeps powers of it above zero for every exponent.
            bases = {name: max(1.0 - draw.random(), 1e-3) for name in choices.legal}

            def fractions(strength: float) -> Mapping[str, float]:
                if strength == 1.0:
                    return dict.fromkeys(bases, 0.0)
                exponent = strength / (1.0 - strength)
                return {name: base**exponent for name, base in bases.items()}

            return counts_along(fractions, choices, budget)

        counts = counts_of(task, graph, random_counts)
        scores = {name: [draw.random() for _ in range(graph.group(name).n_units)] for name in counts}
        return Outcome(plan=plan_of(self, graph, top_units(scores, counts)))
