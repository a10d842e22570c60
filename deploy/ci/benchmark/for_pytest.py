"""Process that the pytest plug-in starts: ``python -P -m deploy.ci.benchmark.for_pytest REQUEST ANSWER``.

The plug-in runs in the test process of users whose own packages may have the same names as ours, so it imports none of
ours and exchanges JSON files with this process. ``REQUEST`` holds the arguments of `deploy.bench`, with ``inputs`` as
the name of a file of `numpy.savez`. ``ANSWER`` holds either the result (``outcome``, ``verdict``, ``line``, ``remedy``,
and the rows as the ``document`` of pytest-benchmark) or why nothing was measured (``refused``, ``kind``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from backends.reading.files import read_json
from benchmarks.process.serving import end_with_parent
from benchmarks.subject.given import GivenInputs
from deploy import exit_codes
from deploy.ci.benchmark.document import document_of_results
from deploy.errors import DeployError, as_call_errors
from deploy.files.advice import PYTHON, advised, fitting
from deploy.files.atomic import write_file
from deploy.files.scratch import scratch_folder
from deploy.report.answer.deriving import answer_of
from deploy.report.formatting import answer
from deploy.results.calls import bench
from deploy.results.results import Results
from deploy.user_errors import guarded

__all__ = ["OUTCOMES", "answer_to", "main", "told_of"]

OUTCOMES = {
    exit_codes.OK: "ok",
    exit_codes.REGRESSION: "slower",
    exit_codes.USAGE: "failed",
    exit_codes.INCONCLUSIVE: "inconclusive",
    exit_codes.UNFIT: "unfit",
    exit_codes.WRONG_ANSWERS: "wrong",
}
"""Outcome reported to the plug-in, by the exit code of the same measurement."""

_REMEDIES = {
    "failed": "",
    "unfit": "measure again when it is quieter, or decide what that is: unfit='warn', 'skip' or 'accept'",
    "wrong": "do not use it there: try another backend or precision, or export the model again",
}
"""Used if the answer names options of a command, or has nothing to add to the line."""


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Measure one model, or two in turn, on one backend.

    Parameters
    ----------
    request : dict
        Arguments of `deploy.bench`; the results are saved to ``output``.
    """
    options = dict(request)
    try:
        if (inputs := options.pop("inputs", None)) is not None:
            with as_call_errors(), advised(PYTHON):
                options["inputs"] = GivenInputs.read([Path(inputs)]).arrays
        return told_of(bench(**options))
    except DeployError as error:
        return {"refused": " ".join(str(error).split()), "kind": type(error.__cause__ or error).__name__}


def told_of(results: Results) -> dict[str, Any]:
    """Return the answer to the plug-in for results of one backend."""
    with advised(PYTHON):
        told = answer_of(results)
        line = fitting(answer(results))
    outcome = OUTCOMES[exit_codes.exit_code(results)]
    subject = f"{told.subject}: " if told.is_pair else ""
    ending = f"{told.ending.sentence}; " if outcome == "unfit" else ""
    return {
        "outcome": outcome,
        "verdict": told.backends[0].verdict,
        "line": f"{subject}{ending}{line}",
        "remedy": _REMEDIES.get(outcome, told.ending.remedy),
        "document": document_of_results(results),
    }


def main() -> None:
    """Read the request, measure, and write the answer."""
    request, answered = map(Path, sys.argv[1:])
    with scratch_folder():
        write_file(answered, json.dumps(answer_to(read_json(request)), allow_nan=False))


if __name__ == "__main__":
    end_with_parent()
    guarded(main)
