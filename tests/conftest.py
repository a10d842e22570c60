"""Tests remember nothing of this machine, and wait for no measurement that somebody makes on it."""

from __future__ import annotations

import os
import secrets
import signal
import textwrap

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="session")
def _children_heed_ctrl_c():
    """Undo what a shell does to a command in the background: it and its children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    names = {"PRUNE_DEPLOY_STATE": str(folder), "PRUNE_DEPLOY_LOCK": str(folder / "lock")}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def install_backends(tmp_path, monkeypatch):
    """Install backends as somebody else's package, for this process and its children: source, and name -> class."""

    def install(source, kinds):
        package = tmp_path / "site"
        module = f"odd_{secrets.token_hex(8)}"  # this process remembers modules that it has imported
        info = package / "odd-1.0.dist-info"
        info.mkdir(parents=True)
        (package / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        points = [f"{name} = {module}:{kind}" for name, kind in kinds.items()]
        (info / "entry_points.txt").write_text("\n".join(["[prune_deploy.backends]", *points]) + "\n")
        monkeypatch.syspath_prepend(package)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]))

    return install
