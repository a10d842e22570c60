"""A table predicts the same time in the form that pruning decides by."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tables.plan_space import GroupRange
from benchmarks.tables.table import LayerTime, Steps, Term
from deploy.tables.latency_model import latency_model

GROUPS = tuple(GroupRange(name=name, n_units=size) for name, size in (("a", 40), ("b", 33), ("c", 16)))


def layers_of(rng):
    """Blocks, counts off a multiple, both in a product, a residual block, and a time whatever the counts."""
    steps = [
        Steps(group=group.name, width=int(rng.integers(1, 4)), off=off) for group in GROUPS for off in (0, 4, 16)
    ] + [Steps(group="block", width=1)]
    factors = [(), *((each,) for each in steps)]
    factors += [tuple(steps[at] for at in rng.integers(0, len(steps), 2)) for _ in range(6)]
    terms = [Term(ns=float(rng.random()), factors=each) for each in factors]
    cuts = [0, *sorted(rng.integers(0, len(terms), 2)), len(terms)]
    return tuple(
        LayerTime(name=f"layer{begin}", share=0.3, error=0, terms=tuple(terms[begin:end]))
        for begin, end in pairwise(cuts)
    )


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_it_predicts_what_the_table_predicts(dense_table, seed):
    rng = np.random.default_rng(seed)
    space = SimpleNamespace(groups=GROUPS, model_sha256="0" * 64, graph="g", whole={})
    made = dense_table(space)
    table = made.model_copy(
        update={"layers": layers_of(rng), "blocks": {"block": ("c",)}, "block": int(rng.choice([4, 16]))}
    )
    model = latency_model(table)
    counts = {group.name: int(rng.integers(1, group.n_units + 1)) for group in GROUPS if rng.random() < 0.8}
    for present in (0, 1):
        asked = {**counts, "block": present}
        assert model.time_ns(asked) == pytest.approx(table.predict_ns(asked), rel=1e-12)
    assert model.time_ns() == pytest.approx(table.dense_ns, rel=1e-12)
