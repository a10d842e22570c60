"""Plans as text and tables: what one removes, how two differ, how one was transferred, how it was checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from deploy.bundles.pruning import PruningRecord
from deploy.plans.difference import PlanDifference
from deploy.report.formatting import NOTHING, count, percent, ratio
from deploy.report.table import Table, left

if TYPE_CHECKING:
    from deploy.plans.transferred import TransferredPlan
    from pruners.graph import Graph
    from pruners.plan import PruningPlan

__all__ = [
    "cost_table",
    "difference_lines",
    "difference_table",
    "headline",
    "proof_lines",
    "settings_lines",
    "stage_table",
]


def headline(plan: PruningPlan) -> str:
    """Write in one sentence what a plan removes."""
    of = sum(plan.sizes.values())
    inputs = ", ".join("x".join(map(str, spec.shape)) for spec in plan.inputs)
    parts = [f"{plan.removed_units} of {of} units in {len(plan.kept)} groups"] if plan.kept else []
    parts += [f"{len(plan.blocks)} residual {'block' if len(plan.blocks) == 1 else 'blocks'}"] if plan.blocks else []
    return f"{plan.method} removes {' and '.join(parts) or 'nothing'}; graph {plan.graph[:12]}, traced with {inputs}"


def settings_lines(plan: PruningPlan, width: int) -> tuple[str, ...]:
    """Write one line per setting, truncated if long, and all residual blocks that are removed."""
    lines = []
    for key, value in plan.settings.items():
        line = f"  {key}: {value if isinstance(value, str) else json.dumps(value)}"
        lines.append(line if len(line) <= width else f"{line[: width - 3]}...")
    if plan.blocks:
        lines += wrap(f"removed blocks: {', '.join(plan.blocks)}", width, initial_indent="  ", subsequent_indent="    ")
    return tuple(lines)


def cost_table(graph: Graph, plans: Sequence[tuple[str, PruningPlan]]) -> Table:
    """Count FLOPs and parameters of the dense network and of each plan, for one example."""
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
        (*left(""), "dense", *columns),
        tuple(rows),
        caption="FLOPs = 2 x MACs. Fewer: dense / pruned. What it buys in time is measured, not counted.",
    )


def difference_lines(difference: PlanDifference) -> tuple[str, ...]:
    """Say whether two plans remove the same units and blocks."""
    different = [row for row in difference.groups if not row.equal]
    if difference.equal:
        return (f"A and B keep the same units in all {len(difference.groups)} groups that they name.",)
    lines = []
    if different:
        alone = sum(row.kept_a + row.kept_b - 2 * row.common for row in different)
        mean = sum(row.jaccard for row in difference.groups) / len(difference.groups)
        lines.append(
            f"A and B differ in {len(different)} of the {len(difference.groups)} groups that they name: {alone} units "
            f"are kept by one of them alone; mean overlap {percent(mean)}."
        )
    for label, blocks in (("A", difference.blocks_a), ("B", difference.blocks_b)):
        if blocks:
            lines.append(f"{label} alone removes the residual blocks {', '.join(blocks)}.")
    return tuple(lines)


def difference_table(difference: PlanDifference) -> Table:
    """List the groups that differ."""
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
        for row in difference.groups
        if not row.equal
    )
    return Table(
        "Groups that differ",
        (*left("group"), "units", "A keeps", "B keeps", "B - A", "both", "overlap"),
        rows,
        caption="Overlap (Jaccard): units that both keep / units that A or B keeps.",
    )


def stage_table(transferred: TransferredPlan) -> Table:
    """List how each stage was transferred."""
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
    remarks = {
        "A stage that the pattern does not know stays whole.": any(stage.share is None for stage in transferred.stages),
        "One that the new network lacks is left out.": any(not stage.groups_to for stage in transferred.stages),
        "Removed residual blocks are not transferred: they have no counterpart.": transferred.blocks_left_behind > 0,
    }
    return Table(
        "Stages",
        (*left("stage"), "groups before", "kept share", "groups now", "units kept"),
        rows,
        caption=" ".join(remark for remark, needed in remarks.items() if needed),
    )


def proof_lines(pruning: PruningRecord | None) -> tuple[str, ...]:
    """Say how the masked and compact networks were compared, the compact one's form, and its landing."""
    if pruning is None:
        return ()
    proof = pruning.proof
    if proof is None:
        return ("Proof: unknown, the bundle was written by a version that did not keep it.",)
    check = proof.verification
    if check.reference == "zeros":
        lines = [f"{check.zeros} of {check.weights} weights are 0; no channel was removed."]
    else:
        lines = [
            f"Masked equals compact: {check.removed_channels} channels removed, largest difference "
            f"{check.relative_error or 0:.1e} of the output's range (allowed {check.tolerance or 0:.0e}), while "
            f"masking moves it by {percent(check.moved or 0)}."
        ]
    if check.reference == "masked values":
        lines.append("Compared with masked values: statistics are taken over the channels and blocks that stay.")
    if proof.form_reason:
        lines.append(f"The network is in graph form: {proof.form_reason}.")
    if proof.left_whole:
        lines.append(f"Left whole, for the network to keep its own class: {proof.left_whole}.")
    if proof.unranked:
        lines.append(f"Left whole: {proof.unranked}.")
    if proof.landing:
        lines.append(f"Landing: {proof.landing}.")
    return tuple(lines)
