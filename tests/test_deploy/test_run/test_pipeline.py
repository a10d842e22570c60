"""A run from recipe to answer: killed at any stage, it goes on and ends in the same result."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.records.measurement import Fitness, Reason
from deploy.cli.app import app
from deploy.exit_codes import UNFIT
from deploy.results.results import load
from pruners.plan import PruningPlan

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
RECIPE = """
name: tiny
network: {name: "cifar:resnet20", options: {width: 0.5}}
data: {name: digits, limit: 200}
train: {epochs: 2, batch_size: 32, lr: 0.05}
prune:
  method: taylor
  target: {flops: 0.6}
  settings: {steps: 2, batches_per_step: 1, updates_between: 2}
finetune: {epochs: 2, batch_size: 32, lr: 0.02}
bench: {backends: [ort, openvino], threads: 1, trials: 2, budget_s: 0.2}
"""
STAGES = ("train", "prune", "finetune", "export", "check-ort", "bench-ort", "check-openvino", "bench-openvino")


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a run in a folder that holds packages of our names."""
    (folder / "recipe.yaml").write_text(RECIPE)
    for name in ("deploy", "pruners", "backends", "benchmarks"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('a stranger was imported')")
    command = [
        sys.executable,
        "-P",
        "-m",
        "deploy",
        "run",
        str(folder / "recipe.yaml"),
        "--output",
        str(folder / "run"),
        "--accept-unfit",  # nothing here depends on how quiet the machine is
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(folder: Path) -> tuple[str, str]:
    running = start(folder)
    out, err = running.communicate(timeout=400)
    assert running.returncode == 0, err
    return out, err


def done(folder: Path, stage: str) -> bool:
    return (folder / "run" / stage / "done.json").is_file()


def weights(folder: Path) -> bytes:
    return (folder / "run" / "export" / "pruned" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    out, _ = finish(folder)
    return folder, out


def test_a_run_ends_in_an_answer(whole):
    folder, out = whole
    results = json.loads((folder / "run" / "results.json").read_text())
    assert [row["label"] for row in results["models"]] == ["dense", "pruned"]
    dense, pruned = results["models"]
    assert pruned["cost"]["macs"] <= 0.6 * dense["cost"]["macs"]
    assert {pair["candidate"]["subject"]["backend"] for pair in results["comparisons"]} == {"ort", "openvino"}
    for row in results["models"]:
        assert set(row["backend_scores"]) == {"ort", "openvino"}
        for accuracy in row["backend_scores"].values():
            assert accuracy == pytest.approx(row["score_test"], abs=0.001)
    for pair in results["comparisons"]:
        for side in (pair["baseline"], pair["candidate"]):
            assert side["agreement"]["ok"]
    assert out.startswith("tiny: pruned against dense")
    assert "promised" in out
    assert "</html>" in (folder / "run" / "report.html").read_text()


def test_the_page_shows_the_proof_and_each_groups_counts_equal_to_the_plan(whole):
    folder, _ = whole
    run = folder / "run"
    plan = PruningPlan.load(run / "prune" / "plan.json")
    counts = {name: (len(kept), plan.sizes[name]) for name, kept in plan.kept.items()}
    facts = json.loads((run / "prune" / "pruned.json").read_text())
    manifest = json.loads((run / "export" / "pruned" / "bundle.json").read_text())["pruning"]
    dense, pruned = load(run / "results.json").models
    assert dense.pruning is None
    assert pruned.pruning.model_dump(mode="json") == manifest
    assert {group.name: (group.kept, group.of) for group in pruned.pruning.groups} == counts
    proof = pruned.pruning.proof
    assert proof.verification.reference == facts["verification"]["reference"]
    assert proof.verification.relative_error == facts["verification"]["relative_error"]
    assert (proof.landing, proof.form) == (facts["landing"], facts["form"])
    page = (run / "report.html").read_text()
    for name, (kept, of) in counts.items():
        row = page[page.index(f">{name}</th>") :].split("</tr>")[0]
        assert [cell.split("</td>")[0] for cell in row.split("<td>")[1:3]] == [str(kept), str(of)]
    assert facts["verification"]["reference"] in page
    assert f"{facts['verification']['relative_error']:.1e}" in page
    assert "Proof: the pruned network is the dense one without what was removed" in page


def test_the_pruned_network_can_be_built_again(whole):
    from deploy.bundles.bundle import read_bundle
    from deploy.bundles.rebuild import load_network

    folder, _ = whole
    bundle = read_bundle(folder / "run" / "export" / "pruned")
    network = load_network(bundle)
    plan = PruningPlan.load(bundle.folder / "plan.json")
    assert plan.removed_units > 0
    assert sum(parameter.numel() for parameter in network.parameters()) == bundle.manifest.cost.parameters


def test_a_finished_run_is_not_repeated(whole):
    folder, out = whole
    stamps = {stage: (folder / "run" / stage / "done.json").stat().st_mtime_ns for stage in STAGES}
    again, _ = finish(folder)
    assert again == out
    assert stamps == {stage: (folder / "run" / stage / "done.json").stat().st_mtime_ns for stage in STAGES}


def copy_before(whole: Path, folder: Path, stage: str) -> None:
    """Copy the stages of a finished run that come before `stage`."""
    for name in STAGES[: STAGES.index(stage)]:
        shutil.copytree(whole / "run" / name, folder / "run" / name)


def kill_in(folder: Path, stage: str, file: str = "started.json") -> None:
    """Start the run, and kill it as soon as `file` of a stage is there."""
    running = start(folder)
    deadline = time.monotonic() + 300
    begun = folder / "run" / stage / file
    while not begun.exists() and running.poll() is None:
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    _wait_until_free(folder / "run" / ".lock")


def run_here(folder: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app(["run", str(folder / "recipe.yaml"), "--output", str(folder / "run"), *options])
    return ended.value.code


@pytest.mark.slow
def test_what_an_unfit_machine_measured_is_no_finished_stage(whole, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "run" / "bench-openvino")
    unfit = Fitness(reasons=(Reason(severity="unfit", words="the machine was elsewhere"),))
    monkeypatch.setattr("benchmarks.machine.machine.judge_fitness", lambda *_: unfit)
    assert run_here(tmp_path) == UNFIT
    answer = " ".join(capsys.readouterr().out.split())
    assert "exit 4: the machine was not fit for measuring: the machine was elsewhere" in answer
    assert answer.endswith("accept the numbers with --accept-unfit")
    assert not done(tmp_path, "bench-openvino")
    measured = load(tmp_path / "run" / "results.json").comparisons[1]
    assert measured.unfit, "the numbers are there all the same"
    assert run_here(tmp_path, "--accept-unfit") == 0
    assert done(tmp_path, "bench-openvino")
    assert load(tmp_path / "run" / "results.json").comparisons[1] != measured, "it was measured again"
    monkeypatch.undo()
    assert run_here(tmp_path) in {0, UNFIT}  # this machine may really be unfit
    assert "measured on an unfit machine" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_in_training_it_ends_in_the_same_network(whole, tmp_path):
    kill_in(tmp_path, "train")
    assert not done(tmp_path, "train"), "it was over before it could be killed"
    kill_in(tmp_path, "train", "done.json")
    trained = (folder / "run" / "train" / "weights.safetensors" for folder in (tmp_path, whole[0]))
    assert len({file.read_bytes() for file in trained}) == 1


@pytest.mark.slow
def test_killed_while_measuring_it_measures_again(whole, tmp_path):
    copy_before(whole[0], tmp_path, "bench-openvino")
    kill_in(tmp_path, "bench-openvino")
    assert not done(tmp_path, "bench-openvino"), "it was over before it could be killed"
    finish(tmp_path)
    assert done(tmp_path, "bench-openvino")


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_in_the_same_network(whole, tmp_path):
    for stage in STAGES:
        kill_in(tmp_path, stage)
        assert not done(tmp_path, stage), f"{stage} was over before it could be killed"
    finish(tmp_path)
    assert weights(tmp_path) == weights(whole[0])
    for stage in STAGES:
        assert done(tmp_path, stage)


def _wait_until_free(lock: Path) -> None:
    """Wait for the child, which notices the closed pipe at once."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


@pytest.mark.slow
def test_single_weights_that_are_zero_stay_so_and_are_told(tmp_path):
    recipe = RECIPE.replace("taylor", "magnitude").replace("flops: 0.6", "params: 0.5")
    lines = [line for line in recipe.splitlines() if "settings:" not in line]
    (tmp_path / "recipe.yaml").write_text("\n".join(lines).replace("[ort, openvino]", "[ort]"))
    command = [sys.executable, "-m", "deploy", "run", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run")]
    command.append("--accept-unfit")
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert ended.returncode in (0, 3), ended.stderr
    row = load(tmp_path / "run" / "results.json").models[1]
    assert 0.45 < row.zeros / row.cost.parameters < 0.55
