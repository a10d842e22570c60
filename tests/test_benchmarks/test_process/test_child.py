"""A child process: what it finds, how it ends, what is said about it, and that nothing of it stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import psutil
import pytest

from benchmarks.errors import WorkerError
from benchmarks.process.child import (
    Child,
    Conversation,
    exit_reason,
    last_words,
    package_environment,
    sleeping_environment,
)

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
PACKAGES = ("backends", "benchmarks", "deploy", "pruners")
JOB = "from benchmarks.process.serving import end_with_parent; end_with_parent(); import subprocess, sys, time\n"
ANSWERING = """
import os, sys
from benchmarks.errors import SettingError
from benchmarks.process.serving import serve_parent

def refuse(question, arrays):
    raise SettingError("no such\\nsetting")

def chat(question, arrays):
    print("this is not an answer")
    os.write(1, b"nor this")
    return {"input": sys.stdin.read()}, arrays

def much(question, arrays):
    raise MemoryError("no 3 TB left")

serve_parent({"chat": chat, "refuse": refuse, "much": much, "exit": lambda *_: os._exit(3)})
"""


def is_gone(pid):
    try:
        psutil.Process(pid).wait(20)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def wait_for(file):
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(word) for word in file.read_text().split()]


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Make a folder with packages that are called like ours the current one, and put it before ours."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('a stranger')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_child_and_its_children_find_our_packages(strangers):
    see = f"print(*[__import__(name).__file__ for name in {PACKAGES}])"
    code = f"import subprocess, sys\n{see}\nsubprocess.run([sys.executable, '-c', {see!r}], check=True)"
    with Child(["-c", code], folder=strangers) as child:
        assert child.wait(60) == 0, child.output()
        ours = " ".join(str(Path(__file__).parents[3] / name / "__init__.py") for name in PACKAGES)
        assert child.output().splitlines()[-1] == ours
        assert ours in child.output().splitlines()[0] or len(child.output().splitlines()) == 1
    with Conversation(["-c", ANSWERING], who="they", timeout_s=60) as child:
        assert child.ask("chat")[0] == {"input": ""}


def test_what_is_given_is_what_it_gets(tmp_path):
    code = "import os, sys; print(os.getcwd(), os.environ['ONE']); sys.exit(7)"
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    with Child(["-c", code], environment={"ONE": "1"}, folder=tmp_path, log=log) as child:
        assert child.wait(60) == 7
        folder, one = log.read_text().splitlines()[-1].split()
        assert (folder, one) == (str(tmp_path), "1")
        assert child.poll() == 7
        assert child.exit_reason() == f"its process ended with exit code 7; its last words: {folder} 1"
    assert log.read_text().startswith("before\n")


@pytest.mark.parametrize("by_user", [None, "ACTIVE"])
def test_what_a_training_process_measures_waits_as_it_would_elsewhere(monkeypatch, by_user):
    monkeypatch.delenv("PRUNE_DEPLOY_SLEEPS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if by_user is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", by_user)
    tells = "import os; print(os.getenv('OMP_WAIT_POLICY'), flush=True)"
    trains = (
        "from benchmarks.process.child import Child, sleeping_environment\n"
        f"{tells}\n"
        f"for variables in ({{}}, sleeping_environment()):\n"
        f"    with Child(['-c', {tells!r}], environment=variables) as child:\n"
        "        assert child.wait(60) == 0\n"
        "        print(child.output().strip())\n"
    )
    with Child(["-c", trains], environment=sleeping_environment()) as child:
        assert child.wait(120) == 0, child.output()
        training = by_user or "PASSIVE"
        assert child.output().split() == [training, str(by_user), training]


def test_the_terminal_is_left_to_a_child_that_is_given_it(capfd):
    with Child(["-c", "print('hello')"], terminal=True) as child:
        assert child.wait(60) == 0
        assert child.exit_reason() == "its process ended with exit code 0"
    assert capfd.readouterr().out == "hello\n"


def test_a_job_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    file = tmp_path / "pids"
    code = f"{JOB}p = subprocess.Popen(['sleep', '600']); print(p.pid, file=open({str(file)!r}, 'w')); time.sleep(600)"
    with Child(["-c", code], who="the job") as child:
        (pid,) = wait_for(file)
        assert child.poll() is None
        with pytest.raises(WorkerError, match=re.escape("the job: did not finish in 0.1 s; its process was killed")):
            child.wait(0.1)
        assert child.poll() == -signal.SIGKILL
        assert child.exit_reason() == "its process was killed by SIGKILL (out of memory?)"
    assert is_gone(pid)


@ON_LINUX
def test_an_interrupt_is_passed_on_to_a_child_that_is_waited_for(tmp_path):
    up, orderly = tmp_path / "up", tmp_path / "orderly"
    code = f"import os, time\ntry:\n    print(os.getpid(), file=open({str(up)!r}, 'w'), flush=True)\n"
    code += "    time.sleep(600)\n"
    code += f"except KeyboardInterrupt:\n    open({str(orderly)!r}, 'w').close()"
    parent = f"from benchmarks.process.child import Child\nwith Child(['-c', {code!r}]) as child:\n    child.wait()"
    with subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.PIPE, text=True) as process:
        (pid,) = wait_for(up)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert orderly.exists()
    assert is_gone(pid)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_a_job_ends_with_its_parent_and_takes_its_children_along(tmp_path, ending):
    file = tmp_path / "pids"
    code = (
        f"{JOB}import os; p = subprocess.Popen(['sleep', '600']);"
        f"print(os.getpid(), p.pid, file=open({str(file)!r}, 'w')); time.sleep(600)"
    )
    parent = f"from benchmarks.process.child import Child\nwith Child(['-c', {code!r}]) as child: child.wait()"
    with subprocess.Popen([sys.executable, "-c", parent], env=package_environment(), stderr=subprocess.DEVNULL) as run:
        pids = wait_for(file)
        run.send_signal(ending)
        assert run.wait(20) != 0
    assert all(is_gone(pid) for pid in pids)


def test_arrays_of_all_kinds_travel_and_what_is_printed_is_not_an_answer():
    arrays = {
        "text": np.array([["a", "\u00e4\n"], ["", "b\0"]], object),
        "bfloat16": np.array([1.5, -2], ml_dtypes.bfloat16),
        "empty": np.empty((0, 3), np.int8),
        "scalar": np.array(1 + 2j),
    }
    with Conversation(["-c", ANSWERING], who="it", timeout_s=60) as child:
        answer, back = child.ask("chat", {}, arrays)
        assert answer == {"input": ""}
        assert all(
            np.array_equal(back[name], array) and back[name].dtype == array.dtype for name, array in arrays.items()
        )
        with pytest.raises(WorkerError, match=r"^no such setting$") as caught:
            child.ask("refuse")
        assert caught.value.kind == "SettingError"
    with Conversation(["-c", ANSWERING], who="it", timeout_s=60) as child:
        with pytest.raises(WorkerError, match=r"^out of memory: no 3 TB left$") as caught:
            child.ask("much")
        assert caught.value.kind == "RunError"


def test_an_unanswered_question_says_how_the_process_ended():
    reason = r"^it: its process ended with exit code 3 during 'exit'$"
    with Conversation(["-c", ANSWERING], who="it", timeout_s=60) as child, pytest.raises(WorkerError, match=reason):
        child.ask("exit")
    reason = r"exit code 1 during 'chat'; its last words: no way$"
    refusing = ["-c", "import sys; sys.exit('no way')"]
    with Conversation(refusing, who="it", timeout_s=60) as child, pytest.raises(WorkerError, match=reason):
        child.ask("chat")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "ended with exit code 0"),
        (-9, "was killed by SIGKILL (out of memory?)"),
        (-11, "was killed by SIGSEGV"),
        (-99, "was killed by signal 99"),
    ],
)
def test_an_exit_code_in_words(code, reason):
    assert exit_reason(code) == reason


def test_last_words_are_the_last_line_that_says_something():
    assert last_words("one\ntwo\x1b[0m\n\x07 \n") == "two[0m"
    assert last_words("a" * 500) == "a" * 200
    assert last_words("") == ""


@ON_LINUX
def test_a_process_whose_parent_is_gone_already_ends_at_once():
    code = "import sys, benchmarks.process.serving as it; it.die_with_parent(int(sys.argv[1])); print(1)"
    for parent, outcome in ((os.getpid(), (0, "1\n")), (os.getppid(), (-signal.SIGKILL, ""))):
        done = subprocess.run([sys.executable, "-c", code, str(parent)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == outcome, done.stderr


@ON_LINUX
def test_a_resting_child_uses_nothing_and_wakes():
    with Conversation(["-c", ANSWERING], who="it", timeout_s=60) as child:
        child.ask("chat")
        child.rest()
        assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
        child.wake()
        child.ask("chat")
        child.rest()
        os.kill(child.pid, signal.SIGKILL)
        child.kill()
        child.wake()
