"""A table that was measured is found again for the same network, backend, options and machine, and for nothing else."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from backends import registry
from backends.base import CompileOptions
from benchmarks.errors import RecordError
from benchmarks.layers.comparison import LayerReport
from benchmarks.records.file import load
from benchmarks.subject.given import GivenInputs
from benchmarks.subject.subject import SubjectSpec, content_sha256
from benchmarks.tables.block import known_block
from benchmarks.tables.build import table_of, tables_kept_for
from benchmarks.tables.cache import find_table, keep_table, kept_tables
from benchmarks.tables.plan_space import PlanSpace, WholeLayer
from benchmarks.tables.table import LatencyTable


@pytest.fixture
def ask(dense, space, new_runtime, new_world, tmp_path):
    """Ask for a table; return it, how many models were run for it, and the line that was said."""
    version = registry.probe("ort", "cpu").version

    def make(plans=20, world=None, **options):
        runtime, lines = new_runtime(version=version), []
        spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions(**options))
        table = table_of(
            spec,
            space,
            plans=plans,
            say=lines.append,
            folder=tmp_path / "tables",
            processes=runtime.processes,
            machine=world or new_world(),
        )
        return table, runtime.n_models, lines[-1]

    return make


def test_what_was_measured_is_not_measured_again(ask, space, tmp_path):
    first, n_models, line = ask()
    assert n_models >= 20
    assert "no table of this network was measured" in line
    again, n_models, line = ask()
    assert (again, n_models) == (first, 0)
    (path,) = (tmp_path / "tables").iterdir()
    assert line == f"using a table measured before on this machine: {path}"
    assert list(kept_tables(tmp_path / "tables")) == [(path, first)]
    told = space.model_copy(update={"whole_layers": (WholeLayer(node=0, reason="an operator was refused"),)})
    assert find_table(first.key, told, 20, tmp_path / "tables")[0] == first  # why a layer stays whole takes no time


def test_the_block_is_that_of_the_table_that_is_kept(ask, dense, new_world, tmp_path, monkeypatch):
    def known(**options):
        spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions(**options))
        return known_block(spec, folder=tmp_path / "tables", machine=new_world())

    monkeypatch.setattr("benchmarks.tables.block.find_block", lambda *_, **__: 4)
    assert known() == (4, "measured", "")
    table, _, _ = ask()
    assert known() == (table.block, "table", "")
    assert known(threads=2) == (4, "measured", "")


def test_all_tables_that_fit_are_found_and_another_says_what_it_is_of(ask, dense, new_world, tmp_path):
    def kept(**options):
        spec = SubjectSpec(model=dense, backend="ort", options=CompileOptions(**options))
        return tables_kept_for(spec, folder=tmp_path / "tables", machine=new_world())

    assert kept() == ((), "")
    ask()
    ask(plans=21)
    tables, other = kept()
    assert [len(table.plans) for _, table in tables] == [21, 20]
    assert other == ""
    tables, other = kept(threads=2)
    assert tables == ()
    assert other.endswith("was measured for threads 1, not 2")
    # A newer table of another backend tells less.
    table = kept()[0][0][1]
    key = table.key.model_copy(update={"backend": "openvino"})
    table.model_copy(update={"key": key}).save(tmp_path / "tables" / "newest.json")
    assert kept(threads=2)[1] == other


def test_sizes_that_only_the_given_inputs_tell_find_the_table(dense, space, new_runtime, new_world, tmp_path):
    model = onnx.load(dense)
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(model, tmp_path / "free.onnx")
    free = space.model_copy(update={"model_sha256": content_sha256(tmp_path / "free.onnx")})
    shape = (1, 3, 4, 4)
    spec = SubjectSpec(model=tmp_path / "free.onnx", backend="ort", shapes={"x": shape})
    runtime = new_runtime(version=registry.probe("ort", "cpu").version)
    where = {"folder": tmp_path / "tables", "machine": new_world()}
    table = table_of(spec, free, plans=20, processes=runtime.processes, **where)
    given = SubjectSpec(model=spec.model, backend="ort", given=GivenInputs(arrays={"x": np.zeros(shape, np.float32)}))
    assert known_block(given, **where) == (table.block, "table", "")


def test_other_options_plans_and_machines_are_measured(ask, space, tmp_path):
    table, _, _ = ask()
    _, n_models, line = ask(threads=2)
    assert n_models >= 20
    assert line.endswith("was measured for threads 1, not 2: another one is measured")
    _, n_models, line = ask(plans=21)
    assert n_models >= 21
    assert line.endswith("was made with other groups, blocks or plans: another one is measured")
    for change, message in (
        ({"machine": "f" * 16}, "on another machine"),
        ({"backend_version": "0.1"}, "for backend version"),
    ):
        found, line = find_table(table.key.model_copy(update=change), space, 20, tmp_path / "tables")
        assert found is None
        assert message in line
    other = space.model_copy(update={"groups": space.groups[:1]})
    assert find_table(table.key, other, 20, tmp_path / "tables")[0] is None


def test_a_table_that_cannot_be_kept_is_used_all_the_same(ask, tmp_path):
    (tmp_path / "tables").write_text("a file where the folder should be", encoding="utf-8")
    table, n_models, line = ask()
    assert n_models >= 20
    assert table.held_out.n_plans == 20
    assert line.startswith(f"the table is used, and not kept for other runs: cannot write to {tmp_path / 'tables'}: ")
    assert line.endswith("set PRUNE_DEPLOY_STATE to a folder")


def test_a_broken_table_is_measured_anew(ask, space, tmp_path):
    table, _, _ = ask()
    path = keep_table(table, space, 20, tmp_path / "tables")
    path.write_text("{", encoding="utf-8")
    again, n_models, line = ask()
    assert n_models >= 20
    assert "is not a latency table" in line
    assert again.key == table.key
    assert find_table(table.key, space, 20, tmp_path / "tables")[0] == again


def test_a_table_of_another_version_says_so(ask, tmp_path):
    table, _, _ = ask()
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**json.loads(table.model_dump_json()), "version": 6}), encoding="utf-8")
    with pytest.raises(RecordError, match=r"old\.json is a latency table of version 6; this prune-deploy reads \d+: "):
        LatencyTable.load(path)


def test_a_file_of_another_kind_is_not_told_by_its_version(ask, space, tmp_path):
    table, _, _ = ask()
    table.save(tmp_path / "table.json")
    space.save(tmp_path / "space.json")
    for kind, path in ((PlanSpace, "table.json"), (LatencyTable, "space.json"), (LayerReport, "table.json")):
        with pytest.raises(RecordError, match=rf"{path} is not a record of that kind"):
            load(tmp_path / path, kind, "record of that kind")


def test_a_table_of_this_version_with_a_mistake_says_which(ask, tmp_path):
    table, _, _ = ask()
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({**json.loads(table.model_dump_json()), "block": 0}), encoding="utf-8")
    with pytest.raises(RecordError, match=r"broken\.json is not a latency table: Input should be greater than"):
        LatencyTable.load(path)
    for change, told in (({"plans": []}, "at least 1 item"), ({"groups": []}, "there is no group 'a'")):
        path.write_text(json.dumps({**json.loads(table.model_dump_json()), **change}), encoding="utf-8")
        with pytest.raises(RecordError, match=rf"broken\.json is not a latency table: .*{told}"):
            LatencyTable.load(path)
