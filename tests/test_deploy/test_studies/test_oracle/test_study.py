"""``deploy study oracle`` as people meet it: a small network, the paper's table, results that say what was done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.errors import ResultsError
from deploy.studies.oracle.page import oracle_page, oracle_plot, oracle_table
from deploy.studies.oracle.results import CriterionRow, OracleResults, load_oracle

ROOT = Path(__file__).parents[4]
RECIPE = """
name: tiny
network: {name: "cifar:resnet20"}
data: {name: digits, image_size: 8, limit: 64}
train: {epochs: 1, batch_size: 32, lr: 0.05}
prune: {method: l1, target: {flops: 0.5}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "recipe.yaml").write_text(RECIPE)
    asked = ("--criterion", "taylor", "-c", "min_weight", "-c", "apoz", "--examples", 16, "--batch-size", 8)
    arguments = (folder / "recipe.yaml", "-o", folder / "run", *asked)
    command = [sys.executable, "-m", "deploy", "study", "oracle", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=400)
    return folder, arguments, done


@pytest.mark.slow
def test_the_table_is_printed_and_kept(run):
    folder, _, done = run
    assert done.returncode == 0, done.stderr
    for words in ("per layer", "all layers, l2", "taylor", "min_weight", "16 train images"):
        assert words in done.stdout
    results = load_oracle(folder / "run" / "oracle" / "oracle.json")
    assert [row.criterion for row in results.rows] == ["taylor", "min_weight", "apoz"]
    assert results.n_examples == 16
    assert sum(map(len, results.losses.values())) == 352
    assert all(any(changes) for changes in results.losses.values())
    assert (folder / "run" / "oracle" / "oracle.html").read_text(encoding="utf-8") == oracle_page(results)


@pytest.mark.slow
def test_groups_that_a_criterion_refuses_are_named(run):
    """Stages whose maps end in a BatchNorm have no zeros: APoZ is compared over the other groups, and says so."""
    folder, _, _ = run
    results = load_oracle(folder / "run" / "oracle" / "oracle.json")
    taylor, _, apoz = results.rows
    assert not taylor.left_out
    assert all("single zero" in why for why in apoz.left_out.values())
    assert apoz.left_out.keys() | apoz.per_group.keys() == results.losses.keys()


@pytest.mark.slow
def test_finished_work_is_kept(run, here):
    folder, arguments, first = run
    trained = (folder / "run" / "train" / "done.json").stat().st_mtime_ns
    found = (folder / "run" / "oracle" / "oracle.json").stat().st_mtime_ns
    again = here("study", "oracle", *arguments)
    assert again.stdout == first.stdout
    assert (folder / "run" / "oracle" / "oracle.json").stat().st_mtime_ns == found
    more = here("study", "oracle", *arguments, "-c", "l1")
    assert more.returncode == 0, more.stderr
    assert (folder / "run" / "train" / "done.json").stat().st_mtime_ns == trained
    assert "l1" in more.stdout


def test_mistakes_are_one_line(tmp_path, monkeypatch, here):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    for arguments, words in (
        ((tmp_path / "recipe.yaml", "-c", "tayler"), "did you mean 'taylor'"),
        ((tmp_path / "recipe.yaml", "--split", "test"), "--split is train or validation"),
        ((tmp_path / "none.yaml",), "no such file"),
    ):
        done = here("study", "oracle", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def make_results(**rows):
    return OracleResults(
        name="n",
        network={},
        data="digits",
        split="train",
        n_examples=8,
        batch_size=4,
        seed=0,
        score=0.5,
        loss=1.0,
        seconds=1.0,
        losses={"a": (0.1, 0.2), "b": (0.3, -0.1)},
        rows=tuple(
            CriterionRow(
                criterion=name,
                paper="p",
                per_group={"a": 1.0},
                per_layer=value,
                overall=value,
                overall_l2=value,
                seconds=0.5,
                left_out={"b": "it has no BatchNorm"} if value is None else {},
            )
            for name, value in rows.items()
        ),
        tool_version="0",
    )


def test_the_best_criterion_stands_first_and_a_missing_number_is_no_number():
    table = oracle_table(make_results(low=-0.5, none=None, high=0.75))
    assert [row[0] for row in table.rows] == ["high", "low", "none [1]"]
    assert table.rows[0][1:4] == ("0.75",) * 3
    assert table.rows[2][1:4] == ("-",) * 3
    assert "it has no BatchNorm" in table.notes[0]


def test_the_page_names_the_best_and_draws_only_what_is_known():
    text = oracle_page(make_results(low=-0.5, none=None, high=0.75))
    assert "high orders the units most like the oracle: 0.75, then low with -0.50." in text
    assert text.count('<svg class="bar"') == 2
    assert "without 1 of 2 groups" in text


def test_the_plot_has_a_mark_for_each_number():
    drawn = oracle_plot(make_results(low=-0.5, none=None, high=0.75))
    legend = 1
    assert drawn.count("<rect") == drawn.count("<circle") == 2 + legend
    assert oracle_plot(make_results(low=-0.5)) == oracle_plot(make_results(low=-0.5))


def test_results_of_version_1_are_read(tmp_path):
    old = make_results(high=0.75).model_dump(mode="json")
    old |= {"version": 1, "accuracy": old.pop("score")}
    del old["metric"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = load_oracle(tmp_path / "old.json")
    assert (found.metric, found.score) == ("accuracy", 0.5)
    assert "validation accuracy 50.0 %." in oracle_table(found).caption


def test_results_of_another_kind_are_refused(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(ResultsError, match="not a file of the oracle study"):
        load_oracle(tmp_path / "other.json")
    with pytest.raises(ResultsError, match="no such file"):
        load_oracle(tmp_path / "none.json")
    with pytest.raises(ResultsError, match="cannot be read: "):
        load_oracle(tmp_path)
