"""Plans in words and tables: what one removes, how two differ, what became of a pattern, what a check found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from deploy.report.formatting import NOTHING, count, percent, ratio
from deploy.report.tables import Table

if TYPE_CHECKING:
    from deploy.plans.difference import PlanDifference
    from deploy.plans.transferred import TransferredPlan
    from pruners.graph import Graph
    from pruners.plan import PruningPlan
    from pruners.verify import Verification

__all__ = [
    "cost_table",
    "difference_table",
    "difference_words",
    "headline",
    "settings_lines",
    "stage_table",
    "verification_words",
]


def headline(plan: PruningPlan) -> str:
    """Say in one sentence what a plan removes."""
    of = sum(plan.sizes.values())
    inputs = ", ".join("x".join(map(str, spec.shape)) for spec in plan.inputs)
    parts = [f"{plan.removed_units} of {of} units in {len(plan.kept)} groups"] if plan.kept else []
    parts += [f"{len(plan.blocks)} residual {'block' if len(plan.blocks) == 1 else 'blocks'}"] if plan.blocks else []
    return f"{plan.method} removes {' and '.join(parts) or 'nothing'}; graph {plan.graph[:12]}, traced with {inputs}"


def settings_lines(plan: PruningPlan, width: int) -> tuple[str, ...]:
    """Write one line a setting, cut where it is long, and all residual blocks that are removed."""
    lines = []
    for key, value in plan.settings.items():
        line = f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"
        lines.append(line if len(line) <= width else f"{line[: width - 3]}...")
    if plan.blocks:
        lines += wrap(f"removed blocks: {', '.join(plan.blocks)}", width, initial_indent="  ", subsequent_indent="    ")
    return tuple(lines)


def cost_table(graph: Graph, plans: Sequence[tuple[str, PruningPlan]]) -> Table:
    """Tell FLOPs and parameters of the dense network and of each plan, for one example."""
    removed = [({name: len(kept) for name, kept in plan.kept.items()}, plan.blocks) for _, plan in plans]
    rows = []
    for title, factor, cost in (("FLOPs", 2, graph.macs), ("MACs", 1, graph.macs), ("parameters", 1, graph.parameters)):
        dense, after = factor * cost(), [factor * cost(kept, blocks) for kept, blocks in removed]
        ratios = [ratio(dense / value) if value else NOTHING for value in after]
        cells = [cell for pair in zip(map(count, after), ratios, strict=True) for cell in pair]
        rows.append((title, count(dense), *cells))
    columns = tuple(name for label, _ in plans for name in (label, "fewer"))
    return Table(
        "On paper, for one example",
        ("", "dense", *columns),
        tuple(rows),
        caption="FLOPs = 2 x MACs. Fewer: dense / pruned. What it buys in time is measured, not counted.",
    )


def difference_words(found: PlanDifference) -> tuple[str, ...]:
    """Say whether two plans remove the same."""
    different = [row for row in found.groups if not row.equal]
    if found.equal:
        return (f"A and B keep the same units in all {len(found.groups)} groups that they name.",)
    told = []
    if different:
        alone = sum(row.kept_a + row.kept_b - 2 * row.common for row in different)
        mean = sum(row.jaccard for row in found.groups) / len(found.groups)
        told.append(
            f"A and B differ in {len(different)} of the {len(found.groups)} groups that they name: {alone} units are "
            f"kept by one of them alone; mean overlap {percent(mean)}."
        )
    for label, blocks in (("A", found.blocks_a), ("B", found.blocks_b)):
        if blocks:
            told.append(f"{label} alone removes the residual blocks {', '.join(blocks)}.")
    return tuple(told)


def difference_table(found: PlanDifference) -> Table:
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
        for row in found.groups
        if not row.equal
    )
    return Table(
        "Groups that differ",
        ("group", "units", "A keeps", "B keeps", "B - A", "both", "overlap"),
        rows,
        caption="Overlap (Jaccard): units that both keep / units that A or B keeps.",
    )


def stage_table(transferred: TransferredPlan) -> Table:
    """Tell what became of each stage."""
    rows = tuple(
        (
            stage.name,
            str(stage.groups_from) if stage.groups_from else NOTHING,
            NOTHING if stage.share is None else percent(stage.share, 1),
            str(stage.groups_to) if stage.groups_to else NOTHING,
            f"{stage.kept} of {stage.of}" if stage.of else NOTHING,
        )
        for stage in transferred.stages
    )
    said = {
        "A stage that the pattern does not know stays whole.": any(stage.share is None for stage in transferred.stages),
        "One that the new network lacks is left out.": any(not stage.groups_to for stage in transferred.stages),
        "Removed residual blocks are not transferred: they have no counterpart.": transferred.blocks_left_behind > 0,
    }
    return Table(
        "Stages",
        ("stage", "groups before", "kept share", "groups now", "units kept"),
        rows,
        caption=" ".join(words for words, needed in said.items() if needed),
    )


def verification_words(found: Verification, form_reason: str) -> tuple[str, ...]:
    """Say what comparing masked and compact network gave, and in which form the compact one is."""
    told = [
        f"Masked equals compact: {found.removed_channels} channels removed, largest difference "
        f"{found.relative_error:.1e} of the output's range (allowed {found.tolerance:.0e}), while masking moves it by "
        f"{percent(max(found.sensitivity, found.probe_sensitivity))}."
    ]
    if found.reference == "masked values":
        told.append("Compared with masked values: statistics are taken over the channels and blocks that stay.")
    if form_reason:
        told.append(f"The network is in graph form: {form_reason}.")
    return tuple(told)
