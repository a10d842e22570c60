"""The coverage study: every outcome is a row, rows are not made twice, and what passes a limit is ended.

One test starts the real child; the others a stub that imports no torch and ends as the network's name says. What a
child does inside stands in `test_child`.
"""

from __future__ import annotations

import time

import psutil
import pytest

from deploy.errors import ResultsError, SourceError
from deploy.studies.coverage import study
from deploy.studies.coverage.catalogue import SETS, entries
from deploy.studies.coverage.provenance import PATTERNS, ROOT
from deploy.studies.coverage.rows import CoverageRow, CoverageSettings, Limits, ListedNetwork
from deploy.studies.coverage.study import choose, jobs_of, run, stored

NETWORK = """
from torch import nn

def plain():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""
STUB = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

job_file, row_file, events = map(Path, sys.argv[1:])
job = json.loads(job_file.read_text())
name, options = job["entry"]["name"], job["entry"]["options"]
events.write_text(json.dumps({"phase": "build", "since": time.time() if name == "prunes" else None}) + "\\n")
if name == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "exits":
    print("out of luck", file=sys.stderr, flush=True)
    os._exit(7)
if name == "swells":
    memory = b"1" * 300_000_000
if name != "plain":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(options["pid_file"]).write_text(str(child.pid))
    time.sleep(600)
row_file.write_text(json.dumps({"job": job, "outcome": "ok"}))
"""


@pytest.fixture
def networks(tmp_path):
    """Return a network of the list by its name."""
    path = tmp_path / "networks.py"
    path.write_text(NETWORK)

    def entry(name):
        options = {} if name == "plain" else {"pid_file": str(tmp_path / "pid")}
        return ListedNetwork(
            set="own", name=name, maker=f"{path}:plain", options=options, inputs=((1, 3, 8, 8),), millions=0.01
        )

    return entry


@pytest.fixture
def _stub(tmp_path, monkeypatch):
    (tmp_path / "coverage_stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(study, "CHILD", "coverage_stub")


def rows_of(chosen, folder, **limits):
    return run(jobs_of(chosen, ["ours"], CoverageSettings(), Limits(**limits)), folder, at_once=2)


@pytest.mark.slow
@pytest.mark.long
def test_a_network_that_passes_everything_says_what_was_measured(networks, tmp_path):
    (row,) = rows_of([networks("plain")], tmp_path / "rows")
    assert (row.outcome, row.reason, row.phase) == ("ok", "", "")
    assert row.form == "module"
    assert row.removed_units == 3 + 3  # floor(8 * 0.7) = 5 of 8 stay in each of the two groups
    assert row.pruned_groups == 2
    # 8x8 positions: 3*8*9 + 8*8*9, and 8*4 once
    assert row.macs_before == 64 * (3 * 8 * 9 + 8 * 8 * 9) + 32
    assert row.macs_after == 64 * (3 * 5 * 9 + 5 * 5 * 9) + 20
    assert row.equality_error < 1e-4 < 1e-2 < row.sensitivity
    assert row.ort_error < 1e-3
    assert row.openvino_error < 1e-3
    assert row.inexact == ""
    assert {
        "export",
        "analysis",
        "plan",
        "apply",
        "verify",
        "reload",
        "free batch",
        "ort",
        "openvino",
        "training step",
    } <= row.seconds.keys()
    assert row.peak_bytes > 1e8
    assert row.cpu_s > 0


@pytest.mark.usefixtures("_stub")
def test_a_process_that_ends_badly_is_a_row_and_the_others_survive(networks, tmp_path):
    chosen = [networks(name) for name in ("dies", "exits", "plain")]
    rows = {row.job.entry.name: row for row in rows_of(chosen, tmp_path / "rows")}
    assert (rows["dies"].outcome, rows["dies"].phase) == ("failed", "build")
    assert "SIGKILL" in rows["dies"].reason
    assert "exit code 7; its last words: out of luck" in rows["exits"].reason
    assert rows["plain"].outcome == "ok"


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("sleeps", {"time_s": 1.0}, "no end after 1 s"),
        ("prunes", {"prune_s": 0.5}, "no end of the pruning call after 0.5 s"),
        ("swells", {"memory_gb": 0.2}, "more than 0.2 GB of memory"),
    ],
)
def test_a_limit_ends_the_process_and_its_children(networks, tmp_path, name, limits, reason):
    (row,) = rows_of([networks(name)], tmp_path / "rows", **limits)
    assert (row.outcome, row.phase, row.reason) == ("failed", "build", reason)
    assert row.limited
    pid_file = tmp_path / "pid"
    if not pid_file.exists():  # the memory limit may end it before it has children
        return
    pid = int(pid_file.read_text())
    for _ in range(50):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a child of the ended process still runs")


