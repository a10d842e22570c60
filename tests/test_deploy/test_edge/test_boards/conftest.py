"""Boards on this machine: a shell behind a stand-in for ssh, and a real sshd with keys and a port of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.machine.lock import LOCK_VARIABLE
from deploy.edge.boards.payload import Payload

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
STAND_IN = """#!/bin/sh
for word; do
    case $word in ControlPath=*) socket=${word#ControlPath=} ;; esac
    [ "$word" = -N ] && master=yes
    last=$word
done
"""
SHELL = """
if [ "$master" ]; then : >"$socket"; exec sleep 600; fi
"""


def make_environment(folder):
    """Make the environment of a board out of what is installed here: nothing is downloaded."""
    made = folder / "env" / f"{Payload().environment}-{VERSION}"
    venv.create(made, symlinks=True, with_pip=False)
    site = made / "lib" / f"python{VERSION}" / "site-packages"
    (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (made / "ready").touch()
    (folder / "prune-deploy-board").touch()
    return folder


def programs(folder, **scripts):
    """Write executables, and return their folder."""
    folder.mkdir(exist_ok=True)
    for name, text in scripts.items():
        path = folder / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder on a board that has an environment already."""
    return make_environment(tmp_path_factory.mktemp("board"))


@pytest.fixture
def wire(tmp_path, monkeypatch):
    """Let ssh lead to a shell of this machine, or to whatever answers in the board's place."""

    def connect(answer="", path="", home=None):
        board = home or tmp_path / "home"
        board.mkdir(exist_ok=True)
        shell = f'HOME={shlex.quote(str(board))} PATH={path or "$PATH"} exec /bin/sh -c "$last"'
        where = programs(tmp_path / "bin", ssh=STAND_IN + SHELL + (answer or shell) + "\n")
        monkeypatch.setenv("PATH", f"{where}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        return board

    return connect


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Two convolutions and a mean."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w0", (16, 3, 3, 3)), ("w1", (24, 16, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="second"),
        helper.make_node("GlobalAveragePool", ["c1"], ["y"], name="mean"),
    ]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        for name, shape in (("x", ["batch", 3, 32, 32]), ("y", ["batch", 24, 1, 1]))
    ]
    graph = helper.make_graph(nodes, "graph", *values, weights)
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(folder, user, before=()):
    """Run an OpenSSH server on this machine, with a port and keys of its own, for one user; skip where it cannot."""
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(server).exists() or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's server and client: apt install openssh-server")
    port = _free_port()
    for name in ("host", "other", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    authorized = folder / "authorized"
    authorized.write_text((folder / "key.pub").read_text())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {authorized}\n"
        f"UsePAM no\nPasswordAuthentication no\nStrictModes no\nPidFile {folder}/pid\n"
        f"SetEnv {LOCK_VARIABLE}={folder}/lock\n"
    )
    # It becomes a daemon: a command that ends early ends all children of its process, which is this one.
    words = [*before, server, "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    started = subprocess.run(words, capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.skip(f"sshd does not start here: {started.stderr[-300:]}")
    pid = ""
    for _ in range(200):  # it listens before it has written its number
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            if pid := (folder / "pid").read_text():
                break
        time.sleep(0.05)
    process = psutil.Process(int(pid))
    try:
        yield SimpleNamespace(folder=folder, port=port, user=user, process=process)
    finally:
        for one in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                one.kill()


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """An OpenSSH server for this user."""
    with serving(tmp_path_factory.mktemp("sshd"), getpass.getuser()) as server:
        yield server


@pytest.fixture
def reach(tmp_path, monkeypatch):
    """Let ssh of this machine know a server and its key, as ~/.ssh/config would; a port may be another."""

    def connect(server, known="host", port=None, folder=None):
        config = tmp_path / "ssh_config"
        key = " ".join((server.folder / f"{known}.pub").read_text().split()[:2]) if known else ""
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port or server.port} {key}\n" if key else "")
        config.write_text(
            f"Host *\n  IdentityFile {server.folder}/key\n  IdentitiesOnly yes\n  UserKnownHostsFile {tmp_path}/known\n"
            f"  GlobalKnownHostsFile /dev/null\n"
        )
        real = shutil.which("ssh")
        where = programs(tmp_path / "bin", ssh=f'exec {real} -F {config} "$@"')
        monkeypatch.setenv("PATH", f"{where}{os.pathsep}{os.environ['PATH']}")
        return f"ssh://{server.user}@127.0.0.1:{port or server.port}{folder or ''}"

    return connect


@pytest.fixture
def over_ssh(sshd, reach):
    """Let ssh of this machine know the server of this user."""
    return partial(reach, sshd)
