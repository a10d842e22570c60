"""The cache of compiled models: found when nothing has changed, and never trusted when something has."""

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from backends import CompileOptions
from backends.errors import ArtefactError, ModelLoadError
from backends.null import NullBackend
from backends.registry import create
from backends.testing import small_cnn, with_external_data
from benchmarks.errors import SettingError
from benchmarks.process.compile_cache import ArtefactCache, CompileCost, default_folder, device_identity

ROOT = Path(__file__).parents[3]


class CountingBackend(NullBackend):
    """Counts what it is asked; its artefacts are of the size that the test wants."""

    def __init__(self, *, version="1", size=1000, refuses=""):
        self.compiled = self.imported = 0
        self.version, self.size, self.refuses = version, size, refuses

    def availability(self, device="cpu"):
        return replace(super().availability(device), version=self.version)

    def _compile(self, model, options):
        self.compiled += 1
        compiled = super()._compile(model, options)
        compiled.artefact = self._artefact
        return compiled

    def _artefact(self):
        if self.refuses:
            raise ArtefactError(self.refuses)
        return b"a" * self.size

    def _import_artefact(self, blob, model, options):
        if blob != b"a" * self.size:
            raise ArtefactError("made by another build")
        self.imported += 1
        return super()._compile(model, options)


class Cache:
    """An `ArtefactCache` whose clock ticks by 10 ns a look, with what it has said."""

    def __init__(self, folder, **settings):
        self.folder, self.said = folder, []
        ticks, seconds = count(0, 10), count(1_000_000)
        settings = {"device": lambda backend, device: {"cpu": "one"}, **settings}
        self._cache = ArtefactCache(folder, clock=lambda: next(ticks), now=lambda: next(seconds), **settings)

    def __call__(self, backend, model, options=None):
        compiled, cost = self._cache.compile(backend, model, options or CompileOptions(), self.said.append)
        compiled.close()
        return cost

    def files(self):
        return sorted(self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path):
    return small_cnn(tmp_path / "m.onnx")


# --- what is found, and what is not --------------------------------------------------------------------------------


def test_the_second_time_it_is_loaded_and_both_costs_are_known(cache, model):
    backend = CountingBackend()
    first, second = cache(backend, model), cache(backend, model)
    (path,) = cache.files()
    size = path.stat().st_size
    assert first == CompileCost(compiled_ns=10, stored_bytes=size, from_cache=False)
    assert second == CompileCost(compiled_ns=10, loaded_ns=10, stored_bytes=size, from_cache=True)
    assert (backend.compiled, backend.imported, cache.said) == (1, 1, [])


def test_what_the_result_depends_on_is_in_the_key(tmp_path, cache, model):
    cache(CountingBackend(), model)
    other_file = small_cnn(tmp_path / "other.onnx", batch=3)
    same_file = tmp_path / "copy.onnx"
    same_file.write_bytes(model.read_bytes())
    other_device = Cache(cache.folder, device=lambda backend, device: {"cpu": "two"})
    misses = {
        "another file": cache(CountingBackend(), other_file),
        "another version of the runtime": cache(CountingBackend(version="2"), model),
        "threads": cache(CountingBackend(), model, CompileOptions(threads=2)),
        "streams": cache(CountingBackend(), model, CompileOptions(streams=2)),
        "precision": cache(CountingBackend(), model, CompileOptions(precision="bf16")),
        "another device": other_device(CountingBackend(), model),
    }
    assert {name: cost.from_cache for name, cost in misses.items()} == dict.fromkeys(misses, False)
    assert cache(CountingBackend(), same_file).from_cache, "the same bytes under another name are the same model"


def test_another_backend_of_the_same_version_finds_nothing(cache, model):
    class OtherBackend(CountingBackend):
        name = "other"

    cache(CountingBackend(), model)
    assert not cache(OtherBackend(), model).from_cache


def test_external_data_is_part_of_the_model(tmp_path, cache):
    path = with_external_data(tmp_path / "m.onnx")
    cache(CountingBackend(), path)
    data = tmp_path / "weights.bin"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert not cache(CountingBackend(), path).from_cache


