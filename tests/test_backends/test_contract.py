"""Every registered backend keeps every promise of `backends.testing`."""

import os
from functools import cache

import pytest

from backends import CompileOptions
from backends.registry import create, names, probe
from backends.testing import EXECUTION, INTERFACE, PROMISES, execution, interface

DEVICES = {"trt": "cuda"}
# Each compilation of torch-compile runs a C++ compiler: the quick suite keeps what is particular to it.
SLOW = {"torch-compile"}
QUICK = {"answers_equal_the_reference", "an_absent_device_is_refused", "an_unknown_operator_is_named"}


def marks_of(name, promise):
    if name == "trt":
        return [pytest.mark.gpu]
    return [pytest.mark.slow] if name in SLOW and promise.__name__ not in QUICK else []


def cases():
    return [
        pytest.param(
            name,
            promise,
            marks=marks_of(name, promise),
            id=f"{name}-{promise.__name__}",
        )
        for name in names()
        for promise in (INTERFACE if name == "null" else PROMISES)
    ]


@cache
def state_of(name):
    return probe(name, DEVICES.get(name, "cpu"))


def need(name):
    state = state_of(name)
    if not state.ok:
        text = f"{name}: {state.reason}; {state.hint}"
        required = [item.strip() for item in os.environ.get("REQUIRE_BACKENDS", "").split(",")]
        (pytest.fail if name in required else pytest.skip)(text)
    return create(name)


@pytest.fixture(autouse=True)
def inductor_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "inductor"))


@pytest.mark.parametrize(("name", "promise"), cases())
def test_promise(name, promise, tmp_path):
    promise(need(name), tmp_path, CompileOptions(device=DEVICES.get(name, "cpu")))


def test_promises_are_all_listed():
    for module, listed in ((interface, INTERFACE), (execution, EXECUTION)):
        public = {
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
        }
        assert public == {promise.__name__ for promise in listed}


def test_a_required_backend_may_not_be_skipped(monkeypatch):
    monkeypatch.setenv("REQUIRE_BACKENDS", "ort, trt")
    monkeypatch.setitem(DEVICES, "trt", "cuda:99")
    state_of.cache_clear()
    with pytest.raises(pytest.fail.Exception, match="trt: "):
        need("trt")
    monkeypatch.delenv("REQUIRE_BACKENDS")
    with pytest.raises(pytest.skip.Exception, match="trt: "):
        need("trt")
    state_of.cache_clear()
