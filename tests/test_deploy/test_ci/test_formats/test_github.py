"""What a job on GitHub prints and writes: annotations, summary, outputs; nothing in a name becomes a command."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.ci.formats.github import SHOWN, command, github_annotations, publish
from deploy.ci.formats.registry import show
from deploy.errors import OutputError
from tests.test_deploy.test_ci.test_formats import reports

LINE = re.compile(r"::(error|warning|notice)(?: (\S.*?))?::(.*)")


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """The files and variables that a runner gives a step."""
    monkeypatch.chdir(tmp_path)
    return {
        "GITHUB_WORKSPACE": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
    }


def read(line):
    """Read a command as the runner does."""
    level, properties, message = LINE.fullmatch(line).groups()
    pairs = dict(pair.split("=", 1) for pair in (properties or "").split(",") if pair)
    return level, {name: decoded(value, ":,") for name, value in pairs.items()}, decoded(message)


def decoded(text, more=""):
    for letter in f"\r\n{more}":
        text = text.replace(f"%{ord(letter):02X}", letter)
    return text.replace("%25", "%")


def outputs(path):
    """Read the outputs as the runner does."""
    found, lines = {}, iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        name, delimiter = line.split("<<", 1)
        value = []
        while (part := next(lines)) != delimiter:
            value.append(part)
        found[name] = "\n".join(value)
    return found


def printed(report, runner, **settings):
    stream = io.StringIO()
    show(report, "github", environment=runner, console=Console(file=stream), **settings)
    return stream.getvalue()


def test_annotations_are_as_in_the_golden_file(golden, runner):
    golden("annotations.txt", github_annotations(reports.MIXED, runner))


def test_the_log_holds_the_answer_between_marks(runner):
    begin, *answer = printed(reports.MIXED, runner).splitlines()
    token = begin.removeprefix("::stop-commands::")
    assert len(token) == 32
    end = answer.index(f"::{token}::")
    assert answer[0].startswith("deploy check: 3 of 7 limits kept")
    assert answer[end - 1].startswith("exit 2")
    assert [read(line)[0] for line in answer[end + 1 :]] == ["error", "error", "error", "warning"]
    assert printed(reports.MIXED, runner).splitlines()[0] != begin


def test_the_gravest_is_annotated_first_on_its_file(runner):
    lines = github_annotations(reports.MIXED, runner).splitlines()
    level, properties, message = read(lines[0])
    assert level == "error"
    assert properties == {"file": "models/tracker.onnx", "title": "tracker on ort, 1 thread: slower not checked"}
    assert message.startswith("the baseline git:main:models/tracker.onnx does not exist; limit: at most 3 % slower")
    assert message.endswith("\nTo do: name another baseline in the check file")


@pytest.mark.parametrize("n", [SHOWN, SHOWN + 1, 57])
def test_more_than_github_shows_are_counted(n, runner):
    rows = [reports.row("broken", model=f"model {index}") for index in range(n)]
    warned = [reports.UNDECIDED] * 12
    read_lines = [read(line) for line in github_annotations(reports.report(*rows, *warned), runner).splitlines()]
    errors = [message for level, _, message in read_lines if level == "error"]
    assert len(errors) == SHOWN
    assert sum(level == "warning" for level, *_ in read_lines) == SHOWN
    assert errors[-1].startswith(f"{n - SHOWN + 1} more rows" if n > SHOWN else "p99 is")


def test_a_job_that_passed_has_a_notice(runner):
    assert github_annotations(reports.PASSING, runner) == "::notice title=vision::all 3 limits kept\n"


@given(
    st.text(st.characters(exclude_categories=("Cs",))), st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
)
def test_a_command_is_one_line_that_reads_as_it_was_meant(message, title):
    line = command("error", message, title=title)
    assert len(line.splitlines()) == 1
    level, properties, _ = read(line)
    assert level == "error"
    assert properties.keys() == {"title"}
    if message.isprintable() and title.isprintable():
        assert read(line) == ("error", {"title": title}, message)


@pytest.mark.parametrize(
    "name", ["x\n::error::y", "::add-mask::x", "##[error]x", "x\nverdict=passed", "a%0A::error::b", "verdict<<EOF"]
)
def test_names_are_no_commands_and_no_outputs(runner, tmp_path, name):
    odd = dict.fromkeys(("model", "place", "limit", "statement", "reason", "remedy"), name)
    rows = (reports.row("broken", **odd), reports.row(**odd))
    lines = printed(reports.report(*rows, title=name), runner, files={"report": name}).splitlines()
    end = lines.index(f"::{lines[0].removeprefix('::stop-commands::')}::")
    assert [read(line)[0] for line in lines[end + 1 :]] == ["error"]
    found = outputs(tmp_path / "output")
    assert found.keys() == {"verdict", "exit-code", "summary", "report"}
    assert found["verdict"] == "failure"


def test_outputs_say_what_came_out_of_it(runner, tmp_path):
    printed(reports.MIXED, runner, page="check.html", files={"report": "check.json"})
    assert outputs(tmp_path / "output") == {
        "verdict": "failure",
        "exit-code": "2",
        "summary": "3 of 7 limits kept; 1 not checked, 1 broken, 1 unfit machine, 1 undecided",
        "page": "check.html",
        "report": "check.json",
    }


def test_the_summary_is_appended_and_stays_below_what_github_takes(runner, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n" + "x" * 1_000_000 + "\n", encoding="utf-8")
    many = reports.report(*(reports.row("broken", model=f"model {index}") for index in range(2000)))
    publish(many, runner, {})
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert "deploy check: 0 of 2000 limits kept" in text
    assert "more rows that are not kept" in text
    assert summary.stat().st_size < 1024 * 1024


def test_a_summary_that_cannot_be_written_is_one_line(runner, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        publish(reports.PASSING, {**runner, "GITHUB_STEP_SUMMARY": str(tmp_path)}, {})


def test_elsewhere_nothing_is_written(tmp_path):
    publish(reports.PASSING, {}, {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("check_file", "file", "shown"),
    [
        ("deploy-check.yaml", "net.onnx", "net.onnx"),
        ("ci/deploy-check.yaml", "../models/net.onnx", "models/net.onnx"),
        ("ci/deploy-check.yaml", "/elsewhere/net.onnx", "ci/deploy-check.yaml"),
        ("ci/deploy-check.yaml", "../../net.onnx", "ci/deploy-check.yaml"),
        ("/elsewhere/deploy-check.yaml", "net.onnx", "deploy-check.yaml"),
        ("deploy-check.yaml", "a\0b", "deploy-check.yaml"),
    ],
)
def test_annotations_name_files_from_the_root_of_the_repository(runner, check_file, file, shown):
    report = reports.report(reports.row("broken", file=file), check_file=check_file)
    assert read(github_annotations(report, runner).strip())[1]["file"] == shown