def test_a_backend_without_artefacts_compiles_and_says_why(cache, model):
    class Plain(CountingBackend):
        why_no_artefacts = "there is nothing to keep"

    for _ in range(2):
        cost = cache(Plain(), model)
        assert cost == CompileCost(compiled_ns=10, from_cache=False, reason="there is nothing to keep")
    cost = cache(CountingBackend(refuses="too large for protobuf"), model)
    assert (cost.stored_bytes, cost.reason) == (None, "too large for protobuf")
    assert cache.files() == []


def test_a_model_that_cannot_be_compiled_leaves_nothing(cache, tmp_path):
    with pytest.raises(ModelLoadError):
        cache(CountingBackend(), tmp_path / "absent.onnx")
    assert cache.files() == []


# --- what is damaged -----------------------------------------------------------------------------------------------


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def rename_another_here(path):
    head, _, blob = path.read_bytes().partition(b"\n")
    path.write_bytes(json.dumps({**json.loads(head), "key": "0" * 64}).encode() + b"\n" + blob)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_last_byte, "its content has changed"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "it holds 993 bytes of 1000"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "it holds 1004 bytes of 1000"),
        (lambda path: path.write_bytes(b""), "it has no header of ours"),
        (lambda path: path.write_bytes(os.urandom(5000)), "it has no header of ours"),
        (lambda path: path.write_bytes(b'{"format": 1}\n'), "it has no header of ours"),
        (rename_another_here, "it was stored for something else"),
    ],
)
def test_a_damaged_file_is_a_miss_that_is_said_and_repaired(damage, said, cache, model):
    backend = CountingBackend()
    cache(backend, model)
    (path,) = cache.files()
    good = path.read_bytes()
    damage(path)
    assert not cache(backend, model).from_cache
    (line,) = cache.said
    assert str(path) in line
    assert said in line
    assert path.read_bytes().partition(b"\n")[2] == good.partition(b"\n")[2]
    assert cache(backend, model).from_cache
    assert len(cache.said) == 1


def test_what_the_runtime_refuses_is_compiled_again(cache, model):
    cache(CountingBackend(size=1000), model)
    cost = cache(CountingBackend(size=2000), model)  # the same version, and yet another build
    assert not cost.from_cache
    assert "made by another build" in cache.said[0]
    assert cache(CountingBackend(size=2000), model).from_cache


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, model):
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file")
    cost = cache(CountingBackend(), model)
    assert cost.stored_bytes is None
    assert "cannot be stored" in cost.reason
    assert cache.said


def test_two_writers_at_once_leave_one_good_file(cache, model):
    meet = threading.Barrier(2)

    class Slow(CountingBackend):
        def _compile(self, model, options):
            meet.wait(timeout=60)  # both have found nothing by now
            return super()._compile(model, options)

    with ThreadPoolExecutor(2) as pool:
        costs = list(pool.map(lambda _: cache(Slow(), model), range(2)))
    assert [cost.from_cache for cost in costs] == [False, False]
    assert [path.suffix for path in cache.files()] == [".artefact"]
    assert cache(CountingBackend(), model).from_cache
    assert cache.said == []


def test_a_failed_write_leaves_no_half_file(cache, model, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cost = cache(CountingBackend(), model)
    assert "No space left on device" in cost.reason
    assert cache.files() == []


# --- how much is kept ----------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes(tmp_path, model):
    backend = CountingBackend()
    size = Cache(tmp_path / "other")(backend, model).stored_bytes
    cache = Cache(tmp_path / "cache", limit_bytes=2 * size + 100)
    cache(backend, model, CompileOptions(threads=1))
    cache(backend, model, CompileOptions(threads=2))
    assert cache(backend, model, CompileOptions(threads=1)).from_cache, "used again: the other one is older now"
    cache(backend, model, CompileOptions(threads=3))
    assert len(cache.files()) == 2
    assert cache(backend, model, CompileOptions(threads=1)).from_cache
    assert cache(backend, model, CompileOptions(threads=3)).from_cache
    assert not cache(backend, model, CompileOptions(threads=2)).from_cache


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path, model):
    cache = Cache(tmp_path / "cache", limit_bytes=500)
    cost = cache(CountingBackend(), model)
    assert cost.reason == "it is larger than the limit of 500 bytes"
    assert cache.files() == []


