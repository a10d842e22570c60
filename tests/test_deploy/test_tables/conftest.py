"""A latency table without a runtime: each unit of a group costs something, in blocks of four channels."""

from __future__ import annotations

import pytest

from benchmarks.tables.table import HeldOut, LatencyTable, LayerTime, MeasuredPlan, Steps, TableKey, Term


@pytest.fixture(scope="session")
def dense_table():
    def make(space):
        terms = tuple(Term(ns=10.0 + i, factors=(Steps(group=g.name, width=1),)) for i, g in enumerate(space.groups))
        return LatencyTable(
            key=TableKey(
                model_sha256=space.model_sha256,
                graph=space.graph,
                backend="ort",
                backend_version="1",
                precision="fp32",
                threads=1,
                device="cpu",
                batch=1,
                machine="0" * 16,
            ),
            started_utc="2026-01-01T00:00:00+00:00",
            groups=space.groups,
            block=4,
            base_ns=5.0,
            layers=(LayerTime(name="all", share=1, error=0, terms=terms),),
            held_out=HeldOut(n_plans=1, mape=0, worst=0, rank_correlation=1),
            plans=(MeasuredPlan(counts=space.whole, whole_ns=1, layers_ns={}, dense_ns=1, predicted_ns=1),),
            seconds=1,
        )

    return make
