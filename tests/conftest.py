"""Tests remember nothing of this machine, and wait for no measurement that somebody makes on it."""

from __future__ import annotations

import os
import signal

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
