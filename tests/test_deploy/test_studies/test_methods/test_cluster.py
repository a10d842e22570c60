"""Jobs of a study on workers of a cluster: what they say, and that they end with the study."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml

from deploy.errors import DeployError, ExtraMissingError
from deploy.studies.methods import cluster
from deploy.studies.methods.cluster import DaskCluster, run_on_worker
from deploy.studies.methods.executor import LOG
from deploy.studies.methods.results import load_results
from deploy.studies.methods.study import RESULTS

ROOT = Path(__file__).parents[4]
TINY = {
    "name": "tiny",
    "network": {"name": "cifar:resnet20", "options": {"width": 0.25}},
    "data": {"name": "digits", "image_size": 8, "limit": 200},
    "train": {"epochs": 1, "batch_size": 50},
    "budgets": {"flops": [0.5]},
    "methods": ["l1"],
    "recoveries": [{"fine-tune": {"epochs": 1, "batch_size": 50, "lr": 0.01}}],
}


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    """Make the child of a job one that sleeps."""
    folder = tmp_path / "jobs" / "dense-0"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    (tmp_path / "sleeper.py").write_text("import time\nprint('asleep', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("deploy.studies.methods.executor.CHILD", "sleeper")
    return folder


def children():
    return psutil.Process().children(recursive=True)


def test_a_worker_ends_its_job_when_it_is_told_to(tmp_path, sleeper):
    (tmp_path / ".beat").write_text("1")

    def stop():
        while "asleep" not in (sleeper / LOG).read_text() if (sleeper / LOG).exists() else True:
            time.sleep(0.05)
        (sleeper / "stop").touch()

    before = children()
    threading.Thread(target=stop, daemon=True).start()
    assert run_on_worker(str(tmp_path), str(sleeper), 1) == "the study was ended"
    assert children() == before


def test_a_worker_ends_its_job_when_the_study_is_gone(tmp_path, sleeper, monkeypatch):
    monkeypatch.setattr(cluster, "_SILENCE_S", 1.0)
    assert run_on_worker(str(tmp_path), str(sleeper), 1) == "the study was ended"


def test_a_worker_without_the_folder_says_so(tmp_path):
    assert "a disk that all machines share" in run_on_worker(str(tmp_path), str(tmp_path / "jobs" / "x"), 1)


def test_without_the_package_the_command_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExtraMissingError, match=r"\.\[cluster\]"):
        DaskCluster("tcp://127.0.0.1:1", tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_study_on_a_cluster_ends_in_the_same_networks(tmp_path):
    """From the command line, its jobs on two workers that are processes of their own."""
    distributed = pytest.importorskip("distributed")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "deploy", "study", str(recipe), "--no-measure", "--output"]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": False, "timeout": 600}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
        address = local.scheduler_address
        shared = subprocess.run([*command, str(tmp_path / "shared"), "--cluster", address], **options)
    alone = subprocess.run([*command, str(tmp_path / "alone")], **options)
    assert (shared.returncode, alone.returncode) == (0, 0), shared.stderr + alone.stderr
    first, second = (load_results(tmp_path / name / RESULTS).cells for name in ("shared", "alone"))
    assert [(cell.key, cell.recovered) for cell in first] == [(cell.key, cell.recovered) for cell in second]
    assert all(cell.outcome == "ok" for cell in first)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_job_runs_on_a_real_cluster(tmp_path, sleeper):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as local:
        executor = DaskCluster(local.scheduler_address, tmp_path)
        assert executor.slots == 1
        running = executor.start(tmp_path, sleeper)
        while not (sleeper / LOG).exists():
            time.sleep(0.05)
        assert running.poll() is None
        running.close()
    with pytest.raises(DeployError, match="no Dask scheduler answers"):
        DaskCluster("tcp://127.0.0.1:1", tmp_path)
