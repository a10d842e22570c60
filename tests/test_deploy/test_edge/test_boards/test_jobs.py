"""Jobs on a board: found again where nobody follows them, ended where somebody wants it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benchmarks.machine.lock import LOCK_VARIABLE
from deploy.edge.boards.board import AGENT
from deploy.edge.boards.resident.jobs import KEPT_S, Job, claim, end
from deploy.edge.boards.resident.trees import UNUSED_S, remove_unused

ROOT = Path(__file__).parents[4]
QUICK = ["boards", "list", "--json"]


@contextmanager
def _agent(folder, request):
    """Start the half on the board with a request, as a connection does."""
    words = [sys.executable, "-I", "-c", AGENT, ROOT, folder, "token"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"token\n"
        try:
            yield process
        finally:
            process.stdin.close()
            process.kill()


def _heard(process, key):
    while True:
        line = process.stdout.readline()
        assert line, "it ended"
        if key in (said := json.loads(line)):
            return said


def _job(argv, name="abcdef0123"):
    return {"do": "job", "name": name, "argv": [str(word) for word in argv], "variables": {"COLUMNS": "80"}}


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """Hold the lock of the machine: whoever measures goes on waiting."""
    path = tmp_path / "lock"
    monkeypatch.setenv(LOCK_VARIABLE, str(path))
    path.write_text("prune-deploy machine lock\n")
    with path.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def waiting(model):
    return _job(["bench", "--fast", "--no-check", model])


def _wait_for(condition):
    end_s = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_job_is_handed_over_and_forgotten(tmp_path):
    with _agent(tmp_path, _job(QUICK)) as process:
        name = _heard(process, "job")["job"]
        done = _heard(process, "done")
        assert (done["done"]["code"], done["done"]["is_result"]) == (0, False)
        assert process.stdout.read() == b"[]\n"
    # Whoever did not get it may ask again.
    with _agent(tmp_path, _job(QUICK)) as process:
        said = _heard(process, "job")
        assert (said["job"], said["state"]) == (name, "done")
        assert said["age_s"] >= 0
    with _agent(tmp_path, {"do": "end", "name": name}) as process:
        assert _heard(process, "gone")["gone"] is True
    assert not (tmp_path / "jobs" / name).exists()


def test_a_caller_that_goes_leaves_the_job_and_a_second_one_gets_its_own(tmp_path, busy, waiting):
    with _agent(tmp_path, waiting) as first:
        one = _heard(first, "job")
        _heard(first, "line")
        with _agent(tmp_path, waiting) as second:
            other = _heard(second, "job")
            assert (one["state"], other["state"]) == ("new", "new")
            assert one["job"] != other["job"]
    first.wait()
    job = Job(tmp_path / "jobs" / one["job"])
    assert job.runs()
    with _agent(tmp_path, waiting) as third:
        said = _heard(third, "job")
        assert (said["job"], said["state"]) == (one["job"], "running")
    processes = [psutil.Process(Job(tmp_path / "jobs" / said["job"]).state["pid"]) for said in (one, other)]
    for said in (one, other):
        with _agent(tmp_path, {"do": "end", "name": said["job"]}) as process:
            assert _heard(process, "gone")["gone"] is True
    assert list((tmp_path / "jobs").glob("*-*")) == []
    _wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes))


@pytest.mark.slow
def test_a_job_that_was_killed_is_told_and_begun_anew(tmp_path, busy, waiting):
    with _agent(tmp_path, waiting) as process:
        name = _heard(process, "job")["job"]
        _heard(process, "line")
        job = Job(tmp_path / "jobs" / name)
        os.kill(job.state["pid"], signal.SIGKILL)
        assert _heard(process, "done")["done"]["code"] is None
    with _agent(tmp_path, waiting) as process:
        said = _heard(process, "job")
        assert (said["job"], said["state"]) == (name, "new")
        _heard(process, "line")
    end(tmp_path / "jobs", name)


def test_what_is_sent_is_whole_or_not_there(tmp_path):
    put = {"do": "put", "tree": "a" * 32, "files": {"m/x.onnx": "0" * 64}}
    with _agent(tmp_path, put) as process:
        process.stdin.close()
        assert _heard(process, "error")["error"] == "it ended early"
    assert list((tmp_path / "files").iterdir()) == []


def test_a_caller_whose_cable_was_pulled_is_not_waited_for(tmp_path):
    put = {"do": "put", "tree": "a" * 32, "files": {"m/x.onnx": "0" * 64}}
    impatient = "import sys; from deploy.edge.boards.resident import agent; agent._PATIENCE_S = 0.5; agent.main()"
    words = [sys.executable, "-c", impatient, tmp_path, "token"]
    for request in (b"", json.dumps(put).encode() + b"\n" + bytes(100)):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdin.write(request)
            process.stdin.flush()
            assert process.stdout.readline() == b"token\n"
            assert json.loads(process.stdout.readline()) == {"error": "the caller fell silent"}
            assert process.wait() == 0
    assert list((tmp_path / "files").iterdir()) == []


def test_a_process_that_took_over_a_number_is_left_alone(tmp_path):
    with claim(tmp_path, "abc") as (job, _):
        job.write_state(state="running", pid=os.getpid(), since="1")
    assert end(tmp_path, job.folder.name)  # this process goes on


def test_a_result_that_nobody_fetched_is_not_kept_for_ever(tmp_path):
    with claim(tmp_path, "old") as (job, _):
        job.write_state(state="done", code=0, ended=time.time() - KEPT_S - 1)
    with claim(tmp_path, "other"):
        assert not job.folder.exists()


@pytest.mark.parametrize(("age_s", "stays"), [(KEPT_S - 100, True), (KEPT_S + 100, False)])
def test_what_a_killed_job_left_is_not_kept_for_ever(tmp_path, age_s, stays):
    with claim(tmp_path, "killed") as (job, _):
        job.write_state(state="running", pid=1, since="1")
        job.printed.write_text("half of a result")
    then = time.time() - age_s
    os.utime(job.folder, (then, then))
    with claim(tmp_path, "other"):
        assert job.folder.exists() == stays


def test_a_job_that_runs_or_is_followed_stays_however_old_it_is(tmp_path):
    with claim(tmp_path, "followed") as (job, _):
        os.utime(job.folder, (0, 0))
        with claim(tmp_path, "other") as (running, _), (running.folder / "alive").open("w") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            os.utime(running.folder, (0, 0))
            with claim(tmp_path, "third"):
                assert job.folder.exists()
                assert running.folder.exists()


def test_code_and_environments_that_nobody_uses_go_and_those_of_others_stay(tmp_path):
    old = time.time() - UNUSED_S - 100
    made = f"made.{os.getpid()}.part"
    names = {"env": ("mine", "old", "recent", made, "half.999999999.part"), "code": ("mine", "old")}
    for kind, entries in names.items():
        for name in entries:
            (tmp_path / kind / name).mkdir(parents=True)
        for name in ("mine", "old"):
            os.utime(tmp_path / kind / name, (old, old))
        assert remove_unused(tmp_path / kind, ["away"], idle=False) == set()
        assert (tmp_path / kind / "old").exists(), "a job that runs may need it"
        assert remove_unused(tmp_path / kind, ["mine", "away"], idle=True) == {"mine"}
    assert {one.name for one in (tmp_path / "env").iterdir()} == {"mine", "recent", made}
    assert [one.name for one in (tmp_path / "code").iterdir()] == ["mine"]
    assert remove_unused(tmp_path / "code", [], idle=True) == set()
    assert (tmp_path / "code" / "mine").exists(), "it counts as used just now"


def test_beside_a_job_that_runs_what_was_sent_stays_however_old_it_seems(tmp_path):
    """The clock of a board without a battery jumps by years once it is told the time."""
    tree = tmp_path / "files" / ("a" * 32)
    tree.mkdir(parents=True)
    os.utime(tree, (0, 0))
    with claim(tmp_path / "jobs", "abc") as (job, _), (job.folder / "alive").open("w") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        with _agent(tmp_path, {"do": "have", "trees": []}) as process:
            _heard(process, "missing")
        assert tree.exists()
    with _agent(tmp_path, {"do": "have", "trees": []}) as process:
        _heard(process, "missing")
    assert not tree.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"state": 3}'])
def test_a_damaged_state_is_no_result(tmp_path, text):
    with claim(tmp_path, "abc") as (job, _):
        (job.folder / "state").write_text(text)
    with claim(tmp_path, "abc") as (again, is_new):
        assert is_new
        assert not (again.folder / "state").exists()
    assert Job(tmp_path / "none").state["state"] == "broken"
