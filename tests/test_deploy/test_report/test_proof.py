"""The proof and what each group keeps stand on the page and in the terminal; what is unknown is called unknown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console

from deploy.bundles.pruning import GroupCount, MaskedCheck, Proof, PruningRecord
from deploy.report.page import page
from deploy.report.plan_text import proof_lines
from deploy.report.table import Notes
from deploy.report.tables import tables
from deploy.report.terminal import print_results
from deploy.results.results import Results, load

GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"
LANDING = "macs: 40.00% of the dense network are kept, at most 50.00% were asked for"
PROOF = Proof(
    verification=MaskedCheck(
        reference="masked values",
        removed_channels=45,
        removed_parameters=7000,
        max_abs_error=1e-7,
        relative_error=2.5e-7,
        sensitivity=0.5,
        probe_sensitivity=1.25,
        batch_sizes=(1, 2),
        tolerance=1e-4,
    ),
    landing=LANDING,
    form="graph",
    form_reason="the module counts its channels itself",
)
PRUNING = PruningRecord(
    groups=(GroupCount(name="stem.conv", kept=12, of=16), GroupCount(name="head<&>", kept=1, of=32)),
    blocks=("stages.2.1",),
    proof=PROOF,
)


def results(pruning: PruningRecord | None) -> Results:
    golden = load(GOLDEN)
    dense, pruned = golden.models
    return golden.model_copy(update={"models": (dense, pruned.model_copy(update={"pruning": pruning}))})


def proof_table(found: Results):
    (table,) = (one for one in tables(found) if "effect" in one.columns)
    return table


def test_the_table_shows_what_was_compared_and_how_far_it_differs():
    table = proof_table(results(PRUNING))
    assert table.rows == (("pruned [1-3]", "masked values", "45", "2.5e-07", "1e-04", "125 %", "graph"),)
    assert table.notes[0] == LANDING
    assert table.notes[1] == "graph form: the module counts its channels itself"


def test_the_page_draws_and_counts_each_group():
    text = page(results(PRUNING))
    assert "Where the channels went" in text
    for row in PRUNING.groups:
        name = row.name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        start = text.index(f">{name}</th>")
        cells = [cell.split("</td>")[0] for cell in text[start : text.index("</tr>", start)].split("<td>")[1:]]
        assert cells[:2] == [str(row.kept), str(row.of)]
    assert "12 of 16" in text
    assert "13 of 48 units of these 2 groups are kept (27 %)" in text
    assert "Removed residual blocks: stages.2.1." in text
    for fact in ("masked values", "2.5e-07", LANDING, "the module counts its channels itself"):
        assert fact in text


def test_removed_blocks_are_named_where_no_group_loses_a_unit():
    text = page(results(PRUNING.model_copy(update={"groups": ()})))
    assert "Removed residual blocks: stages.2.1." in text


@pytest.mark.parametrize("pruning", [None, PRUNING.model_copy(update={"proof": None})])
def test_an_unknown_proof_is_called_unknown(pruning):
    table = proof_table(results(pruning))
    assert table.rows[0][:3] == ("pruned", "unknown [1]", "-")
    assert "did not keep the proof" in page(results(pruning))


def test_single_weights_that_are_zero_are_called_so():
    check = MaskedCheck(reference="zeros", zeros=300, weights=1000)
    pruning = PruningRecord(groups=(), proof=Proof(verification=check, landing="", form="module"))
    assert proof_table(results(pruning)).rows[0][1:] == ("zeros", "0", "-", "-", "-", "module")
    assert proof_lines(pruning) == ("300 of 1000 weights are 0; no channel was removed.",)
    assert "Units kept" not in page(results(pruning))


def test_lines_of_the_proof_stand_alone():
    lines = proof_lines(PRUNING)
    assert lines[0].startswith("Masked equals compact: 45 channels removed, largest difference 2.5e-07 of the output's")
    assert lines[-2:] == (
        "The network is in graph form: the module counts its channels itself.",
        f"Landing: {LANDING}.",
    )
    assert proof_lines(None) == ()
    whole = PRUNING.proof.model_copy(update={"form": "module", "form_reason": "", "left_whole": "qkv: attn divides"})
    kept_class = PRUNING.model_copy(update={"proof": whole})
    assert "Left whole, for the network to keep its own class: qkv: attn divides." in proof_lines(kept_class)
    assert "left whole for its own class: qkv: attn divides" in proof_table(results(kept_class)).notes
    unranked = PRUNING.model_copy(update={"proof": PRUNING.proof.model_copy(update={"unranked": "'a': no filters"})})
    assert "Left whole: 'a': no filters." in proof_lines(unranked)
    assert "left whole: 'a': no filters" in proof_table(results(unranked)).notes


def test_a_group_keeps_no_more_than_it_has():
    with pytest.raises(ValidationError, match="keeps 5 of 4 units"):
        GroupCount(name="conv", kept=5, of=4)


def test_marks_of_footnotes_are_one_group():
    notes = Notes()
    assert notes.after("a", ["x", "y", "z", "y"]) == "a [1-3]"
    assert notes.after("b", ["z", "", "x", "w"]) == "b [1,3-4]"
    assert notes.after("c", []) == "c"
    assert notes.after("", ["w"]) == "[4]"
    assert notes.texts == ("x", "y", "z", "w")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_mark_of_footnotes_is_never_broken(width):
    proof = PROOF.model_copy(update={"left_whole": "qkv: attn divides", "unranked": "'a': no filters"})
    found = results(PRUNING.model_copy(update={"proof": proof}))
    stream = io.StringIO()
    print_results(found, Console(file=stream, width=width, highlight=False), verbose=True)
    assert "[1-5]" in stream.getvalue()
    assert '<span class="unbroken">[1-5]</span>' in page(found)
