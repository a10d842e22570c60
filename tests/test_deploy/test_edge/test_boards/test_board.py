"""``--on`` as a whole, over a stand-in for ssh that leads to a shell of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files

import numpy as np
import onnx
import pytest

from benchmarks.process.measured import MeasuredProcess
from deploy.edge.boards.address import Address
from deploy.edge.boards.board import Board
from deploy.edge.boards.connection import Connection
from deploy.edge.boards.known import known_boards, remember
from deploy.edge.boards.payload import Payload
from deploy.edge.boards.trees import tree_of
from deploy.exit_codes import OK, USAGE
from deploy.results.results import load

from .conftest import programs


def _on(board):
    return ("--on", f"ssh://board{board}")


def _clear(folder):
    """Forget what earlier tests have sent."""
    for name in ("files", "jobs"):
        shutil.rmtree(folder / name, ignore_errors=True)


@pytest.fixture
def board(wire, prepared):
    wire()
    yield prepared
    _clear(prepared)


def test_a_bench_there_is_one_from_here(here, board, model, tmp_path, monkeypatch):
    monkeypatch.setattr(MeasuredProcess, "__init__", lambda *_, **__: pytest.fail("measured here"))
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    arrays = tmp_path / "inputs of mine.npz"
    np.savez(arrays, x=np.ones((1, 3, 32, 32), np.float32))
    output, page = tmp_path / "results.json", tmp_path / "page.html"
    where = ("--fast", "--accept-unfit", "--inputs", arrays, "-o", output, "--page", page)
    done = here("bench", model, *where, *_on(board))
    assert done.returncode == OK, done.stderr
    assert done.stdout.startswith("small.onnx")
    results = load(output)
    (measured,) = results.measurements
    assert (measured.subject.label, measured.subject.model) == ("small", "small.onnx")
    assert measured.failure is None
    assert "small" in page.read_text(encoding="utf-8")
    (entry,) = known_boards()
    assert entry.address == f"ssh://board{board}"
    assert list((board / "jobs").glob("*-*")) == []
    assert {one.name for one in (board / "files").iterdir()} == {tree_of(model).name, tree_of(arrays).name}


@pytest.mark.slow
def test_a_mistake_there_is_one_line_here(here, board, model):
    done = here("bench", model, "--fast", "--strict", "-q", *_on(board))
    assert done.returncode == USAGE
    assert done.stderr == f"deploy: ssh://board{board}: --strict is for a comparison: give --against too\n"
    done = here("bench", model, "-b", "nope", "-q", *_on(board))
    assert (done.returncode, len(done.stderr.splitlines())) == (USAGE, 1)
    assert "nope" in done.stderr


@pytest.mark.slow
def test_doctor_shows_the_board(here, board):
    done = here("doctor", "-q", *_on(board))
    assert done.returncode == OK, done.stderr
    assert "Backends" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("bench", "none.onnx"), "none.onnx: no such file"),
        (("bench", "."), "a folder without a bundle"),
        (("doctor", "--data-root", "."), "a folder without a bundle"),
        (("bench", "MODEL", "--inputs", "none.npz"), "none.npz: no such file"),
        (("bench", "MODEL", "--inputs", "/dev/zero"), "it is a device"),
        (("bench", "MODEL", "-o", "/none/there.json"), "cannot write /none/there.json"),
        (("bench", "MODEL", "--wheels", "."), "not a folder with wheels"),
    ],
)
def test_what_is_wrong_here_is_said_before_anything_is_sent(here, wire, model, tmp_path, monkeypatch, words, line):
    home = wire()
    monkeypatch.chdir(tmp_path)
    done = here(*(model if word == "MODEL" else word for word in words), "--on", "ssh://board", "-q")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(home.iterdir()) == []


def test_wheels_need_a_board(here, model):
    assert "give --on too" in here("bench", model, "--wheels", ".").stderr


def test_a_folder_that_is_not_ours_is_left_alone(here, wire, model, tmp_path):
    wire()
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    for words in (("bench", model, *_on(other)), ("boards", "clean", f"ssh://board{other}")):
        done = here(*words, "-q")
        assert done.returncode == USAGE
        assert "holds something else" in done.stderr or "not ours" in done.stderr
    assert [one.name for one in other.iterdir()] == ["precious"]


def test_boards_are_listed_cleaned_and_forgotten(here, wire, model, tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    wire()
    assert here("boards", "list").stdout.startswith("0 boards")
    folder = tmp_path / "ours"
    (folder / "env").mkdir(parents=True)
    (folder / "prune-deploy-board").touch()
    assert here("boards", "clean", f"ssh://board{folder}").stdout == f"ssh://board{folder}: {folder} was removed\n"
    assert not folder.exists()
    assert "there was nothing to remove" in here("boards", "clean", f"ssh://board{folder}").stdout
    assert "not known" in here("boards", "clean", "--forget", "ssh://away").stdout
    assert here("boards", "clean").returncode == USAGE
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "boards.json").write_text("{}")
    assert "is not a list of boards" in here("boards", "list").stderr


def test_of_several_boards_each_is_cleaned_whatever_becomes_of_the_others(here, wire, tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNE_DEPLOY_STATE", str(tmp_path / "state"))
    wire(f'case "$*" in *"-- away "*) echo "no route" >&2; exit 255 ;; esac; HOME={tmp_path} exec sh -c "$last"')
    addresses = [f"ssh://{name}{tmp_path}/{name}" for name in ("one", "away", "two")]
    for address in addresses:
        folder = tmp_path / address.rpartition("/")[2]
        folder.mkdir()
        (folder / "prune-deploy-board").touch()
        remember(address, folder=str(folder), python="3.12", code="", sent_bytes=0)
    done = here("boards", "clean", "--all", "-q")
    assert done.returncode == USAGE
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [addresses[0], addresses[2]]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"deploy: {addresses[1]}: no route")
    assert [one.address for one in known_boards()] == [addresses[1]]


def test_a_clock_that_is_wrong_is_told(here, wire, model, tmp_path):
    """A board without a battery begins in 1970, or where it was switched off."""
    fake = programs(tmp_path / "fakes", date="echo 86400")
    wire(path=f"{fake}:$PATH")
    done = here("bench", model, "--on", f"ssh://board{model.parent}", "-q")  # holds something else
    assert "its clock is" not in done.stderr, "first comes why it cannot measure"
    with Connection(Address("board")) as connection:
        notes = []
        Board(connection, Payload(), notes.append, notes.append)
    (note,) = notes
    assert re.search(r": its clock is \d{5} days behind this machine's, and so are the times in results$", note)


def test_a_clock_that_is_right_is_not_told(wire):
    wire()
    with Connection(Address("board")) as connection:
        notes = []
        Board(connection, Payload(), notes.append, notes.append)
    assert notes == []


def _wheel(folder, name, version, module):
    """Make a wheel that holds one module."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": module,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{one},,\n" for one in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for one, content in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(one, content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("raise ImportError('x.so: failed to map segment from shared object')", "may be run from its disk (noexec)"),
        ("import os; os.kill(os.getpid(), 4)", "cannot be loaded there: illegal instruction"),
        ("raise ImportError('no such symbol')\n", "cannot be loaded there: ImportError: no such symbol"),
    ],
)
def test_what_cannot_be_loaded_there_is_said_at_once_and_not_kept(here, wire, model, tmp_path, module, line):
    wire()
    (tmp_path / "wheels").mkdir()
    for requirement in Payload().requirements:
        name, _, version = requirement.partition(">=")
        _wheel(tmp_path / "wheels", name, version, module if name == "numpy" else "")
    board = tmp_path / "board"
    done = here("bench", model, "-q", "--wheels", tmp_path / "wheels", *_on(board))
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert line in said
    assert list((board / "env").iterdir()) == []


