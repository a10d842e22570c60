"""The table of proofs: how each pruned network was checked against the dense one."""

from __future__ import annotations

from deploy.report.formatting import NOTHING, percent
from deploy.report.table import Notes, Table, left
from deploy.results.results import Results

__all__ = ["proof_table"]

_UNKNOWN = "written by a version that did not keep the proof"
_COMPARED = {
    "masked parameters": "",
    "masked values": "masked values: statistics are taken over the channels and blocks that stay",
    "zeros": "zeros: single weights are 0, no channel was removed, so there is nothing to compare",
}


def proof_table(results: Results) -> Table:
    """Return one row for each pruned network; no rows if none was pruned."""
    rows, notes = [], Notes()
    for row in results.models:
        if row.method is None and row.pruning is None:
            continue
        proof = None if row.pruning is None else row.pruning.proof
        if proof is None:
            rows.append((row.label, notes.after("unknown", [_UNKNOWN]), *[NOTHING] * 5))
            continue
        check = proof.verification
        reasons = ["" if proof.speeds else proof.landing or ""]
        reasons += [proof.form_reason and f"graph form: {proof.form_reason}"]
        reasons += [proof.left_whole and f"left whole for its own class: {proof.left_whole}"]
        reasons += [proof.unranked and f"left whole: {proof.unranked}"]
        reasons += [_COMPARED[check.reference]]
        rows.append(
            (
                notes.after(row.label, reasons),
                check.reference,
                str(check.removed_channels),
                NOTHING if check.relative_error is None else f"{check.relative_error:.1e}",
                NOTHING if check.tolerance is None else f"{check.tolerance:.0e}",
                NOTHING if check.moved is None else percent(check.moved),
                proof.form,
            )
        )
    return Table(
        "Proof: the pruned network is the dense one without what was removed",
        (*left("model", "compared with"), "channels", "difference", "allowed", "effect", *left("form")),
        tuple(rows),
        notes=notes.texts,
        caption="Channels: removed, over all layers that make them. Difference: between the outputs of the masked and "
        "the compact network. Effect: how far masking moves the dense network's output. Both as a share of the "
        "output's range.",
    )
