"""Where a file should be stands something else, or nothing can: one line, whatever the command."""

from __future__ import annotations

import os

import pytest

from backends.testing import small_cnn

COMMANDS = [
    ("bench",),
    ("compare", "m.onnx"),
    ("load", "--scenario", "offline"),
    ("layers",),
    ("compile",),
    ("calibrate",),
    ("bench", "m.onnx", "--inputs"),
    ("report",),
    ("plan", "show"),
    ("plan", "diff"),
    ("table", "show"),
    ("run",),
    ("study", "oracle"),
    ("history", "import"),
    ("history", "list", "--history"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_cnn(tmp_path / "m.onnx")
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def refused(done):
    """Give the one line of a mistake."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("deploy: ")]
    assert done.returncode == 2, line
    return line


def both(command, name):
    return (name, name) if command == ("plan", "diff") else (name,)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_no_file_is_one_line(place, here, command):
    for name in ("ring", "device", "folder", "pipe", 5000 * "a", ""):
        refused(here(*command, *both(command, name)))
    for name, reason in (("device", "it is a "), ("pipe", "it is a pipe")):
        assert reason in refused(here(*command, *both(command, name)))


@pytest.mark.parametrize(
    "command",
    [
        ("bench", "m.onnx", "--output"),
        ("bench", "m.onnx", "--page"),
        ("layers", "m.onnx", "--output"),
        ("load", "m.onnx", "--scenario", "offline", "--output"),
    ],
    ids=" ".join,
)
def test_a_place_that_takes_no_file_is_noticed_before_anything_is_measured(place, here, command):
    for name in ("device", "folder", "pipe", 5000 * "a", "", "/", "m.onnx/x", "no/such/folder/x"):
        assert "cannot write" in refused(here(*command, name))
    assert sorted(entry.name for entry in place.iterdir()) == ["device", "folder", "m.onnx", "pipe", "ring"]