def test_what_killed_writers_left_is_swept_but_not_what_is_being_written(cache, model):
    cache.folder.mkdir()
    old, new = cache.folder / "old.partial", cache.folder / "new.partial"
    foreign = cache.folder / "notes.txt"
    for path, age_s in ((old, 7200), (new, 60), (foreign, 7200)):
        path.write_bytes(b"x")
        os.utime(path, (1_000_000 - age_s, 1_000_000 - age_s))
    cache(CountingBackend(), model)
    assert not old.exists()
    assert new.exists()
    assert foreign.exists(), "what is not the cache's is left alone"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_nobody_else_may_write_what_a_runtime_will_trust(cache, model):
    cache(CountingBackend(), model)
    (path,) = cache.files()
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(SettingError, match="limit_bytes must not be negative"):
        ArtefactCache(tmp_path, limit_bytes=-1)


# --- where, and on what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"PRUNE_DEPLOY_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/a"}, "/mine"),
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/home/a"}, "/xdg/prune-deploy/artefacts"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/a"}, "/home/a/.cache/prune-deploy/artefacts"),
        ({"HOME": "/home/a"}, "/home/a/.cache/prune-deploy/artefacts"),
    ],
)
def test_the_folder(variables, folder):
    assert default_folder(variables) == Path(folder)


def test_a_cpu_is_its_model_and_its_instruction_sets(tmp_path):
    (tmp_path / "proc").mkdir()
    text = "processor: 0\nmodel name: EPYC\ncpu MHz: {mhz}\nflags: fpu {flags}\n"

    def identity(**facts):
        (tmp_path / "proc/cpuinfo").write_text(text.format(**facts))
        return device_identity(NullBackend(), "cpu", tmp_path)

    assert identity(mhz=1000, flags="avx2") == identity(mhz=2000, flags="avx2")
    assert identity(mhz=1000, flags="avx2") != identity(mhz=1000, flags="avx2 avx512f")
    assert identity(mhz=1000, flags="avx2")["host"] is None


def test_an_unknown_cpu_is_told_apart_by_its_host(tmp_path):
    identity = device_identity(NullBackend(), "cpu", tmp_path)
    assert identity["cpu"] is None
    assert identity["host"]


def test_a_gpu_is_its_name_and_its_driver(tmp_path):
    class GpuBackend(NullBackend):
        def availability(self, device="cpu"):
            return replace(super().availability(), devices=("cuda:0 (H200)", "cuda:1 (L4)"))

    path = tmp_path / "proc/driver/nvidia/version"
    path.parent.mkdir(parents=True)
    path.write_text("NVRM version: 580.10\nGCC version: 13\n")
    wanted = {"gpu": "cuda:0 (H200)", "driver": "NVRM version: 580.10"}
    assert device_identity(GpuBackend(), "cuda", tmp_path) == {"device": "cuda", **wanted}
    assert device_identity(GpuBackend(), "cuda:1", tmp_path)["gpu"] == "cuda:1 (L4)"
    assert device_identity(GpuBackend(), "cuda", tmp_path / "none")["driver"] is None


# --- real runtimes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ort", "openvino"])
def test_another_process_loads_the_model_and_answers_the_same(name, tmp_path, model):
    pytest.importorskip({"ort": "onnxruntime"}.get(name, name))
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    said = []
    compiled, cost = ArtefactCache(tmp_path / "cache").compile(create(name), model, CompileOptions(), said.append)
    wanted = compiled.run({"x": x})["y"]
    compiled.close()
    assert not cost.from_cache
    code = (
        "import sys, pathlib, numpy\n"
        "from backends import CompileOptions\nfrom backends.registry import create\n"
        "from benchmarks.process.compile_cache import ArtefactCache\n"
        "name, folder = sys.argv[1], pathlib.Path(sys.argv[2])\n"
        "cache = ArtefactCache(folder / 'cache')\n"
        "compiled, cost = cache.compile(create(name), folder / 'm.onnx', CompileOptions(), sys.exit)\n"
        "assert cost.from_cache and cost.loaded_ns, cost\n"
        "answer = compiled.run({'x': numpy.load(folder / 'x.npy', allow_pickle=False)})['y']\n"
        "numpy.save(folder / 'y.npy', answer)\ncompiled.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "y.npy", allow_pickle=False), wanted)
    assert said == []
