"""Weights that are too large for an ONNX file are written beside it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from backends import modelfile
from backends.testing import small_cnn
from benchmarks.subject.model_writer import write_model


def _weights(model):
    return {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}


@pytest.fixture
def model(tmp_path):
    model = onnx.load(small_cnn(tmp_path / "given.onnx"))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(500, dtype=np.float32), "large"))
    return model


def test_weights_above_the_limit_are_beside_the_file(model, tmp_path, monkeypatch):
    path, data, expected = tmp_path / "model.onnx", tmp_path / "model.onnx.data", _weights(model)
    here = tmp_path / "here"
    here.mkdir()
    (here / data.name).touch()  # another file of that name, in the current folder
    monkeypatch.chdir(here)
    assert not write_model(model, path)
    assert not data.exists()
    monkeypatch.setattr("benchmarks.subject.model_writer.EMBEDDED_LIMIT_BYTES", 1000)
    for _ in range(2):  # the second time both files are there
        again = onnx.ModelProto()
        again.CopyFrom(model)
        assert write_model(again, path)
        assert modelfile.external_files(modelfile.read(path).proto) == (data.name,)
        assert 2000 <= data.stat().st_size < 2 * 2000 + path.stat().st_size
        assert _weights(onnx.load(path)) == expected


def test_a_small_model_takes_the_place_of_a_large_one(model, tmp_path):
    path, expected = tmp_path / "model.onnx", _weights(model)
    again = onnx.ModelProto()
    again.CopyFrom(model)
    assert write_model(again, path, apart=True)
    assert not write_model(model, path)
    assert {file.name for file in tmp_path.iterdir()} == {"given.onnx", path.name}
    assert _weights(onnx.load(path)) == expected
