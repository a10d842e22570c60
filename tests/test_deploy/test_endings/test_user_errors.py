"""What ends a command, in one line and an exit code that means one thing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deploy.errors import RecipeError
from deploy.user_errors import guarded

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def reports(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


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
            OSError(errno.ENAMETOOLONG, "File name too long", 5000 * "a"),
            2,
            f"deploy: {200 * 'a'}...: file name too long",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch.nn"),
            2,
            "deploy: torch is not installed, and this command needs it: pip install -e '.[prune]' "
            "in the folder of prune-deploy",
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


def signalled(work: str, number: int) -> subprocess.CompletedProcess[str]:
    """Run `work` guarded, in a process of its own that ignores no signal; ``NUMBER`` in it is the signal's.

    The process prints its exit code and whether the signal does again what it did before.
    """
    code = f"""
import os, signal, time
from deploy.user_errors import guarded
NUMBER = {int(number)}
before = signal.getsignal(NUMBER)
def send():
    os.kill(os.getpid(), NUMBER)
    time.sleep(0.01)
{work}
try:
    guarded(work)
except SystemExit as ended:
    print(ended.code, signal.getsignal(NUMBER) is before)
"""

    def heed() -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)

    command = [sys.executable, "-P", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, preexec_fn=heed, timeout=60
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_and_is_one_line(number):
    work = """
def work():
    try:
        send()
        time.sleep(60)
    finally:
        send()  # the clearing up is not disturbed
        print("cleared")
"""
    done = signalled(work, number)
    what = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert done.stderr == f"deploy: {what}; what was finished is kept\n"
    assert done.stdout.splitlines() == ["cleared", f"{128 + number} True"]


SWALLOWED = """
class Swallows:
    def __del__(self):
        send()
def work():
    Swallows()
    time.sleep(60)
"""
TURNED = """
def work():
    try:
        send()
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error
"""

WAITS = """
import sys
class Slow:
    def __init__(self, stream):
        self.stream, self.sent = stream, False
    def __getattr__(self, name):
        return getattr(self.stream, name)
    def flush(self):
        if not self.sent:
            self.sent = True
            send()
            time.sleep(60)
        self.stream.flush()
sys.stdout = Slow(sys.stdout)
def work():
    pass
"""


@pytest.mark.parametrize("work", [SWALLOWED, TURNED, WAITS], ids=["swallows", "turns", "waits for the reader"])
def test_a_signal_that_a_library_turns_into_an_error_or_swallows_still_ends_the_command(work):
    done = signalled(work, signal.SIGTERM)
    assert done.stderr == "deploy: ended by SIGTERM; what was finished is kept\n"
    assert done.stdout.startswith(f"{128 + signal.SIGTERM} ")


def test_a_signal_that_is_swallowed_at_the_very_end_changes_nothing():
    """It is not sent again to a process whose handlers are what they were: the work was done."""
    done = signalled(
        SWALLOWED.replace("    time.sleep(60)\n", "") + "\nimport atexit; atexit.register(time.sleep, 0.2)\n", 2
    )
    assert done.stdout == "0 True\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_an_ignored_signal_stays_ignored():
    done = signalled("signal.signal(NUMBER, signal.SIG_IGN)\nwork = send\n", signal.SIGHUP)
    assert (done.stdout.split()[0], done.stderr) == ("0", "")
