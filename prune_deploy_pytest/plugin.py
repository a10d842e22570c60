"""Fixtures and hooks of the plug-in, which pytest loads as ``prune_deploy``."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import pytest

from prune_deploy_pytest.asking import TIMER
from prune_deploy_pytest.fixtures import DeployCompare, DeployMeasure
from prune_deploy_pytest.options import MARKER, add_options
from prune_deploy_pytest.session import recorder

__all__ = [
    "deploy_compare",
    "deploy_measure",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_timeout_set_timer",
]

_FIXTURES = {"deploy_compare", "deploy_measure"}
_BENCHMARK = "benchmark"


@pytest.fixture
def deploy_compare(request: pytest.FixtureRequest) -> DeployCompare:
    """Compare two models: ``deploy_compare("new.onnx", "old.onnx", margin=0.03)``; fails if the new one is slower."""
    return DeployCompare(request)


@pytest.fixture
def deploy_measure(request: pytest.FixtureRequest) -> DeployMeasure:
    """Measure a model: ``assert deploy_measure("model.onnx").p50_ms < 8``."""
    return DeployMeasure(request)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options to the command line and to the ini file."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and start recording."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(**defaults): measures the speed of models; set by itself on tests that use deploy_compare or "
        "deploy_measure, whose arguments it gives defaults for",
    )
    recorder(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, object, object]:
    """Mark tests that measure, and make ``--benchmark-only`` and ``--benchmark-skip`` treat them as benchmarks."""
    ours = [item for item in items if isinstance(item, pytest.Function) and _FIXTURES & set(item.fixturenames)]
    for item in ours:
        if item.get_closest_marker(MARKER) is None:
            item.add_marker(MARKER)
    session = getattr(config, "_benchmarksession", None)
    counted = ours if session is not None and (session.only or session.skip) else []
    before = [item.fixturenames for item in counted]
    for item in counted:
        item.fixturenames = [*item.fixturenames, _BENCHMARK]
    try:
        return (yield)
    finally:
        for item, names in zip(counted, before, strict=True):
            item.fixturenames = names


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Note the settings of pytest-timeout's timer, which is stopped while a measuring process runs."""
    item.stash[TIMER] = (settings, time.monotonic())
