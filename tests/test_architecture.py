"""The import arrows of the house, how light the light half is, and how large a room may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
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

MAX_LINES, MAX_ENTRIES, MAX_LATE_IMPORTS, MAX_LAUNCHERS = 400, 20, 40, 3
ENTRIES_OF = {"pruners": 28}
UNSEEN = {"__pycache__", "py.typed"}
DATA_TABLES: set[str] = set()
"""Files of rows without logic: they may be longer."""


def _sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} was not found, so nothing was checked"
    return files


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(_tree(path)):
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


WITHOUT_TORCH = (
    "benchmarks",
    "benchmarks.runner",
    "deploy.recipe",
    "deploy.run.pipeline",
    "deploy.bundles.bundle",
    "deploy.cli.list_",
    "deploy.cli.run",
    "deploy.cli.plan.show",
    "deploy.cli.study.run",
    "deploy.cli.study.published",
    "deploy.cli.study.coverage",
)
MEASURING = (
    "deploy.cli.measure.bench",
    "deploy.cli.report",
    "deploy.cli.profile_",
    "deploy.cli.measure.load",
    "deploy.cli.measure.layers",
    "deploy.cli.measure.explain",
    "deploy.cli.measure.calibrate",
    "deploy.cli.measure.compile_",
    "deploy.cli.doctor",
)


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (("backends", "backends.registry"), {"torch", "onnx", *RUNTIMES}),
        (("pruners", "pruners.registry"), {"torch"}),
        (("deploy.cli.app",), {"torch", "onnx", "numpy", "pydantic", "yaml", "jinja2", *RUNTIMES}),
        (WITHOUT_TORCH, {"torch", *RUNTIMES}),
        (MEASURING, {"torch", "pruners", *RUNTIMES}),
        (
            ("deploy.cli.history.list_", "deploy.cli.history.import_"),
            {"torch", "pruners", "ruptures", "scipy", *RUNTIMES},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_imports_are_light(modules, heavy):
    """The first module that brings in something heavy is named."""
    code = (
        f"import sys\nfrom importlib import import_module\nbefore = set()\nfor module in {modules}:\n"
        f"    import_module(module)\n    now = {heavy!r} & sys.modules.keys()\n"
        "    for name in sorted(now - before):\n        print(module, 'imports', name)\n    before = now\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == []


def test_packages_are_typed():
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").is_file()


def _modules() -> dict[str, ast.Module]:
    """Parse every module of the four packages, by dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): _tree(path)
        for package in PACKAGES
        for path in _sources(package)
    }


def _own_imports(tree: ast.Module, modules: set[str]) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each import of one of our modules, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if (name := full if full in modules else node.module) in modules:
                    yield node, name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield node, alias.name


def test_no_circle_of_imports_anywhere():
    trees = _modules()
    graph = {name: {other for _, other in _own_imports(tree, set(trees))} - {name} for name, tree in trees.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {' <- '.join(error.args[1])}")


def test_few_imports_of_our_own_modules_hide_inside_functions():
    trees = _modules()
    late = [
        f"{name} imports {other} in line {node.lineno}"
        for name, tree in trees.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node, other in _own_imports(ast.Module(function.body, []), set(trees))
    ]
    assert len(set(late)) <= MAX_LATE_IMPORTS, "\n".join(late)


def test_few_modules_start_processes():
    launchers = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in _sources(package)
        if re.search(r"Popen|subprocess\.run|create_subprocess", path.read_text(encoding="utf-8"))
    ]
    assert len(launchers) <= MAX_LAUNCHERS, launchers


@pytest.mark.parametrize("top", [*PACKAGES, "tests", "docs", "recipes"])
def test_no_folder_is_crowded(top):
    folders = [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]
    for folder in folders:
        if "__pycache__" in folder.parts:
            continue
        entries = [one.name for one in folder.iterdir() if one.name not in UNSEEN and not one.name.startswith(".")]
        name = str(folder.relative_to(ROOT))
        assert len(entries) <= ENTRIES_OF.get(name, MAX_ENTRIES), f"{name} shows {len(entries)} entries"


@pytest.mark.parametrize("top", [*PACKAGES, "tests"])
def test_no_file_is_long(top):
    longer = {
        str(path.relative_to(ROOT)): n
        for path in (ROOT / top).rglob("*.py")
        if (n := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not longer.keys() - DATA_TABLES, longer
