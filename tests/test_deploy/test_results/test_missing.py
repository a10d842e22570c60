"""A file that is missing, a folder, or not what it should be is one line that names it once, whoever reads it."""

from __future__ import annotations

import pytest

from benchmarks.records.file import load_measurement
from deploy.ci.check_file import load_check_file
from deploy.ci.check_report import load_check
from deploy.ci.history.exchange import read_file
from deploy.recipe import load_recipe
from deploy.results.results import load

READERS = {
    "measurement": load_measurement,
    "check file": load_check_file,
    "check report": load_check,
    "history": read_file,
    "recipe": load_recipe,
    "results": load,
}


@pytest.fixture(params=READERS)
def line(request):
    def line_of(path):
        with pytest.raises(Exception, match=r"none|folder|broken") as told:
            READERS[request.param](path)
        return str(told.value)

    return line_of


def test_a_file_that_is_missing(line, tmp_path):
    path = tmp_path / "none.json"
    assert line(path) == f"{path}: no such file"


def test_a_folder(line, tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    assert line(path).startswith((f"{path} is a folder; ", f"{path} cannot be read: "))


def test_a_file_of_something_else(line, tmp_path):
    path = tmp_path / "broken"
    path.write_bytes(b"\xff\x00[")
    assert line(path).count(str(path)) == 1
