"""A board that has nothing of ours: another user behind a real sshd, installed from a folder of wheels."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.edge.boards.payload import Payload
from deploy.edge.boards.probe import NEWEST_PYTHON, OLDEST_PYTHON
from deploy.exit_codes import OK
from deploy.results.results import load

from .conftest import serving

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to let another user log in"),
]

USER, NUMBER = "prune-board", 54321
BOARD_PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
LOGIN = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
"""The user is there for sshd and what it starts, and for nobody else on this machine."""


@pytest.fixture(scope="module")
def python():
    """The version of the Python that another user finds here; it has to be one that a board may have."""
    found = shutil.which("python3", path=BOARD_PATH)
    said = subprocess.run([found or "false", "-c", PYTHON], capture_output=True, text=True, check=False)
    told = said.stdout.strip()
    if not told or not OLDEST_PYTHON <= tuple(map(int, told.split("."))) <= NEWEST_PYTHON:
        pytest.skip(f"another user has no Python with venv here that fits ({found}, {told or said.stderr[-200:]})")
    return told


@pytest.fixture(scope="module")
def wheels(tmp_path_factory, python):
    """What measuring needs, as wheels for that Python, in the versions that are installed here."""
    folder = tmp_path_factory.mktemp("wheels")
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in Payload().requirements]
    words = ["download", "--quiet", "--only-binary", ":all:", "--python-version", python, "-d", str(folder)]
    words += [f"{name}=={version(name)}" for name in names]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode and re.search("No matching distribution|Temporary failure|Retrying", done.stderr):
        pytest.skip(f"no index has what is installed here: {done.stderr.strip().splitlines()[-1][-200:]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture
def stranger():
    """A server for another user, whose home is empty and has a space in its name."""
    # Others may not look into pytest's folders.
    with tempfile.TemporaryDirectory() as place:
        folder, home = Path(place), Path(place, "home of a board")
        folder.chmod(0o755)
        home.mkdir(mode=0o700)
        os.chown(home, NUMBER, NUMBER)
        users = folder / "passwd"
        users.write_text(f"{Path('/etc/passwd').read_text()}{USER}:*:{NUMBER}:{NUMBER}::{home}:/bin/sh\n")
        before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", LOGIN, "sh", str(users))
        (folder / "lock").touch()
        os.chown(folder / "lock", NUMBER, NUMBER)
        try:
            with serving(folder, USER, before) as server:
                yield SimpleNamespace(server=server, ours=home / ".cache" / "prune-deploy-board")
        finally:
            for one in _processes():
                one.kill()


def _processes():
    """Return what runs for the other user, but for the server's own part of a connection, and for the dead."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            ours = one.uids().effective == NUMBER and not one.name().startswith("sshd")
            if ours and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def test_a_bench_there_answers_and_measures_as_one_here(
    here, reach, stranger, wheels, python, model, tmp_path, wait_until
):
    board = reach(stranger.server)
    results = []
    for name, more in (("here", ()), ("there", ("--on", board, "--wheels", wheels))):
        file = tmp_path / f"{name}.json"
        done = here("bench", model, "--trials", "3", "--accept-unfit", "-q", "-o", file, *more)
        assert (done.returncode, done.stderr) == (OK, "")
        (measured,) = load(file).measurements
        results.append(measured)
    one, there = results
    assert there.agreement == one.agreement
    assert there.agreement.ok
    assert (there.subject, there.backend_version) == (one.subject, one.backend_version)
    assert len(there.trials) == 3
    assert {entry.name for entry in stranger.ours.iterdir()} >= {"code", "env", "files", "jobs", "prune-deploy-board"}
    (made,) = (stranger.ours / "env").iterdir()
    assert made.name.endswith(f"-{python}")
    assert not list(made.glob("lib/python*/site-packages/torch"))
    assert not (made / "wheels").exists()
    (code,) = (stranger.ours / "code").iterdir()
    assert not (code / "pruners").exists()
    assert all(path.lstat().st_uid == NUMBER for path in stranger.ours.rglob("*"))
    assert list((stranger.ours / "jobs").glob("*-*")) == []
    wait_until(lambda: not _processes())
    again = here("bench", model, "--fast", "--accept-unfit", "--on", board)
    assert again.returncode == OK, again.stderr
    assert "make the environment" not in again.stderr, "it is made once"
    assert f"{stranger.ours} was removed" in here("boards", "clean", board).stdout
    assert not stranger.ours.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ended_while_it_installs_there_is_no_half_environment(
    reach, stranger, wheels, model, wait_until, wait_until_gone, number
):
    board = reach(stranger.server)
    words = [sys.executable, "-m", "deploy", "bench", str(model), "-q", "--on", board, "--wheels", str(wheels)]
    with subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE) as process:
        wait_until(lambda: list(stranger.ours.glob("env/*.part/lib/python*/site-packages/pip")))
        there = _processes()
        process.send_signal(number)
    wait_until_gone(there)
    wait_until(lambda: not list((stranger.ours / "env").iterdir()))
    wait_until(lambda: not _processes())


def test_two_callers_at_once_on_a_new_board_get_one_each(reach, stranger, wheels, model, tmp_path, wait_until):
    board = reach(stranger.server)
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    words = ["bench", str(model), "--fast", "--accept-unfit", "-q", "--on", board, "--wheels", str(wheels)]
    callers = [
        subprocess.Popen([sys.executable, "-m", "deploy", *words, "-o", file], stderr=subprocess.PIPE, text=True)
        for file in files
    ]
    assert [one.communicate(timeout=400)[1] for one in callers] == ["", ""]
    assert all(load(file).measurements[0].trials for file in files)
    assert len(list((stranger.ours / "env").iterdir())) == len(list((stranger.ours / "code").iterdir())) == 1
    wait_until(lambda: not _processes())
