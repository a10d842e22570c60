"""A model is compiled once, kept, and loaded by another process."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from backends import CompileOptions
from backends.errors import ArtefactError, ModelLoadError
from backends.null import NullBackend
from backends.registry import create
from backends.testing import small_cnn
from benchmarks.process.compile_cache import compile_and_keep, load_kept


class KeepingBackend(NullBackend):
    """Keeps what the test wants; `refuses` says why it keeps nothing."""

    refuses = ""

    def _compile(self, model, options):
        compiled = super()._compile(model, options)
        compiled.artefact = self._artefact
        return compiled

    def _artefact(self):
        if self.refuses:
            raise ArtefactError(self.refuses)
        return b"kept"

    def _import_artefact(self, blob, model, options):
        if blob != b"kept":
            raise ArtefactError("made by another build")
        return super()._compile(model, options)


@pytest.fixture
def model(tmp_path):
    return small_cnn(tmp_path / "m.onnx")


@pytest.fixture
def clock():
    ticks = count(0, 10)
    return lambda: next(ticks)


def test_it_is_compiled_once_and_both_costs_are_known(tmp_path, model, clock):
    backend, file = KeepingBackend(), tmp_path / "compiled"
    first = compile_and_keep(backend, model, CompileOptions(), file, clock=clock)
    assert (first.compiled_ns, first.loaded_ns, first.stored_bytes, first.from_cache) == (10, None, 4, False)
    again = load_kept(backend, model, CompileOptions(), file, compiled_ns=first.compiled_ns, clock=clock)
    assert (again.compiled_ns, again.loaded_ns, again.stored_bytes, again.from_cache) == (10, 10, 4, True)


def test_what_cannot_be_kept_says_why(tmp_path, model):
    backend = KeepingBackend()
    backend.refuses = "the disk of the runtime is full"
    cost = compile_and_keep(backend, model, CompileOptions(), tmp_path / "compiled")
    assert (cost.stored_bytes, cost.reason) == (None, "the disk of the runtime is full")
    elsewhere = compile_and_keep(KeepingBackend(), model, CompileOptions(), tmp_path / "absent" / "compiled")
    assert elsewhere.stored_bytes is None
    assert "No such file" in elsewhere.reason


def test_what_another_build_has_kept_is_refused(tmp_path, model):
    (tmp_path / "compiled").write_bytes(b"other")
    with pytest.raises(ArtefactError, match="another build"):
        load_kept(KeepingBackend(), model, CompileOptions(), tmp_path / "compiled", compiled_ns=1)


def test_a_model_that_cannot_be_compiled_leaves_nothing(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelLoadError):
        compile_and_keep(create("ort"), broken, CompileOptions(), tmp_path / "compiled")
    assert not (tmp_path / "compiled").exists()


@pytest.mark.parametrize("name", ["ort", "openvino"])
def test_what_is_loaded_answers_the_same(name, tmp_path, model):
    pytest.importorskip({"ort": "onnxruntime"}.get(name, name))
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    backend = create(name)
    compiled = backend.compile(model, CompileOptions())
    wanted, blob = compiled.run(feeds)["y"], compiled.artefact()
    compiled.close()
    loaded = backend.import_artefact(blob, model, CompileOptions())
    assert np.array_equal(loaded.run(feeds)["y"], wanted)
    loaded.close()
