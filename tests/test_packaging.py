"""What is installed: typed packages, a light core, one version."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}


def test_the_core_carries_no_torch():
    core = _names(PROJECT["project"]["dependencies"])
    assert "onnxruntime" in core
    assert not core & {"torch", "torchvision", "timm", "lightning-fabric", "openvino", "onnxscript"}


def test_extras():
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras.keys() == {
        "prune",
        "openvino",
        "pandas",
        "notebook",
        "pytest",
        "lightning",
        "tensorrt-rtx",
        "tensorrt",
        "loadgen",
        "compare",
        "cluster",
        "history",
        "libraries",
        "browser",
        "dev",
        "ci",
        "all",
    }
    assert "torch>=2.11" in extras["prune"]


def test_the_wheel_holds_typed_packages():
    *packages, command = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert packages == ["deploy", "pruners", "backends", "benchmarks", "prune_deploy_pytest"]
    assert all((ROOT / package / "py.typed").is_file() for package in packages)
    assert (ROOT / command).is_file()


def test_the_command_is_installed_under_the_version_of_the_source():
    assert version("prune-deploy") == PROJECT["project"]["version"]
    scripts = entry_points(group="console_scripts", name="deploy")
    assert [script.value for script in scripts] == ["prune_deploy:main"]


def test_what_pruning_asks_of_deploy_is_installed_and_there():
    points = entry_points(group="prune_deploy.services")
    assert {point.name for point in points} == {"speed", "export"}
    assert all(callable(point.load()) for point in points)


def test_the_constraints_pin_every_direct_dependency():
    pins = _names([line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line])
    wanted = _names(PROJECT["project"]["dependencies"])
    for name in ("prune", "openvino", "dev", "libraries", "browser", "pandas", "notebook", "pytest"):
        wanted |= _names(PROJECT["project"]["optional-dependencies"][name])
    normal = {pin.lower().replace("_", "-") for pin in pins}
    assert {name.lower().replace("_", "-") for name in wanted} <= normal


@pytest.mark.slow
def test_the_core_stays_as_small_as_its_page_says(tmp_path):
    """The wheel and what it needs, as pip installs them: sizes on disk, compiled modules included."""
    target = tmp_path / "core"
    words = ["install", "--quiet", "--target", str(target), "-c", str(ROOT / "constraints.txt"), str(ROOT)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode and re.search("No matching distribution|Temporary failure|Retrying", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = {}
    for one in distributions(path=[str(target)]):
        files = [Path(str(file.locate())) for file in one.files or ()]
        sizes[one.name] = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    told = f"{sum(sizes.values()):.0f} MB in {len(sizes)} packages: {sizes}"
    assert set(largest) == {"numpy", "onnxruntime", "onnx"}, told
    assert sum(sizes.values()) < 240, told
    assert sizes["prune-deploy"] < 14, told
    assert len(sizes) < 30, told
    page = (ROOT / "docs" / "edge" / "boards.md").read_text(encoding="utf-8")
    for name in largest:
        (said,) = re.findall(rf"^\| {name} \| (\d+) MB \|", page, flags=re.MULTILINE)
        assert sizes[name] == pytest.approx(int(said), rel=0.15), told
