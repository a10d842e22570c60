"""ONNX files beyond two gigabytes, beside the file and inside it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from backends.errors import BackendError
from backends.ort import OrtBackend
from benchmarks.runner import Settings, SubjectSpec, measure
from benchmarks.subject.cost import cost
from benchmarks.subject.inputs import model_specs
from benchmarks.subject.subject import content_sha256

ROOT = Path(__file__).parents[2]
FLOAT = TensorProto.FLOAT
GIB = 1 << 30


def sparse_model(save_model, path, gigabytes):
    """Write a model whose weights are a hole of that size in a file beside it."""
    rows = gigabytes * GIB // (4 * 1024)
    table = TensorProto(name="w", data_type=FLOAT, dims=[rows, 1024], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "w.bin", "offset": 0, "length": rows * 4096}.items():
        table.external_data.add(key=key, value=str(value))
    node = helper.make_node("Gather", ["w", "i"], ["y"])
    save_model(path, [node], [("i", TensorProto.INT64, ["batch"])], [("y", FLOAT, ["batch", 1024])], [table])
    with (path.parent / "w.bin").open("wb") as data:
        data.truncate(rows * 4096)
    return path, rows


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_more_than_two_gigabytes_beside_the_file_are_described_without_reading_them(save_model, tmp_path):
    path, rows = sparse_model(save_model, tmp_path / "m.onnx", 3)
    assert (tmp_path / "w.bin").stat().st_blocks == 0, "the test needs a file system with holes"
    code = f"""
from pathlib import Path
from benchmarks.subject.cost import cost
from benchmarks.subject.inputs import example_inputs, index_bounds, model_specs, resolve_sizes
path = Path({str(path)!r})
found = cost(path)
assert (found.parameters, found.weight_bytes) == ({rows} * 1024, {3 * GIB}), found
specs = model_specs(path)
feeds = example_inputs(specs.inputs, bounds=index_bounds(path))
assert 0 <= feeds["i"].min() <= feeds["i"].max() < {rows}
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < GIB // 2


@pytest.mark.slow
def test_more_than_two_gigabytes_are_hashed_and_run(save_model, tmp_path):
    path, _ = sparse_model(save_model, tmp_path / "m.onnx", 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(content_sha256(path)) == 64
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    measurement = measure(SubjectSpec(model=path, backend="ort"), settings=Settings(trials=1).quick())
    assert measurement.failure is None or "\n" not in measurement.failure


def test_more_than_two_gigabytes_inside_the_file_are_described_although_no_runtime_loads_them(save_model, tmp_path):
    path = tmp_path / "m.onnx"
    size = 2 * GIB + 4096
    node = helper.make_node("Gather", ["w", "i"], ["y"])
    save_model(path, [node], [("i", TensorProto.INT64, [3])], [("y", FLOAT, [3, 1024])])
    head = onnx.load(path)
    rest = head.graph.SerializeToString()
    head.ClearField("graph")
    table = TensorProto(name="w", data_type=FLOAT, dims=[size // 4096, 1024]).SerializeToString()
    tensor = table + b"\x4a" + varint(size)  # raw_data, field 9
    graph = rest + b"\x2a" + varint(len(tensor) + size) + tensor  # initializer, field 5
    front = head.SerializeToString() + b"\x3a" + varint(len(graph) + size) + graph  # graph, field 7
    path.write_bytes(front)
    os.truncate(path, len(front) + size)
    assert model_specs(path).inputs[0].shape == (3,)
    assert cost(path).weight_bytes == size
    with pytest.raises(BackendError) as caught:
        OrtBackend().compile(path)
    assert "\n" not in str(caught.value)


def varint(number):
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
