"""Ask a process of ours to measure: it runs elsewhere, under the lock of the machine, and writes one file.

It finds our packages before any other, whatever the tests have in their folder or in ``PYTHONPATH``, and ends with this
process, however this one ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from prune_deploy_pytest.records import ModelSpeedError

__all__ = ["COMMAND", "TIMER", "ask"]

COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "deploy.ci.benchmark.for_pytest")
"""What is started, with a file for the question and one for the answer."""
TIMER = pytest.StashKey[tuple[Any, float]]()
"""In a test's stash: the settings that pytest-timeout has set its timer by, and when."""

_PACKAGES = Path(__file__).resolve().parents[1]
_GRACE_S = 10.0
_TRACING = ("COV_CORE_", "COVERAGE_PROCESS_")
"""Beginnings of variables by which coverage traces every process that the tests start: one that measures is slower."""
_LAST_WORDS_BYTES = 1 << 14


def ask(request: Mapping[str, Any], folder: Path, item: pytest.Item) -> dict[str, Any]:
    """Measure in a process of ours, and return its answer.

    The clock of pytest-timeout stands still meanwhile: how long the machine is busy with somebody else's measurement
    is not the test's fault, and the measuring itself ends with its budget.

    Parameters
    ----------
    request : Mapping
        See `deploy.ci.benchmark.for_pytest`.
    folder : Path
        For the two files.
    item : pytest.Item
        The test that asks.

    Raises
    ------
    ModelSpeedError
        The process did not come to an answer: it could not be started, or died.
    """
    __tracebackhide__ = True
    question, answered = folder / "request.json", folder / "answer.json"
    question.write_text(json.dumps(request, default=_plain), encoding="utf-8")
    with tempfile.TemporaryFile() as words:
        with _stopped_clock(item):
            ended = _run([*COMMAND, str(question), str(answered)], words)
        if ended == 0 and answered.is_file():
            answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
            return answer
        words.seek(max(0, words.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
        lines = [line.strip() for line in words.read().decode(errors="replace").splitlines() if line.strip()]
    how = f"was killed by signal {-ended}" if ended < 0 else f"ended with exit code {ended}"
    last = f": {lines[-1].removeprefix('deploy: ')}" if lines else ""
    raise ModelSpeedError(f"prune-deploy could not measure, its process {how}{last}")


def _plain(value: Any) -> Any:
    """Return a number of numpy, or an array of numbers, as JSON can hold it."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _run(command: list[str], words: Any) -> int:
    around = {name: value for name, value in os.environ.items() if not name.startswith(_TRACING)}
    path = os.pathsep.join(filter(None, (str(_PACKAGES), around.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # its hang-up is how it learns of the end of this process
        stdout=words,
        stderr=subprocess.STDOUT,
        env={**around, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        start_new_session=True,
    ) as process:
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and all it has started: in order, if it does so in some seconds."""
    if hasattr(os, "killpg"):
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@contextmanager
def _stopped_clock(item: pytest.Item) -> Iterator[None]:
    settings, since_s = item.stash.get(TIMER, (None, 0.0))
    if settings is None:
        yield
        return
    left_s = settings.timeout - (time.monotonic() - since_s)
    item.config.hook.pytest_timeout_cancel_timer(item=item)
    try:
        yield
    finally:
        item.config.hook.pytest_timeout_set_timer(item=item, settings=settings._replace(timeout=max(1.0, left_s)))
