"""The answer first: five facts, the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

import pytest
from rich.console import Console

from deploy.edge.profile.headline import headline
from deploy.edge.profile.markdown import profile_markdown
from deploy.edge.profile.page import profile_page
from deploy.edge.profile.record import Absent
from deploy.edge.profile.tables import absent_table, profile_tables, settings_table
from deploy.edge.profile.terminal import print_profile, profile_lines

from .conftest import BIG


def facts(profile):
    return {fact.title: fact for fact in headline(profile)}


def without(profile, **parts):
    absent = tuple(Absent(part=part, why="left out by --skip") for part in parts)
    return profile.model_copy(update={**parts, "absent": absent})


def test_the_five_questions_are_answered(profile):
    found = facts(profile)
    assert list(found) == ["How fast", "How steady", "How hot", "How big", "Best setting"]
    assert len(found["How fast"].values) == 2
    assert found["How steady"].values[1] == "0.63"
    for model, second in zip((row.label for row in profile.results.models), (20, 41), strict=True):
        assert f"{model}: throttled after {second} s: 2.40 -> 1.50 GHz ({BIG})" in found["How steady"].details
    assert found["How hot"].values == ("85 C", "85 C")
    assert found["Best setting"].values == (f"ort, 4 threads on {BIG}",)
    assert any("cold: 490 ms" in words for words in found["How fast"].details)


def test_energy_is_gross_and_net_with_its_source(profile):
    details = facts(profile)["How hot"].details
    assert any(words.endswith("a call, of all that VDD_IN counts") for words in details)
    assert any("above rest (2.0 W)" in words for words in details)
    assert "5.0 W in the end" in details


def test_the_terminal_has_eighty_columns(profile):
    lines = profile_lines(profile)
    assert all(len(line) <= 80 for line in lines)
    assert all(line.isascii() for line in lines)
    told = "\n".join(lines)
    assert "Orange Pi 5 Plus: 4 x Cortex-A76 (big), 4 x Cortex-A55 (little)" in told
    assert "not: layers" in told
    assert "not: 1 setting  the budget had no room" in told
    assert "exit 0" in told


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal(profile, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    print_profile(profile, console=console, verbose=True)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    console.file.close()


def test_the_best_setting_is_marked(profile):
    rows = {row[0]: row for row in settings_table(profile).rows}
    assert "FASTEST" in rows[f"ort, 4 threads on {BIG}"][-1]
    assert "MOST" in rows["ort, 8 threads, batch 8"][-1]
    assert "energy front" in rows[f"ort, 4 threads on {BIG}"][-1]


def test_what_is_missing_is_named(profile):
    rows = dict(absent_table(profile).rows)
    assert rows["layers"] == "left out by --skip"
    assert rows["setting: openvino fp32, 8 threads, batch 1"] == "the budget had no room for it"
    assert rows["setting"] == "ort bf16: the file is fp32"
    assert rows["of the board: caches"] == "not told by this machine"


def test_a_profile_of_nothing_but_the_steady_state_can_be_shown(profile):
    bare = without(profile, cold=(), sustained=(), sweep=(), layers=None).model_copy(
        update={"left_out": (), "cooling": ()}
    )
    found = facts(bare)
    for title in ("How steady", "How hot", "Best setting"):
        assert found[title].values == ("not measured",)
        assert "left out by --skip" in found[title].details
    assert profile_lines(bare)
    assert "<svg" not in profile_page(bare).partition("</header>")[0].partition("All numbers")[0].replace("badge", "")
    assert all(table.rows for table in profile_tables(bare))


def test_a_single_model_has_no_arrows(profile):
    results = profile.results
    alone = results.model_copy(
        update={
            "comparisons": (),
            "measurements": (results.comparisons[0].candidate,),
            "models": results.models[1:],
        }
    )
    one = profile.model_copy(
        update={
            "results": alone,
            "sustained": profile.sustained[1:],
            "sweep": tuple(row for row in profile.sweep if row.label == results.models[1].label),
        }
    )
    assert all(len(fact.values) == 1 for fact in headline(one))
    assert "->" not in "\n".join(profile_lines(one)).replace("2.40 -> 1.50", "")
    assert profile_page(one)


def test_a_model_that_could_not_be_measured_is_said(profile):
    pair = profile.results.comparisons[0]
    failed = pair.candidate.model_copy(update={"trials": (), "failure": "no such operator", "failure_kind": "X"})
    pair = pair.model_copy(update={"candidate": failed, "speedup": None, "verdict": "failed", "log_ratios": ()})
    results = profile.results.model_copy(update={"comparisons": (pair,)})
    bare = without(profile, cold=(), sustained=(), sweep=(), layers=None).model_copy(update={"results": results})
    assert facts(bare)["How fast"].values == ("not measured",)
    assert "no such operator" in "\n".join(profile_lines(bare))
    assert profile_page(bare)


def test_markdown_says_the_same(profile):
    text = profile_markdown(profile)
    for fact in headline(profile):
        assert f"| {fact.title} | {' → '.join(fact.values)} |" in text
    for title in ("Board", "From nothing to the first answer", "Under load without a pause", "Settings"):
        assert f"## {title}" in text
