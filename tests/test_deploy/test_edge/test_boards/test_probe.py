"""What a board lacks is one line, before anything is put there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.edge.boards.address import Address
from deploy.edge.boards.connection import Connection
from deploy.edge.boards.payload import Payload
from deploy.edge.boards.probe import Facts
from deploy.edge.boards.scripting import look
from deploy.errors import BoardError

GOOD = {
    "folder": "/home/pi/.cache/prune-deploy-board",
    "system": "Linux",
    "machine": "aarch64",
    "bits": "64",
    "libc": "glibc 2.36",
    "python": "3.11 /usr/bin/python3",
    "venv": "/usr/bin/python3",
    "free": "9000000",
    "state": "absent",
    "end": "0",
}


def _read(**facts):
    return Facts.read("ssh://board", [f"{name}={value}" for name, value in {**GOOD, **facts}.items()])


def test_a_board_that_fits():
    facts = _read()
    assert (facts.python, facts.version, facts.free_bytes) == ("/usr/bin/python3", "3.11", 9000000 << 10)
    assert not facts.has_code
    assert not facts.has_environment


def test_a_python_in_a_home_with_a_space_in_its_name():
    path = "/home/jo smith/.local/bin/python3.12"
    assert _read(python=f"3.12 {path}", venv=path).python == path


@pytest.mark.parametrize(("now", "found"), [("1764432000", 1764432000), ("", None), ("%s", None), ("9" * 30, None)])
def test_the_clock_of_a_board_is_read_where_it_tells(now, found):
    assert _read(now=now).utc_s == found


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"system": "Darwin"}, "runs 'Darwin': a board has to run Linux"),
        ({"machine": "armv7l"}, "processor 'armv7l': ONNX Runtime has wheels for x86_64 and aarch64"),
        ({"bits": "32"}, "a system of '32' bits on a aarch64 processor"),
        ({"libc": "glibc 2.27"}, "has glibc 2.27: the wheels of ONNX Runtime need 2.28 or newer"),
        ({"libc": ""}, "has no glibc"),
        ({"python": "3.9 /usr/bin/python3"}, "has Python 3.9: prune-deploy needs Python 3.11 to 3.14"),
        ({"python": ""}, "has no python3: prune-deploy needs Python 3.11 to 3.14"),
        ({"venv": ""}, "run there: sudo apt install python3-venv"),
        ({"state": "other"}, "holds something else; name another folder"),
        ({"state": "foreign"}, "belongs to another user"),
        ({"unwritable": "/opt"}, "this user may not write to '/opt'"),
        ({"folder": "relative"}, "the folder 'relative' cannot be used"),
        ({"folder": "/a\x1b[2J"}, "cannot be used"),
    ],
)
def test_what_does_not_fit_is_said(facts, line):
    with pytest.raises(BoardError, match=r"^ssh://board.*") as refused:
        _read(**facts)
    assert line in str(refused.value)
    assert str(refused.value).isprintable()


def test_half_an_answer_is_none():
    with pytest.raises(BoardError, match="the description of the board is incomplete"):
        Facts.read("ssh://board", ["system=Linux"])


def test_a_full_disk_is_said_in_time():
    with pytest.raises(BoardError, match=r"4 MB are free where .* is, and the environment takes 10 MB"):
        _read(free="5000").require_room("ssh://board", 10 << 20, "the environment takes")


def _looked(wire, tmp_path, **fakes):
    """Look at a shell in which some programs are others."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "uname", "getconf", "df", "awk", "dirname", "ls", "sed", "tail"):
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").symlink_to(sys.executable)
    for name, text in fakes.items():
        (tools / name).unlink(missing_ok=True)
        if text:
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
    wire(path=str(tools))
    with Connection(Address.read("ssh://board")) as connection:
        return look(connection, Payload())


def test_this_machine_is_a_board(wire, tmp_path):
    facts = _looked(wire, tmp_path)
    assert facts.folder == str(tmp_path / "home" / ".cache" / "prune-deploy-board")
    assert facts.version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert facts.free_bytes > 0
    assert not Path(facts.folder).exists()


@pytest.mark.parametrize(
    ("fakes", "line"),
    [
        ({"getconf": "[ $1 = LONG_BIT ] && echo 64 || echo glibc 2.17"}, "has glibc 2.17"),
        ({"getconf": "exit 1"}, "has no glibc"),
        ({"uname": "[ $1 = -s ] && echo Linux || echo riscv64"}, "processor 'riscv64'"),
        ({"python3": "echo 3.8"}, "has Python 3.8"),
        ({"python3": "exit 127"}, "has no python3"),
        ({"python3": "case $2 in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac"}, "apt install python3-venv"),
    ],
)
def test_a_shell_that_lacks_something(wire, tmp_path, fakes, line):
    # What is looked for beside PATH as well would be found there.
    if "python3" in fakes and any(Path("/usr/local/bin").glob("python3*")):
        pytest.skip("this machine has another Python in /usr/local/bin")
    with pytest.raises(BoardError) as refused:
        _looked(wire, tmp_path, **fakes)
    assert line in str(refused.value)
    assert not (tmp_path / "home" / ".cache").exists()


@pytest.mark.parametrize("name", ["probe.sh", "push.sh", "install.sh", "clean.sh", "where.sh"])
@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox"])
def test_the_scripts_are_read_by_every_shell(name, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = Path(sys.modules[Facts.__module__].__file__).parent / "scripts" / name
    words = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run([*words, "-n", script], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")


LOGIN_SHELLS = ("sh", "dash", "bash", "busybox sh", "mksh", "zsh", "fish", "csh", "tcsh")


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_every_login_shell_hands_the_words_on(wire, tmp_path, shell):
    program = shutil.which(shell.split()[0])
    if program is None:
        pytest.skip(f"{shell} is not installed: apt install {shell.split()[0]}")
    home = wire(f'HOME={tmp_path}/home exec {program} {"sh" if " " in shell else ""} -c "$last"')
    heard = []
    words = ["a b", "it's", "\\' \\\\", 'x"y', "two\nlines", "!! $HOME `id` *", "~", "\u00e4\u20ac", "", "%s\\n"]
    script = "for word; do printf '<%s>\\n' \"$word\"; done"
    with Connection(Address.read("ssh://board")) as connection:
        ended = connection.run(
            ["sh", "-c", f'eval "last=\\${{$#}}"; printf "%s\\n" "$last"\n{script}', "sh", *words],
            lambda line: bool(heard.append(line)),
        )
        assert look(connection, Payload()).folder == f"{home}/.cache/prune-deploy-board"
    assert ended.code == 0
    said = "\n".join(heard)
    assert said.startswith("\n".join(f"<{word}>" for word in words))
    assert len(said[len("\n".join(f"<{word}>" for word in words)) :].strip()) == 34, "the token comes last"
