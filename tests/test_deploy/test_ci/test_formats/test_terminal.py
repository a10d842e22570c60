"""A check report in the terminal: the verdict first, then what somebody has to do; nothing wider than it."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from deploy.ci.check_report import CheckReport
from deploy.ci.formats.lines import print_check
from tests.test_deploy.test_ci.test_formats import reports

CASES = {
    "one of each verdict": reports.MIXED,
    "everything is kept": reports.PASSING,
    "one limit, kept": reports.report(),
    "slower": reports.report(reports.row(), reports.SLOWER),
    "wrong answers": reports.report(reports.row(), reports.SLOWER, reports.WRONG),
    "undecided is a warning": reports.report(reports.row(), reports.UNDECIDED, retried=True),
    "undecided is a failure": reports.report(reports.row("inconclusive", reason="not decided")),
    "unfit": reports.report(reports.UNFIT, commit=None),
}
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def shown(report: CheckReport, width: int = 80, *, tty: bool = False, **settings) -> str:
    stream = io.StringIO()
    system = "standard" if tty else None
    print_check(
        report, Console(file=stream, width=width, highlight=False, force_terminal=tty, color_system=system), **settings
    )
    return stream.getvalue()


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
@pytest.mark.parametrize("width", [80, 120])
def test_it_is_as_in_the_golden_file(golden, width, tty):
    told = "\n".join(
        f"=== {name}\n{shown(report, width, tty=tty, page='check.html')}" for name, report in CASES.items()
    )
    golden(f"{'tty' if tty else 'pipe'}-{width}.txt", told)
    assert tty or told.isascii()
    for line in STYLE.sub("", told).splitlines():
        assert cell_len(line) <= width, line
        assert line == line.rstrip(), repr(line)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        (
            "one of each verdict",
            "3 of 7 limits kept; 1 not checked, 1 broken",
            "exit 2: not checked: slower of tracker",
        ),
        ("everything is kept", "all 3 limits kept", "exit 0: every limit is kept"),
        ("one limit, kept", "the limit is kept", "exit 0: every limit is kept"),
        ("slower", "1 of 2 limits kept; 1 broken", "exit 1: broken: slower of classifier on ort, 1 thread"),
        ("wrong answers", "1 of 3 limits kept; 2 broken", "exit 5: wrong answers: classifier on ort, 1 thread"),
        ("undecided is a warning", "1 of 2 limits kept; 1 undecided", "exit 0: nothing is broken; 1 limit of 2 not"),
        ("undecided is a failure", "0 of 1 limit kept; 1 undecided", "exit 3: not decided: p99_ms of classifier"),
        ("unfit", "0 of 1 limit kept; 1 unfit machine", "exit 4: the machine was not fit for measuring: load_ms"),
    ],
)
def test_verdict_first_and_exit_code_last(name, first, last):
    lines = shown(CASES[name], 200).splitlines()
    assert lines[0].startswith(f"deploy check: {first}")
    assert lines[-1].startswith(last)
    assert last.startswith(f"exit {CASES[name].exit_code}:")


def test_the_gravest_row_is_read_first():
    told = shown(CASES["wrong answers"])
    assert told.index("output 'y' differs") < told.index("5.2 % slower")
    told = shown(reports.MIXED)
    assert told.index("NOT CHECKED") < told.index("BROKEN") < told.index("UNFIT MACHINE") < told.index("UNDECIDED")


def test_each_row_that_is_not_kept_says_what_to_do():
    told = " ".join(shown(reports.MIXED, 200).split())
    for row in reports.MIXED.rows:
        if row.verdict != "kept":
            assert f"{row.where}: {row.reason}" in told
            assert f"to do {row.remedy}" in told


def test_a_limit_and_what_breaks_it_never_look_alike():
    near = reports.row("broken", observed=8.0004, low=None, high=None)
    told = shown(reports.report(near, reports.SMALL), 200, verbose=True)
    assert "8.0004 ms" in told
    assert "8 ms" in told
    assert "8.00 ms" not in told
    assert "1,048,569 bytes" in told


def test_verbose_shows_every_limit_and_what_was_measured(results):
    told = shown(reports.report(reports.SLOWER, reports.row(), results={"classifier": results}), 120, verbose=True)
    assert "All limits" in told
    assert "5.2 % [4.9, 5.6]" in told
    assert "Latency" in told
    assert told.rstrip().splitlines()[-1].startswith("exit 1")


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "[bold]x[/bold]", "\u202egnp.exe", "::error::x"])
def test_names_steer_nothing(name):
    odd = reports.row("broken", model=name, place=name, limit=name, statement=name, reason=name, remedy=name, unit=name)
    told = shown(reports.report(odd, odd.model_copy(update={"verdict": "kept", "outcome": "passed"}), title=name))
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert told.encode()
