"""Where jobs run: each on GPUs of its own, and on several processes where it gets several."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from deploy.errors import DeployError
from deploy.run.stages import Stage
from deploy.studies.methods import executor, gpus
from deploy.studies.methods.executor import LocalProcesses, child_environment
from deploy.studies.methods.gpus import require_gpus, visible_gpus
from deploy.studies.methods.jobs import JOB, jobs_of
from deploy.studies.methods.recipe import StudyRecipe
from deploy.studies.methods.study import run_study

ROOT = Path(__file__).parents[4]
TINY = {
    "name": "tiny",
    "network": {"name": "cifar:resnet20", "options": {"width": 0.25}},
    "data": {"name": "digits", "image_size": 8, "limit": 200},
    "train": {"epochs": 2, "batch_size": 50},
    "budgets": {"flops": [0.5]},
    "methods": ["l1"],
    "baselines": False,
    "recoveries": ["scratch-e"],
}
SEES = "import os, sys; open(sys.argv[2] + '/saw', 'w').write(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"


@pytest.fixture
def jobs(monkeypatch, tmp_path, wait_until):
    """Start a job that writes down which GPUs it saw."""
    (tmp_path / "sees.py").write_text(SEES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(executor, "CHILD", "sees")
    monkeypatch.setattr(executor, "LAUNCHER", "sees_many")
    (tmp_path / "sees_many.py").write_text(SEES.replace("argv[2]", "argv[3]"))

    def start(where, name):
        (tmp_path / name).mkdir()
        return where.start(tmp_path, tmp_path / name)

    def saw(name):
        path = tmp_path / name / "saw"
        wait_until(lambda: path.exists() and path.read_text())
        return path.read_text()

    return start, saw


def test_jobs_that_run_together_get_gpus_of_their_own(jobs):
    start, saw = jobs
    where = LocalProcesses(3, gpus=("4", "7"))
    running = [start(where, name) for name in "abc"]
    assert [saw(name) for name in "abc"] == ["4", "7", "4"]  # three jobs on two GPUs: one is shared
    running[1].close()
    running.append(start(where, "d"))
    assert saw("d") == "7"  # in the place of the one that ended
    for job in running:
        job.close()


def test_a_job_on_several_gpus_gets_them_all(jobs):
    start, saw = jobs
    where = LocalProcesses(2, processes=2, gpus=("0", "1", "2", "3"))
    running = [start(where, name) for name in "ab"]
    assert [saw("a"), saw("b")] == ["0,1", "2,3"]
    for job in running:
        job.close()


def test_without_gpus_nothing_is_said_of_them(jobs, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    start, saw = jobs
    job = start(LocalProcesses(), "a")
    assert saw("a") == "all"
    job.close()


def test_processes_share_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(executor, "cores_available", lambda: 16)
    assert child_environment(2)["OMP_NUM_THREADS"] == "8"
    assert child_environment(2, 4)["OMP_NUM_THREADS"] == "2"
    assert child_environment(32)["OMP_NUM_THREADS"] == "1"


def test_a_job_waits_asleep_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert child_environment(2)["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert "OMP_WAIT_POLICY" not in child_environment(2)  # the job inherits it


def test_gpus_are_those_that_the_variable_leaves(monkeypatch, tmp_path):
    monkeypatch.setattr(gpus, "_DRIVER_GPUS", tmp_path)
    for card in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / card).mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f")
    assert visible_gpus() == ("3", "GPU-8f")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,-1,1")  # CUDA ignores what follows a name that is none
    assert visible_gpus() == ("0",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus, "_DRIVER_GPUS", tmp_path / "no driver")
    assert visible_gpus() == ()


def test_a_job_that_does_not_see_its_gpus_says_so(monkeypatch):
    monkeypatch.delenv("PRUNE_DEPLOY_GPUS", raising=False)
    require_gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "98,99")
    monkeypatch.setenv("PRUNE_DEPLOY_GPUS", "2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(DeployError, match="given CUDA_VISIBLE_DEVICES=98,99, and torch sees 0 GPUs"):
        require_gpus()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    require_gpus()


def test_trainings_shared_by_more_processes_are_other_jobs():
    recipe = StudyRecipe.model_validate(TINY)
    alone, again, shared = (jobs_of(recipe, processes=n) for n in (1, 1, 2))
    assert alone == again
    assert not {job.key for job in alone.all} & {job.key for job in shared.all}


def test_more_gpus_than_there_are_is_a_mistake(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(TINY))
    command = [
        sys.executable,
        "-m",
        "deploy",
        "study",
        str(path),
        "--gpus-per-job",
        "64",
        "--output",
        str(tmp_path / "o"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "--gpus-per-job 64" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_two_processes_share_the_trainings_of_a_study(tmp_path):
    recipe = StudyRecipe.model_validate(TINY)
    results = run_study(recipe, tmp_path, LocalProcesses(1, processes=2), lambda _: None, measured=False)
    (cell,) = results.cells
    assert cell.outcome == "ok", cell.reason
    log = (tmp_path / cell.folder / "log.txt").read_text()
    assert log.count("epoch 2/2") == 2  # both processes trained
    assert log.count("evaluate") == 1  # and one did the rest
    assert results.processes == 2
    assert len(json.loads((tmp_path / cell.folder / "history.json").read_text())["epochs"]) == 2
    assert not list(tmp_path.rglob("checkpoints"))


@pytest.mark.slow
def test_what_is_wrong_for_all_processes_is_told_once(tmp_path):
    recipe = StudyRecipe.model_validate({**TINY, "train": {"epochs": 1, "batch_size": 25}})
    results = run_study(recipe, tmp_path, LocalProcesses(1, processes=2), lambda _: None, measured=False)
    (cell,) = results.cells
    assert cell.outcome == "failed"
    assert "2 processes cannot share batches of 25 evenly" in cell.reason


@pytest.mark.slow
def test_a_process_that_dies_alone_is_told(tmp_path, wait_until):
    folder, running = _shared_training(tmp_path, wait_until)
    second = next(one for one in psutil.Process().children(recursive=True) if one.environ().get("RANK") == "1")
    second.kill()
    wait_until(lambda: running.poll() is not None)
    told = running.poll() or ""
    running.close()
    assert "process 2 of 2 was killed by SIGKILL (out of memory?)" in told or "Connection closed" in told
    assert not list(folder.glob("done.json"))


@pytest.mark.slow
def test_all_processes_of_a_job_end_with_it(tmp_path, wait_until, wait_until_gone):
    _, running = _shared_training(tmp_path, wait_until)
    family = psutil.Process().children(recursive=True)
    assert len(family) >= 3  # the launcher and two that train
    running.close()
    wait_until_gone(family)


def _shared_training(root, wait_until):
    """Start a long training in two processes, and wait until its first epoch is over."""
    recipe = StudyRecipe.model_validate({**TINY, "train": {"epochs": 1000, "batch_size": 50}})
    job = jobs_of(recipe, measure=False).dense[0]
    folder = Stage(root / job.folder, job.key).begin()
    (folder / JOB).write_text(job.model_dump_json(by_alias=True))
    running = LocalProcesses(1, processes=2).start(root, folder)
    wait_until(lambda: (folder / "checkpoints" / "last.pt").exists() or running.poll() is not None)
    return folder, running