@pytest.mark.slow
def test_wheels_for_another_board_are_told_with_what_this_one_needs(here, wire, model, tmp_path):
    wire()
    (tmp_path / "wheels").mkdir()
    _wheel(tmp_path / "wheels", "numpy", "2.0", "")
    done = here("bench", model, "-q", "--wheels", tmp_path / "wheels", *_on(tmp_path / "board"))
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert "No matching distribution found for" in said
    assert re.search(r"; the wheels have to be for Python 3\.\d+ on \w+$", said)


def test_a_folder_is_marked_before_anything_else_is_in_it(tmp_path):
    """Killed at any moment, it is ours or empty: it can be used again, and cleaned."""
    script = files("deploy.edge.boards").joinpath("scripts", "push.sh").read_text(encoding="utf-8")
    watched = 'echo "$@" >>"$MADE"; ls -A "$BOARD" >>"$MADE" 2>/dev/null; exec /bin/mkdir "$@"'
    made = programs(tmp_path / "bin", mkdir=watched)
    seen = {"MADE": str(tmp_path / "made"), "BOARD": str(tmp_path / "board")}
    variables = {**os.environ, **seen, "PATH": f"{made}{os.pathsep}{os.environ['PATH']}"}
    words = ["sh", "-c", script, "sh", str(tmp_path / "board"), "name", "0", sys.executable, "token"]
    subprocess.run(words, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    first, second, there = (tmp_path / "made").read_text().splitlines()[:3]
    assert (first, second) == (f"-p {tmp_path}/board", f"-p {tmp_path}/board/code")
    assert there == "prune-deploy-board"


TAR = """case $LC_ALL in
C) echo "tar: x: Cannot write: No space left on device" >&2 ;;
*) echo "tar: x: Auf dem Geraet ist kein Speicherplatz mehr verfuegbar" >&2 ;;
esac
exit 2"""


@pytest.mark.parametrize("has_code", [False, True], ids=["code", "wheels"])
def test_a_disk_that_fills_up_is_told_in_english_without_advice_on_wheels(
    here, wire, model, tmp_path, monkeypatch, has_code
):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    wire(path=f"{programs(tmp_path / 'fakes', tar=TAR)}:$PATH")
    board = tmp_path / "board"
    if has_code:
        (board / "code" / Payload().name).mkdir(parents=True)
        (board / "code" / Payload().name / ".complete").touch()
        (board / "prune-deploy-board").touch()
    (tmp_path / "wheels").mkdir()
    _wheel(tmp_path / "wheels", "numpy", "2.0", "")
    done = here("bench", model, "-q", "--wheels", tmp_path / "wheels", *_on(board))
    assert done.returncode == USAGE
    (said,) = done.stderr.splitlines()
    assert said.endswith("No space left on device")
    assert not list(board.rglob("*.part"))


@pytest.mark.slow
def test_without_pip_there_is_no_half_environment(here, wire, model, tmp_path):
    wire()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "broken-1-py3-none-any.whl").write_bytes(b"no wheel")
    board = tmp_path / "board"
    done = here("bench", model, "-q", "--wheels", tmp_path / "wheels", *_on(board))
    assert done.returncode == USAGE
    (line,) = done.stderr.splitlines()
    assert "its pip does not install what measuring needs: ERROR:" in line
    assert list((board / "env").iterdir()) == []


def test_a_model_goes_with_its_data_and_its_folder(tmp_path, model):
    folder = tmp_path / "net"
    folder.mkdir()
    loaded = onnx.load(model)
    onnx.save(loaded, folder / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    tree = tree_of(folder / "big.onnx")
    assert (tree.argument, set(tree.files)) == ("net/big.onnx", {"net/big.onnx", "net/big.data"})
    shutil.copy(model, folder / "model.onnx")
    assert tree_of(folder).argument == "net/model.onnx"
    shutil.copy(model, tmp_path / "other.onnx")
    assert tree_of(tmp_path / "other.onnx").name != tree_of(model).name  # tables call it otherwise


def test_what_goes_to_a_board_measures_and_does_not_prune():
    payload = Payload()
    folders = {name.split("/")[0] for name in payload.files}
    assert folders == {"backends", "benchmarks", "deploy", "prune_deploy.py", "prune_deploy-0.1.0.dist-info"}
    assert not any("torch" in requirement for requirement in payload.requirements)
    assert any(one.startswith("onnxruntime") for one in payload.requirements)
    assert any(one.startswith("openvino") for one in Payload(("openvino",)).requirements)
    assert sum(map(len, payload.files.values())) < 4 << 20
