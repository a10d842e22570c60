"""What is registered, and that it costs nothing to ask."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from backends import registry
from backends.base import Availability
from backends.errors import BackendError, UnknownBackendError

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "pruners",
    "benchmarks",
    "deploy",
)
ROOM = Path(registry.__file__).parent
# onnx_to_torch/ holds torch code and is imported by the torch backends' hooks only.
MODULES = sorted(
    ".".join(path.relative_to(ROOM.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOM.rglob("*.py")
    if "onnx_to_torch" not in path.parts
)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_asking_every_backend_imports_no_runtime():
    code = (
        "import sys\nfrom backends.registry import names, probe\n"
        "[probe(name, device) for name in names() for device in ('cpu', 'cuda', 'sm_89')]\n"
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # find_spec("cuda.bindings") has to import the empty namespace package above it.
    assert set(done.stdout.split()) <= {"cuda"}


def test_the_built_in_backends_are_there():
    assert set(registry.names()) >= {"ort", "openvino", "torch", "torch-compile", "trt", "null"}
    for name in registry.names():
        assert registry.create(name).name == name


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownBackendError, match="unknown backend 'openvin'; did you mean 'openvino'\\?"):
        registry.create("openvin")


def entry(name, value):
    return EntryPoint(name=name, value=value, group=registry.ENTRY_POINT_GROUP)


def test_an_outsider_joins_by_entry_point(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry("mine", "backends.null:NullBackend")])
    assert "mine" in registry.names()
    assert registry.create("mine").name == "null"


def test_a_name_clash_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry("ort", "elsewhere:Ort")])
    with pytest.raises(BackendError, match=r"'ort' is registered twice: backends.ort:OrtBackend and elsewhere:Ort"):
        registry.names()


def test_a_backend_that_cannot_be_imported_is_a_reason(monkeypatch):
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry("broken", "no_such_package:Backend")])
    state = registry.probe("broken")
    assert not state.ok
    assert "no_such_package" in state.reason


def test_an_absent_runtime_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("backends.installed.find_spec", lambda name: None)
    state = registry.probe("openvino")
    hint = "pip install -e '.[openvino]' in the folder of prune-deploy"
    assert state == Availability(ok=False, reason="openvino is not installed", hint=hint)
