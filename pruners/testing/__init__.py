"""Checks of what every pruning method promises, for the test suite of any method.

`run` prunes one small network; each function of `PROMISES` takes that `MethodRun` and raises `AssertionError` if its
promise does not hold. `CLASS_PROMISES` are checked before anything is pruned. A network that lacks the layers that a
method needs (`needs_layers`) is skipped (`unittest.SkipTest`), if the method's error says so.

Examples
--------
In the test suite of a package that registers a method under the entry point group ``prune_deploy.methods``::

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    @pytest.mark.parametrize("network", NETWORKS)
    def test_promise(network, promise):
        promise(run("mine", network))
"""

from pruners.testing.class_promises import CLASS_PROMISES
from pruners.testing.networks import NETWORKS, make_network, make_task
from pruners.testing.promises import PROMISES, MethodRun, run

__all__ = ["CLASS_PROMISES", "NETWORKS", "PROMISES", "MethodRun", "make_network", "make_task", "run"]
