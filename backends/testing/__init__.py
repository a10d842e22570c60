"""The promises of a backend, as functions: ours are tested with them, and so can yours be.

    from backends.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_backend(promise, tmp_path):
        promise(MyBackend(), tmp_path, CompileOptions())

A promise that is not kept raises AssertionError with what was expected and what came. The models are a few kilobytes,
written to the given folder.
"""

from __future__ import annotations

from backends.testing.execution import EXECUTION
from backends.testing.expectations import Promise
from backends.testing.interface import INTERFACE
from backends.testing.models import quantised_cnn, small_cnn, token_model, unknown_operator, with_external_data

__all__ = [
    "EXECUTION",
    "INTERFACE",
    "PROMISES",
    "Promise",
    "quantised_cnn",
    "small_cnn",
    "token_model",
    "unknown_operator",
    "with_external_data",
]


PROMISES: tuple[Promise, ...] = INTERFACE + EXECUTION
"""All of them."""
