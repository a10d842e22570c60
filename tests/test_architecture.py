"""The import arrows of the house, and how light the light half is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("deploy", "pruners", "backends", "benchmarks")
RUNTIMES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"}
FORBIDDEN = {
    "backends": {"deploy", "pruners", "benchmarks"},
    "benchmarks": {"deploy", "pruners", "torch", "torchvision", "timm"},
    "pruners": {"deploy", "benchmarks", "backends", "onnx"} | RUNTIMES,
    "deploy": RUNTIMES,
}


def _sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} was not found, so nothing was checked"
    return files


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_points_the_wrong_way(package):
    for path in _sources(package):
        wrong = _imports(path) & FORBIDDEN[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_no_module_hides_a_standard_or_wrapped_library():
    taken = set(sys.stdlib_module_names) | RUNTIMES | {"torch", "onnx", "numpy", "typer", "rich"}
    for package in PACKAGES:
        for path in _sources(package):
            if path.name not in {"__init__.py", "__main__.py"}:
                assert path.stem not in taken, f"{path.relative_to(ROOT)} is named like a library"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("backends", {"torch", "onnx", *RUNTIMES}),
        ("backends.registry", {"torch", "onnx", *RUNTIMES}),
        ("benchmarks", {"torch", *RUNTIMES}),
        ("benchmarks.runner", {"torch", *RUNTIMES}),
        ("pruners", {"torch"}),
        ("pruners.registry", {"torch"}),
        ("deploy.cli.app", {"torch", "onnx", "numpy", "pydantic", "yaml", *RUNTIMES}),
        ("deploy.recipe", {"torch", *RUNTIMES}),
        ("deploy.run.pipeline", {"torch", *RUNTIMES}),
        ("deploy.bundle.bundle", {"torch", *RUNTIMES}),
        ("deploy.cli.bench", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.report", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.load", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.layers", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.calibrate", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.compile_", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.doctor", {"torch", "pruners", *RUNTIMES}),
        ("deploy.cli.list_", {"torch", *RUNTIMES}),
        ("deploy.cli.run", {"torch", *RUNTIMES}),
        ("deploy.cli.plan.show", {"torch", *RUNTIMES}),
        ("deploy.cli.study.run", {"torch", *RUNTIMES}),
        ("deploy.cli.study.published", {"torch", *RUNTIMES}),
        ("deploy.cli.study.coverage", {"torch", *RUNTIMES}),
    ],
)
def test_import_is_light(module, heavy):
    code = f"import sys, {module}; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_packages_are_typed():
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()
