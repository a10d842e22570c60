"""Plans in words and tables: what one removes, how two differ, what became of a pattern, what a check found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.report.sheets import Sheet
from deploy.report.words import NOTHING, count, percent, ratio

if TYPE_CHECKING:
    from deploy.plans.carried import Carried
    from deploy.plans.difference import GroupDifference
    from pruners.graph import Graph
    from pruners.plan import PruningPlan
    from pruners.verify import Verification

__all__ = [
    "cost_sheet",
    "difference_sheet",
    "difference_words",
    "headline",
    "settings_lines",
    "stage_sheet",
    "verification_words",
]


def headline(plan: PruningPlan) -> str:
    """Say in one sentence what a plan removes."""
    of = sum(plan.sizes.values())
    inputs = ", ".join("x".join(map(str, spec.shape)) for spec in plan.inputs)
    what = f"removes {plan.removed_units} of {of} units in {len(plan.kept)} groups" if plan.kept else "removes nothing"
    return f"{plan.method} {what}; graph {plan.graph[:12]}, traced with {inputs}"


def settings_lines(plan: PruningPlan, width: int) -> tuple[str, ...]:
    """Write one line a setting, cut where it is long."""
    lines = []
    for key, value in plan.settings.items():
        line = f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"
        lines.append(line if len(line) <= width else f"{line[: width - 3]}...")
    return tuple(lines)


def cost_sheet(graph: Graph, plans: Sequence[tuple[str, PruningPlan]]) -> Sheet:
    """Tell FLOPs and parameters of the dense network and of each plan, for one example."""
    counts = [{name: len(kept) for name, kept in plan.kept.items()} for _, plan in plans]
    rows = []
    for title, factor, cost in (("FLOPs", 2, graph.macs), ("MACs", 1, graph.macs), ("parameters", 1, graph.parameters)):
        dense, after = factor * cost(), [factor * cost(kept) for kept in counts]
        ratios = [ratio(dense / value) if value else NOTHING for value in after]
        cells = [cell for pair in zip(map(count, after), ratios, strict=True) for cell in pair]
        rows.append((title, count(dense), *cells))
    columns = tuple(name for label, _ in plans for name in (label, "fewer"))
    return Sheet(
        "On paper, for one example",
        ("", "dense", *columns),
        tuple(rows),
        caption="FLOPs = 2 x MACs. Fewer: dense / pruned. What it buys in time is measured, not counted.",
    )


def difference_words(found: Sequence[GroupDifference]) -> str:
    """Say whether two plans keep the same units."""
    different = [row for row in found if not row.equal]
    if not different:
        return f"A and B keep the same units in all {len(found)} groups that they name."
    alone = sum(row.kept_a + row.kept_b - 2 * row.common for row in different)
    mean = sum(row.jaccard for row in found) / len(found)
    return (
        f"A and B differ in {len(different)} of the {len(found)} groups that they name: {alone} units are kept by one "
        f"of them alone; mean overlap {percent(mean)}."
    )


def difference_sheet(found: Sequence[GroupDifference]) -> Sheet:
    """Tell of the groups that differ."""
    rows = tuple(
        (
            row.name,
            str(row.of),
            str(row.kept_a),
            str(row.kept_b),
            f"{row.kept_b - row.kept_a:+d}",
            str(row.common),
            percent(row.jaccard),
        )
        for row in found
        if not row.equal
    )
    return Sheet(
        "Groups that differ",
        ("group", "units", "A keeps", "B keeps", "B - A", "both", "overlap"),
        rows,
        caption="Overlap (Jaccard): units that both keep / units that A or B keeps.",
    )


def stage_sheet(carried: Carried) -> Sheet:
    """Tell what became of each stage."""
    rows = tuple(
        (
            stage.name,
            str(stage.groups_from) if stage.groups_from else NOTHING,
            NOTHING if stage.share is None else percent(stage.share, 1),
            str(stage.groups_to) if stage.groups_to else NOTHING,
            f"{stage.kept} of {stage.of}" if stage.of else NOTHING,
        )
        for stage in carried.stages
    )
    said = {
        "A stage that the pattern does not know stays whole.": any(stage.share is None for stage in carried.stages),
        "One that the new network lacks is left out.": any(not stage.groups_to for stage in carried.stages),
    }
    return Sheet(
        "Stages",
        ("stage", "groups before", "kept share", "groups now", "units kept"),
        rows,
        caption=" ".join(words for words, needed in said.items() if needed),
    )


def verification_words(found: Verification) -> str:
    """Say what comparing masked and compact network gave."""
    return (
        f"Masked equals compact: {found.removed_channels} channels removed, largest difference "
        f"{found.relative_error:.1e} of the output's range (allowed {found.tolerance:.0e}), while masking moves it by "
        f"{percent(max(found.sensitivity, found.probe_sensitivity))}."
    )
