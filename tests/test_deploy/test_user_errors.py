"""What ends a command, in one line and an exit code that means one thing."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from deploy.errors import RecipeError
from deploy.user_errors import guarded


@pytest.fixture(autouse=True)
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def heeded():
    """No signal is ignored, as SIGHUP is where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def ended(error, capsys):
    def work():
        raise error

    with pytest.raises(SystemExit) as raised:
        guarded(work)
    return raised.value.code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RecipeError("no recipe\nthere"), 2, "deploy: no recipe there"),
        (OSError(errno.ENOSPC, "No space left on device", "out.json"), 2, "deploy: out.json: no space left on device"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch.nn"),
            2,
            "deploy: torch is not installed, and this command needs it: pip install 'prune-deploy[prune]'",
        ),
        (SystemExit(129), 129, "deploy: ended by SIGHUP; what was finished is kept"),
        (KeyboardInterrupt(), 130, "deploy: interrupted; what was finished is kept"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, code, line, capsys, reports):
    assert ended(error, capsys) == (code, [line])
    assert not list(reports.iterdir())


def test_a_reader_that_left_is_no_mistake(capsys):
    assert ended(BrokenPipeError(errno.EPIPE, "Broken pipe"), capsys) == (141, [])


def test_a_defect_of_ours_is_reported(capsys, reports):
    code, (line,) = ended(ValueError("a\nnumber" + 300 * "x"), capsys)
    assert code == 70
    assert line.startswith("deploy: this is a bug in prune-deploy (ValueError: a number")
    (report,) = reports.iterdir()
    assert line.endswith(f"please report it with {report}")
    assert "Traceback" in Path(report).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_is_one_line(number, capsys, heeded):
    before = signal.getsignal(number)
    cleared = []

    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), number)  # the clearing up is not disturbed
            time.sleep(0.01)
            cleared.append(True)

    with pytest.raises(SystemExit) as raised:
        guarded(work)
    what = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert raised.value.code == 128 + number
    assert capsys.readouterr().err == f"deploy: {what}; what was finished is kept\n"
    assert cleared
    assert signal.getsignal(number) is before


def test_a_signal_that_a_library_turns_into_an_error_or_swallows_still_ends_the_command(capsys):
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)

    def swallow():
        Swallows()
        time.sleep(60)

    def turn():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    for work in (swallow, turn):
        with pytest.raises(SystemExit) as raised:
            guarded(work)
        assert raised.value.code == 128 + signal.SIGTERM
        assert capsys.readouterr().err == "deploy: ended by SIGTERM; what was finished is kept\n"


def test_an_ignored_signal_stays_ignored(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as raised:
            guarded(lambda: os.kill(os.getpid(), signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert raised.value.code == 0
