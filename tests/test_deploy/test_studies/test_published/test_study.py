"""The study of published networks: rows that are kept, rows that say why they are missing, tables, the command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backends.errors import UnknownBackendError
from backends.testing import small_cnn
from benchmarks.settings import Settings
from deploy.report.markdown import markdown
from deploy.results.bench_grid import Grid
from deploy.studies.published.catalogue import load_catalogue
from deploy.studies.published.export import BuildError, export_apart
from deploy.studies.published.study import PublishedResults, run_study
from deploy.studies.published.tables import (
    catalogue_table,
    left_out_table,
    measured_table,
    promised_table,
    study_table,
)

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[4]
CATALOGUE = load_catalogue()
A, B = CATALOGUE.select(("l1-resnet56-?",))
GRID = Grid(backends=["ort"], threads=(1,), batches=(1,))
QUICK = Settings(trials=2, budget_s=2.0, rounds=3, block_ns=1_000_000)


class Exports:
    """Write two tiny models, and remember for whom."""

    def __init__(self, broken=()):
        self.broken = broken
        self.made = []

    def __call__(self, entry, folder):
        self.made.append(entry.name)
        if entry.name in self.broken:
            raise BuildError(f"{entry.name} cannot be built: no such layer")
        for label in ("dense", "pruned"):
            small_cnn(folder / f"{label}.onnx", batch="batch")


def study(folder, entries=(A,), *, export, settings=QUICK, grid=GRID):
    lines = []
    found = run_study(entries, grid, settings, folder, lines.append, keep_unfit=True, export=export)
    return found, lines


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Measure one network, beside one that cannot be built."""
    folder = tmp_path_factory.mktemp("published")
    export = Exports(broken=(B.name,))
    found, _ = study(folder, (A, B), export=export)
    assert export.made == [A.name, B.name]
    return folder, found


@pytest.fixture
def again(measured, tmp_path):
    """Copy the measured study, to go on with it."""
    return shutil.copytree(measured[0], tmp_path / "out")


@pytest.mark.slow
def test_finished_rows_are_kept_and_a_broken_one_is_tried_again(measured, again):
    export = Exports()
    found, lines = study(again, (A, B), export=export)
    assert export.made == [B.name]
    assert found.rows[0] == measured[1].rows[0]
    assert all(row.comparison is not None for row in found.rows)
    assert any("measured before" in line for line in lines)
    assert not (again / A.name / "models").exists()  # made again from the catalogue when needed


@pytest.mark.slow
def test_other_settings_are_measured_anew(again):
    export = Exports()
    study(again, export=export, settings=Settings(trials=2, budget_s=2.0, rounds=3, block_ns=2_000_000))
    assert export.made == [A.name]


@pytest.mark.slow
def test_a_damaged_row_is_measured_again(again):
    export = Exports()
    (again / A.name / "ort" / "comparison.json").write_text("{")
    found, lines = study(again, export=export)
    assert export.made == [A.name]
    assert found.rows[0].comparison is not None
    assert any("measuring again" in line for line in lines)


def test_the_file_holds_the_raw_comparisons_and_reasons(measured):
    folder, found = measured
    document = (folder / "published.json").read_text()
    assert PublishedResults.model_validate_json(document) == found
    whole, broken = json.loads(document)["rows"]
    assert len(whole["comparison"]["log_ratios"]) == 2
    assert whole["comparison"]["baseline"]["subject"]["label"] == "dense"
    assert broken["comparison"] is None
    assert broken["reason"] == "l1-resnet56-b cannot be built: no such layer"


def test_an_absent_backend_is_refused_before_anything_is_built(tmp_path):
    export = Exports()
    with pytest.raises(UnknownBackendError, match="nowhere"):
        study(tmp_path / "out", export=export, grid=Grid(backends=["ort", "nowhere"]))
    assert not export.made


def test_tables_tell_promise_and_measurement(measured):
    _, found = measured
    wide = study_table((A, B), found)
    assert wide.columns == (
        *("network", "paper", "FLOPs said", "counted", "parameters", "theirs"),
        *("backend", "speed-up", "verdict", "realised"),
    )
    assert wide.rows[0][:7] == ("l1-resnet56-a", "L1", "1.12x", "1.12x", "1.10x", "-", "ort")
    assert "[" in wide.rows[0][7]
    assert wide.rows[1][7:] == ("-", f"failed [{len(wide.notes)}]", "-")
    assert wide.notes[-1] == "l1-resnet56-b cannot be built: no such layer"
    assert measured_table((A,), found).rows[0] == (A.name, *wide.rows[0][6:])
    theirs = {row[0]: row[-1] for row in promised_table(CATALOGUE.entries).rows}
    assert theirs["autopruner-resnet50-50"] == "1.25x"  # 84 ms over 67 ms
    text = markdown(wide)
    assert text.splitlines()[1].count("---") == len(wide.columns)
    assert "| l1-resnet56-b | L1 |" in text


def test_the_docs_show_the_catalogue_as_it_is():
    page = (ROOT / "docs" / "studies" / "published.md").read_text()
    assert markdown(catalogue_table(CATALOGUE.entries)).strip() in page
    assert markdown(left_out_table(CATALOGUE)).strip() in page


def test_the_command_lists_and_refuses_in_one_line(tmp_path, monkeypatch, here):
    monkeypatch.setenv("COLUMNS", "80")
    done = here("study", "published", "--list", "--only", "thinet-*")
    assert done.returncode == 0, done.stderr
    assert "thinet-vgg16-tiny" in done.stdout
    assert "l1-vgg16-a" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = here("study", "published", "--only", "nothing", "--output", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("deploy: no published network is called 'nothing'")


@pytest.mark.slow
def test_a_child_that_fails_hands_over_its_reason(tmp_path):
    with pytest.raises(BuildError, match="nobody cannot be built: no published network is called 'nobody'"):
        export_apart(A.model_copy(update={"name": "nobody"}), tmp_path)


@pytest.mark.slow
def test_the_measuring_process_holds_no_torch(tmp_path):
    script = (
        "import sys; sys.argv[1:] = ['study', 'published', '--only', 'slimming-vgg19-60', '--trials', '2', '--budget', "
        f"'2', '--threads', '1', '--accept-unfit', '--output', {str(tmp_path / 'out')!r}]\n"
        "from deploy.cli.app import app\n"
        "try:\n    app()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    [row] = PublishedResults.model_validate_json((tmp_path / "out" / "published.json").read_text()).rows
    [entry] = CATALOGUE.select(("slimming-vgg19-60",))
    # The exported files cost what the catalogue says: nothing was lost or added on the way.
    assert row.comparison.baseline_cost.macs == entry.counts.dense.macs
    assert row.comparison.candidate_cost.macs == entry.counts.pruned.macs
