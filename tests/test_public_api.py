"""Every module says what it exports, and what it exports exists."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDS = {"pruners.gates.lightning_callback": "pytorch_lightning"}  # what CI does not install
NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("deploy", "pruners", "backends", "benchmarks", "prune_deploy_pytest")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__main__.py"
]
MODULES = [pytest.param(name, marks=pytest.mark.optional) if name in NEEDS else name for name in NAMES]


@pytest.mark.parametrize("name", MODULES)
def test_exported_names_exist_and_are_documented(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    assert len(module.__doc__.strip(". \n")) > 10, f"{name} has an empty docstring"
    exported = getattr(module, "__all__", None)
    if exported is None:
        pytest.fail(f"{name} has no __all__: list what others may import")
    assert len(exported) == len(set(exported))
    for attribute in exported:
        assert hasattr(module, attribute), f"{name}.__all__ names {attribute!r}, which does not exist"


@pytest.mark.parametrize(
    "registry", ["deploy.sources.registry", "pruners.registry", "backends.registry", "benchmarks.registry"]
)
def test_registry_lists_what_there_is(registry):
    names = importlib.import_module(registry).names()
    assert names
    assert len(names) == len(set(names))
