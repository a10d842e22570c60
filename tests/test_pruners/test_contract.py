"""Every registered method keeps every promise, on every kind of network: a new method is held to them by its entry."""

from __future__ import annotations

import pytest

from pruners import testing
from pruners.registry import names

# Smaller schedules of iterative methods; a method that is not named here runs as it comes.
QUICK = {"taylor": {"steps": 2, "batches_per_step": 1, "updates_between": 2}}


@pytest.mark.parametrize("promise", testing.PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("network", list(testing.NETWORKS))
@pytest.mark.parametrize("method", names())
def test_promise(method, network, promise):
    promise(testing.run(method, network, **QUICK.get(method, {})))


@pytest.mark.parametrize("promise", testing.CLASS_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("method", names())
def test_class_promise(method, promise):
    promise(method)
