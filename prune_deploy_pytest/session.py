"""Collect the results of one pytest session, from all xdist workers."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from prune_deploy_pytest.rows import add_rows

__all__ = ["ANSWERS", "Recorder", "recorder"]

ANSWERS = pytest.StashKey[list[dict[str, Any]]]()
"""In a test's stash: the answers it got, in order."""
_REPORTED = pytest.StashKey[int]()
_ATTRIBUTE = "deploy_answers"
_RECORDER = pytest.StashKey["Recorder"]()
_OUTPUT = "prune_deploy_rows"
_COLOURS = {"faster": "green", "equivalent": "green", "measured": "green", "inconclusive": "yellow", "unfit": "yellow"}


class Recorder:
    """A plug-in of one session: answers travel with the test reports, rows go to pytest-benchmark.

    An xdist worker hands over its rows when it ends. pytest-benchmark itself does not measure beside other tests, but
    our rows were measured under the lock of the machine, so they may go into its table and files.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._answers: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._n_shown = 0
        self._without = ""

    def add(self, item: pytest.Item, said: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """Add one answer of a test.

        Parameters
        ----------
        item : pytest.Item
            The test.
        said : dict
            One line of the summary: ``test``, ``word``, ``line``, ``file`` and the number of ``rows``.
        rows : list of dict
            Rows for pytest-benchmark.
        """
        item.stash.setdefault(ANSWERS, []).append(said)
        if hasattr(self._config, "workerinput"):
            self._rows += rows
        else:
            self._show(rows)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Attach to a report the answers that its test got since the previous report."""
        report = yield
        answers, first = item.stash.get(ANSWERS, []), item.stash.get(_REPORTED, 0)
        if len(answers) > first:
            vars(report)[_ATTRIBUTE] = answers[first:]
            item.stash[_REPORTED] = len(answers)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the answers from a report, from any process."""
        self._answers += getattr(report, _ATTRIBUTE, [])

    def pytest_sessionfinish(self) -> None:
        """Hand over the rows, in a worker."""
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = json.dumps(self._rows)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Collect the rows of a worker that ended; one that died hands over none."""
        output = getattr(node, "workeroutput", None) or {}
        self._show(json.loads(output.get(_OUTPUT, "[]")))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write one line for each answer, and which rows pytest-benchmark lacks."""
        if not self._answers:
            return
        terminalreporter.section("speed of models (prune-deploy)")
        width = max(len(said["word"]) for said in self._answers)
        for said in self._answers:
            terminalreporter.write(f"{said['word'].upper():<{width}}", **{_COLOURS.get(said["word"], "red"): True})
            terminalreporter.write_line(f"  {said['test']}: {said['line']}")
            if said["file"]:
                terminalreporter.write_line(f"{'':{width}}  {said['file']}")
        lost = sum(said["rows"] for said in self._answers) - self._n_shown
        n, why = (lost, "of a process that died") if lost else (self._n_shown, self._without)
        if n and why and getattr(self._config, "_benchmarksession", None) is not None:
            rows = "1 row is" if n == 1 else f"{n} rows are"
            terminalreporter.write_line(f"{rows} not in the table and files of pytest-benchmark: {why}")

    def _show(self, rows: list[dict[str, Any]]) -> None:
        self._n_shown += len(rows)
        self._without = add_rows(self._config, rows) or self._without


def recorder(config: pytest.Config) -> Recorder:
    """Return the recorder of this session, registering it on first use."""
    if _RECORDER not in config.stash:
        config.stash[_RECORDER] = Recorder(config)
        config.pluginmanager.register(config.stash[_RECORDER], "prune_deploy_recorder")
    return config.stash[_RECORDER]
