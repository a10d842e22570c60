"""Table of requested speed-ups: what was predicted and measured, and what pruning by FLOPs would have kept."""

from __future__ import annotations

from deploy.report.formatting import NOTHING, percent, ratio
from deploy.report.table import Table, left
from deploy.results.results import Results

__all__ = ["speed_table"]


def speed_table(results: Results) -> Table:
    """Return one row for each requested speed-up; no rows if none was requested."""
    proofs = [(row.label, row.pruning.proof) for row in results.models if row.pruning and row.pruning.proof]
    rows = tuple(
        (
            label,
            f"{one.backend}, {one.threads}",
            ratio(1 / one.asked),
            ratio(1 / one.predicted[one.kept_round]),
            ratio(1 / one.measured[one.kept_round]),
            str(len(one.measured)),
            percent(one.macs, 1),
            NOTHING if one.importance is None else f"{one.importance:.3f}",
            NOTHING if one.macs_by_flops is None else percent(one.macs_by_flops, 1),
            NOTHING if one.importance_by_flops is None else f"{one.importance_by_flops:.3f}",
        )
        for label, proof in proofs
        for one in proof.speeds
    )
    return Table(
        "Speed that was asked for",
        (*left("model", "on"), "asked", "table", "measured", "rounds", "MACs", "kept", "or MACs", "kept"),
        rows,
        caption="On: backend, and its threads. Table: what the latency table predicted. Measured: in turn with the "
        "dense network, when it was pruned. Kept: importance, the mean over the channel groups of the square root of "
        "the share kept. Or: where FLOPs decide, all groups cut alike and counts not aligned, to where the same time "
        "is predicted.",
    )
