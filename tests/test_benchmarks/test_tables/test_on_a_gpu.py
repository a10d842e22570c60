"""A latency table by TensorRT's own profile."""

from __future__ import annotations

import pytest

from backends.base import CompileOptions
from benchmarks.subject.subject import SubjectSpec
from benchmarks.tables.build import build_table


@pytest.mark.gpu
def test_a_table_is_built_from_the_layers_of_tensorrt(dense, space):
    spec = SubjectSpec(model=dense, backend="trt", options=CompileOptions(device="cuda"))
    table = build_table(spec, space, plans=20)
    assert (table.key.backend, table.key.device) == ("trt", "cuda")
    assert all(plan.whole_ns > 0 for plan in table.plans)
    assert any(any(plan.layers_ns.values()) for plan in table.plans)
    assert table.predict_ns({"a": 16, "b": 16}) > 0
