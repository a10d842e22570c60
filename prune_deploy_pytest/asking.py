"""Start a separate process that measures: it takes the lock of the machine and writes its answer to one file.

It finds our packages before any others, whatever is in the folder of the tests or in ``PYTHONPATH``, and ends with
this process, however this one ends.
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
"""Command of the process; its arguments are a file for the request and one for the answer."""
TIMER = pytest.StashKey[tuple[Any, float]]()
"""In a test's stash: the settings of pytest-timeout's timer, and when it was set."""

_PACKAGES = Path(__file__).resolve().parents[1]
_GRACE_S = 10.0
_TRACING = ("COV_CORE_", "COVERAGE_PROCESS_")
"""Prefixes of variables by which coverage traces every process of the tests, which slows down one that measures."""
_LAST_WORDS_BYTES = 1 << 14


def ask(request: Mapping[str, Any], folder: Path, item: pytest.Item) -> dict[str, Any]:
    """Measure in a separate process, and return its answer.

    The timer of pytest-timeout is stopped meanwhile: a test must not fail because the machine is busy with another
    measurement, and the measuring itself ends with its budget.

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
        The process gave no answer: it could not be started, or died.
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
    """Convert a numpy number or an array of numbers to a JSON value."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _run(command: list[str], words: Any) -> int:
    around = {name: value for name, value in os.environ.items() if not name.startswith(_TRACING)}
    path = os.pathsep.join(filter(None, (str(_PACKAGES), around.get("PYTHONPATH"))))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closed when this process ends, which tells the child to stop
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
    """End the process and all its children: gracefully, or by force after some seconds."""
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