def test_other_limits_make_again_only_what_a_limit_had_ended(networks, tmp_path):
    tight, loose = (
        jobs_of([networks("plain")], ["ours"], CoverageSettings(), Limits(memory_gb=memory))[0] for memory in (0.1, 9)
    )
    for limited in (False, True):
        row = CoverageRow(job=tight, outcome="failed", limited=limited)
        (tmp_path / tight.file_name).write_text(row.model_dump_json())
        assert stored(tmp_path, tight) == row
        assert stored(tmp_path, loose) == (None if limited else row)


@pytest.mark.usefixtures("_stub")
def test_rows_are_not_made_twice_unless_something_changed(networks, tmp_path):
    folder, reports = tmp_path / "rows", []
    jobs = jobs_of([networks("plain")], ["ours"], CoverageSettings())
    first = run(jobs, folder, report=lambda *row: reports.append(row))
    again = run(jobs, folder, report=lambda *row: reports.append(row))
    assert first == again
    assert len(reports) == 1
    other = jobs_of([networks("plain")], ["ours"], CoverageSettings(ratio=0.5))
    assert stored(folder, other[0]) is None
    changed = jobs[0].model_copy(update={"source": "another"})
    assert stored(folder, changed) is None
    run(other, folder, report=lambda *row: reports.append(row))
    assert len(reports) == 2
    assert len(list(folder.glob("*.json"))) == 2


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_of_what_rows_depend_on_names_files(pattern):
    assert list(ROOT.glob(pattern)), f"{pattern} matches no file: its changes would go unseen"


def test_damaged_row_is_told(networks, tmp_path):
    (job,) = jobs_of([networks("plain")], ["ours"], CoverageSettings())
    (tmp_path / job.file_name).write_text('{"version": 1')
    with pytest.raises(ResultsError, match="delete it"):
        run([job], tmp_path)


def test_networks_are_chosen_by_set_and_pattern():
    listed = entries()
    assert {entry.set for entry in choose(listed, "flow")} == {"flow"}
    assert [entry.name for entry in choose(listed, "torchvision", ["resnet1?"])] == ["resnet18"]
    assert [entry.name for entry in choose(listed, "all", ["timm:resnet18"])] == ["resnet18"]
    assert choose(listed, "all") == tuple(entry for entry in listed if entry.set != "libraries")
    with pytest.raises(SourceError, match="did you mean 'timm'"):
        choose(listed, "tim")
    with pytest.raises(SourceError, match="no network of 'flow' matches 'resnet18'"):
        choose(listed, "flow", ["resnet18"])
    with pytest.raises(SourceError, match="no engine is called 'mine'"):
        jobs_of(listed[:1], ["mine"], CoverageSettings())


def test_the_list_is_whole():
    models = pytest.importorskip("torchvision").models
    timm = pytest.importorskip("timm")
    names = {part: [entry.name for entry in entries() if entry.set == part] for part in SETS}
    assert sorted(names["torchvision"]) == models.list_models(module=models)
    for part, module in (
        ("segmentation", models.segmentation),
        ("detection", models.detection),
        ("video", models.video),
        ("flow", models.optical_flow),
    ):
        assert sorted(names[part]) == models.list_models(module=module)
    assert set(names["timm"]) <= set(timm.list_models())
    assert len(set(names["timm"])) == len(names["timm"])
    families = {timm.models.model_entrypoint(name).__module__ for name in names["timm"]}
    assert len(families) >= 60
    sizes = [entry.millions for entry in entries()]
    assert sizes == sorted(sizes)
