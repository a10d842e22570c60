"""Check reports of a model whose times are given, commit by commit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.ci.check_report import CheckReport, CheckRow, Commit
from deploy.results.results import load

GOLDEN = Path(__file__).parents[3] / "golden"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def golden():
    return load(GOLDEN / "results-v1.json")


def slowed(measurement, factor):
    trials = tuple(
        trial.model_copy(
            update={"blocks_ns": tuple(tuple(round(factor * ns) for ns in block) for block in trial.blocks_ns)}
        )
        for trial in measurement.trials
    )
    return measurement.model_copy(update={"trials": trials})


@pytest.fixture(scope="session")
def report_of(golden):
    """Make the report of one check: the model `factor` times as slow as the recorded one, in the given commit."""

    def make(number=0, factor=1.0, *, machine="a" * 16, sha=None, branch="main", dirty=False, created=None, **parts):
        when = BEGIN + timedelta(hours=number)
        pair = golden.comparisons[0]
        pair = pair.model_copy(update={"candidate": slowed(pair.candidate, factor)})
        row = CheckRow(
            model="classifier",
            file="model.onnx",
            backend="ort",
            place="ort, 2 threads",
            limit="slower",
            statement="at most 3 % slower than the baseline",
            allowed=0.03,
            observed=factor - 1,
            unit="share",
            verdict="kept",
            outcome="passed",
            reason="no difference",
        )
        made = CheckReport(
            created_utc=(when if created is None else created).isoformat(),
            tool_version="0.1.0",
            title="checks",
            check_file="deploy-check.yaml",
            commit=Commit(sha=sha or f"{number:040x}", branch=branch, committed_utc=when.isoformat(), dirty=dirty),
            environment=golden.environment,
            machine=machine,
            budget_s=60,
            took_s=20,
            rows=(row,),
            results={"classifier": golden.model_copy(update={"comparisons": (pair,), "recipe": None})},
        )
        return made.model_copy(update=parts)

    return make
