"""What ends a command, in one line and an exit code that means one thing."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from deploy.errors import RecipeError
from deploy.user_errors import guarded


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
