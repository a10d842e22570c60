"""Accuracy of a compiled model on an .npz file: counted exactly, and what does not fit is one line."""

from __future__ import annotations

import numpy as np
import pytest

from backends.base import CompileOptions
from deploy.ci.accuracy import Scored, judge_accuracy, read_examples, score, scored_or_why
from deploy.ci.check_file import AccuracyLimit
from deploy.errors import CheckFileError


@pytest.fixture(name="examples")
def _examples(tmp_path):
    """Give 101 examples, of which the network of `write_net` classifies all but ten right."""
    x = np.random.default_rng(0).standard_normal((101, 4)).astype(np.float32)
    labels = (x @ np.arange(12, dtype=np.float32).reshape(4, 3)).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 3
    np.savez(tmp_path / "data.npz", images=x, labels=labels)
    return read_examples(AccuracyLimit(data="data.npz", at_least=0.5), tmp_path)


def test_every_example_counts_once(tmp_path, write_net, examples):
    model = write_net(tmp_path / "net.onnx")
    assert score(model, "ort", CompileOptions(), examples) == Scored(91 / 101, 101)


def test_limits_of_accuracy():
    limit = AccuracyLimit(data="d.npz", at_least="91 %", max_drop=0.01)
    kept = judge_accuracy(limit, Scored(0.91, 100), Scored(0.92, 100))
    assert [(one.limit, one.verdict) for one in kept] == [("accuracy.at_least", "kept"), ("accuracy.max_drop", "kept")]
    broken = judge_accuracy(limit, Scored(0.90, 100), Scored(0.92, 100))
    assert [one.verdict for one in broken] == ["broken", "broken"]
    assert broken[1].reason == "-2.00 points: 92.00 % before, 90.00 % now, of 100 examples"
    failed = judge_accuracy(limit, "it does not load", Scored(0.92, 100))
    assert [one.verdict for one in failed] == ["failed", "failed"]


def test_data_that_do_not_fit_are_one_line(tmp_path, write_net, examples):
    model = write_net(tmp_path / "net.onnx")
    wide = examples._replace(arrays={**examples.arrays, "images": np.zeros((101, 9), np.float32)})
    assert isinstance(scored_or_why(model, "ort", CompileOptions(), wide), str)
    two = examples._replace(arrays={**examples.arrays, "more": np.zeros((101, 4), np.float32)})
    assert "the model wants an input 'x'; there are" in scored_or_why(model, "ort", CompileOptions(), two)


def test_a_data_set_that_is_not_there_is_one_line(tmp_path, write_net):
    limit = AccuracyLimit(data="imagefolder:nowhere", at_least=0.5)
    found = scored_or_why(write_net(tmp_path / "net.onnx"), "ort", CompileOptions(), read_examples(limit, tmp_path))
    assert isinstance(found, str)
    assert "nowhere" in found


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((3, 4))}, "it wants an array 'labels'"),
        ({"x": np.zeros((3, 4)), "labels": np.zeros(3)}, "of whole numbers"),
        ({"x": np.zeros((2, 4)), "labels": np.zeros(3, int)}, r"array 'x' has shape \(2, 4\), there are 3 labels"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, arrays, words):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(CheckFileError, match=words):
        read_examples(AccuracyLimit(data="data.npz", at_least=0.5), tmp_path)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(CheckFileError, match="no such file"):
        read_examples(AccuracyLimit(data="data.npz", at_least=0.5), tmp_path)
    (tmp_path / "data.npz").write_bytes(b"no archive")
    with pytest.raises(CheckFileError, match=r"not a readable \.npz file"):
        read_examples(AccuracyLimit(data="data.npz", at_least=0.5), tmp_path)


def test_a_folder_of_images_lies_beside_the_check_file(tmp_path):
    examples = read_examples(AccuracyLimit(data="imagefolder:photos", at_least=0.5), tmp_path)
    assert examples.spec.name == f"imagefolder:{tmp_path / 'photos'}"
    assert read_examples(AccuracyLimit(data="digits", at_least=0.5), tmp_path).spec.name == "digits"
