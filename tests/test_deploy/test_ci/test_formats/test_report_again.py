"""`deploy report` of a check report: the answer, the page and every format again, from the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.ci.formats.page import check_page
from deploy.ci.formats.registry import FORMATS, write_format, writes_of
from deploy.errors import OutputError
from tests.test_deploy.test_ci.test_formats import reports

RESULTS = Path(__file__).parents[3] / "golden" / "results-v1.json"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "check.json"
    reports.MIXED.save(path)
    return path


def test_the_answer_and_the_page(here, kept):
    done = here("report", kept, "--page", "again.html")
    assert done.returncode == 0
    assert done.stdout.startswith("deploy check: 3 of 7 limits kept")
    assert "exit 2: not checked" in done.stdout
    assert Path("again.html").read_text(encoding="utf-8") == check_page(reports.MIXED)
    assert here("report", kept, "--json").stdout.strip() == reports.MIXED.model_dump_json(indent=1)
    assert here("report", kept, "--layers", kept).returncode == 2


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"github", "terminal"}))
def test_every_format(here, kept, name):
    expected = write_format(reports.MIXED, name)
    assert here("report", kept, "--format", name).stdout == expected
    assert here("report", kept, "--format", name, "-o", "made").stdout == ""
    assert Path("made").read_text(encoding="utf-8") == expected


def test_results_have_none_of_these_formats(here, kept):
    done = here("report", RESULTS, "--format", "junit")
    assert done.returncode == 2
    assert "is not a check report" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "did you mean 'junit'" in here("report", kept, "--format", "juint").stderr


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (["junit"], "it takes FORMAT=PATH"),
        (["junit="], "it takes FORMAT=PATH"),
        (["juint=a.xml"], "did you mean 'junit'"),
        (["junit=a", "markdown=a"], "two formats cannot share a file"),
        (["junit=nowhere/a.xml"], "cannot write nowhere/a.xml"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_beforehand(kept, wishes, said):
    with pytest.raises(OutputError, match=said):
        writes_of(wishes)
    assert [one.name for one in kept.parent.iterdir()] == ["check.json"]
