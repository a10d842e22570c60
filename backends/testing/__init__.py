"""The promises of a backend as check functions: the built-in backends are tested with them, and yours can be too.

    from backends.testing import PROMISES

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_backend(promise, tmp_path):
        promise(MyBackend(), tmp_path, CompileOptions())

A broken promise raises AssertionError with the expected and the actual result. The models are a few kilobytes, written
to the given folder.
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
"""All promises."""
