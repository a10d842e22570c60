"""`deploy check` as a command: what it finds, prints and writes, and its exit codes. Nothing here is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy.ci.check_report import load_check
from deploy.cli import check as command
from deploy.errors import HistoryError, OutputError

TWO = "models:\n  - {model: small.onnx, limits: {file_mb: 1}}\n  - {model: large.onnx, limits: {file_mb: 0.01}}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, write_net):
    """A folder with a check that a small model passes and a large one does not."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "small.onnx")
    write_net(tmp_path / "large.onnx", padding=100_000)
    (tmp_path / "deploy-check.yaml").write_text(TWO, encoding="utf-8")
    return tmp_path


def test_the_check_file_of_the_folder_is_found_and_models_are_chosen(here):
    done = here("check")
    assert done.returncode == 1
    assert "BROKEN  large: 0.1 MB" in done.stdout
    done = here("check", "--only", "sm*")
    assert done.returncode == 0
    assert "large" not in done.stdout


def test_the_table_of_pyproject_is_found_where_there_is_no_file(here, folder):
    (folder / "deploy-check.yaml").unlink()
    assert "there is no deploy-check.yaml here" in here("check").stderr
    (folder / "pyproject.toml").write_text(
        "[[tool.deploy.check.models]]\nmodel = 'small.onnx'\nlimits = {file_mb = 1}\n", encoding="utf-8"
    )
    assert here("check").returncode == 0
    sub = folder / "sub folder"
    sub.mkdir()
    assert here("check", sub / ".." / "pyproject.toml").returncode == 0


def test_paths_start_at_the_folder_of_the_check_file(here, folder, monkeypatch):
    elsewhere = folder / "else\nwhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert here("check", "../deploy-check.yaml", "--only", "small").returncode == 0


def test_report_page_and_other_formats_are_written_beside_what_is_printed(here):
    done = here("check", "-o", "c.json", "--page", "c.html", "--write", "junit=c.xml", "--write", "markdown=c.md")
    assert done.returncode == 1
    report = load_check(Path("c.json"))
    assert [row.verdict for row in report.rows] == ["kept", "broken"]
    assert Path("c.md").read_text(encoding="utf-8").startswith("## \N{CROSS MARK} deploy check: 1 of 2 limits kept")
    assert {"c.html", "c.xml"} <= {one.name for one in Path().iterdir()}
    assert json.loads(here("check", "--json").stdout)["rows"][1]["verdict"] == "broken"


def test_what_is_counted_is_kept_in_a_history(here):
    assert here("check", "--history", "h.db", "--only", "small").returncode == 0
    listed = here("history", "list", "--history", "h.db").stdout
    assert re.search(r"small +- +file size +any +1 +\d+ B", listed), listed
    Path("deploy-check.yaml").write_text(
        "models:\n  - {model: small.onnx, baseline: large.onnx, limits: {slower: null, more_memory: null}}\n"
    )
    done = here("check", "--history", "h.db")
    assert done.returncode == 0
    assert done.stderr.endswith("h.db got no points: no limit of this check has a number that a history keeps\n")


@pytest.mark.parametrize(
    ("name", "error"),
    [("add_report", HistoryError("history h.db: the disk is full")), ("save_as", OutputError("cannot write c.xml"))],
)
def test_what_was_found_is_told_even_where_it_cannot_be_written(here, monkeypatch, name, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(command, name, fails)
    done = here("check", "--history", "h.db", "-o", "c.json")
    assert done.returncode == 2
    assert "BROKEN  large: 0.1 MB" in done.stdout
    assert done.stderr.endswith(f"deploy: {error}\n")
    assert load_check(Path("c.json")).rows


def test_a_job_that_is_ended_leaves_what_was_measured(here, monkeypatch):
    here("check", "-o", "whole.json")
    whole = load_check(Path("whole.json"))

    def ended(*_, so_far, **__):
        so_far(whole)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "check_models", ended)
    done = here("check", "-o", "c.json")
    assert done.returncode == 130
    assert done.stderr == "deploy: interrupted; what was finished is kept\n"
    assert load_check(Path("c.json")) == whole


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-o", "x", "--page", "./x"), "x is given for two outputs"),
        (("-o", "x", "--write", "junit=x"), "x is given for two outputs"),
        (("--json", "--format", "junit"), "--json means --format json"),
        (("--format", "juint"), "unknown format 'juint'; did you mean 'junit'?"),
        (("--only", "smal"), "--only 'smal' matches no model; did you mean 'small'?"),
        (("-o", "nowhere/x"), "cannot write nowhere/x"),
        (("--history", "nowhere/x"), "there is no folder nowhere"),
        (("none.yaml",), "none.yaml: no such file"),
        ((".",), ". is a folder; name the check file in it"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(here, arguments, line):
    done = here("check", *arguments)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not Path("x").exists()


def test_a_mistake_stands_at_the_run_on_github(here):
    done = here("check", "none.yaml", "--format", "github")
    assert done.returncode == 2
    assert done.stdout == "::error title=deploy check::none.yaml: no such file\n"
    assert done.stderr == "deploy: none.yaml: no such file\n"


def test_the_schema_is_printed_without_a_check_file(here, folder):
    (folder / "deploy-check.yaml").unlink()
    assert json.loads(here("check", "--schema").stdout)["title"] == "deploy check"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TWO.replace("\n", "\r\n").encode(), ""),
        (b"\xef\xbb\xbf" + TWO.encode(), ""),
        (TWO.encode("utf-16"), "it is not a text file"),
        (b"title: caf\xe9\n", "it is not a text file"),
        (b"", "a check file is a mapping of keys to values, got an empty file"),
    ],
)
def test_line_ends_and_encodings(here, folder, text, line):
    (folder / "deploy-check.yaml").write_bytes(text)
    done = here("check", "--only", "small")
    assert done.returncode == (2 if line else 0), done.stderr
    assert line in done.stderr
