"""The table of a load: p99 comes with what the sample can say about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scenarios import MultiStream, MultiStreamResult
from benchmarks.scenarios.load import LoadMeasurement
from deploy.report.load_table import load_table
from deploy.results.results import load

GOLDEN = Path(__file__).parents[2] / "golden" / "results-v1.json"


def row(latencies: np.ndarray) -> dict[str, str]:
    done = np.cumsum(latencies)
    issued = (done - latencies,)
    pair = load(GOLDEN).comparisons[0].candidate
    result = MultiStreamResult(
        settings=MultiStream(streams=1), issued_ns=tuple(map(tuple, issued)), done_ns=(tuple(done),)
    )
    table = load_table([LoadMeasurement(subject=pair.subject, environment=load(GOLDEN).environment, result=result)])
    return dict(zip(table.columns, table.rows[0], strict=True))


@pytest.fixture
def latencies() -> np.ndarray:
    return np.random.default_rng(0).lognormal(14, 0.2, 2000).astype(np.int64)


def test_p99_lies_in_its_interval(latencies):
    cells = row(latencies)
    low, high = (float(end.split()[0]) for end in cells["p99 in"].split(" to "))
    assert low < float(cells["p99"].split()[0]) < high


def test_requests_that_follow_each_other_know_less(latencies):
    assert row(np.sort(latencies))["p99 in"] == "-"


def test_too_few_requests_have_no_p99(latencies):
    cells = row(latencies[:100])
    assert (cells["p99"], cells["p99 in"]) == ("-", "-")
    assert cells["p90"] != "-"
