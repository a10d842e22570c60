"""The layer times of a table as CSV."""

from __future__ import annotations

import csv
import io
from itertools import product

import pytest

from benchmarks.tables.plan_space import GroupRange
from benchmarks.tables.table import HeldOut, LatencyTable, LayerTime, MeasuredPlan, Steps, TableKey, Term
from deploy.report.latency_table import as_csv


def _table(n_inputs):
    """One layer that reads the concatenation of some groups and writes group ``out``; blocks of 4 channels."""
    names = [f"in{index}" for index in range(n_inputs)]
    out = Steps(group="out", width=1)
    terms = [Term(ns=100 + i, factors=(Steps(group=name, width=1), out)) for i, name in enumerate(names)]
    return LatencyTable(
        key=TableKey(
            model_sha256="0",
            graph="g",
            backend="ort",
            backend_version="1",
            precision="fp32",
            threads=1,
            device="cpu",
            batch=1,
            machine="0",
        ),
        started_utc="2026-01-01T00:00:00+00:00",
        groups=tuple(GroupRange(name=name, n_units=10) for name in (*names, "out")),
        block=4,
        base_ns=0,
        layers=(LayerTime(name="conv", share=1, error=0, terms=(Term(ns=50), *terms)),),
        held_out=HeldOut(n_plans=1, mape=0, worst=0, rank_correlation=1),
        plans=(MeasuredPlan(counts={}, whole_ns=1, layers_ns={}, dense_ns=1, predicted_ns=1),),
        seconds=1,
    )


def _rows(table):
    """Return the time at each combination of counts listed, after a check that it is what the table predicts."""
    times = {}
    for row in csv.DictReader(io.StringIO(as_csv(table))):
        counts = tuple(map(int, row["kept_units"].split()))
        groups = row["groups"].split()
        assert counts not in times
        times[counts] = int(row["ns"])
        assert times[counts] == table.predict_ns(dict(zip(groups, counts, strict=True)))
    return times


def test_all_combinations_of_a_few_groups_are_listed():
    assert set(_rows(_table(2))) == set(product((4, 8, 10), repeat=3))


@pytest.mark.parametrize("n_inputs", [11, 60])
def test_of_many_groups_one_at_a_time_is_not_whole(n_inputs):
    rows = _rows(_table(n_inputs))
    assert len(rows) == 1 + 2 * (n_inputs + 1)
    assert all(sum(count < 10 for count in counts) <= 1 for counts in rows)
    assert {counts[3] for counts in rows} == {4, 8, 10}
