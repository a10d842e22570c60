"""Array types by name, including those that NumPy lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["numpy_type"]


def numpy_type(name: str) -> np.dtype[Any]:
    """Return the NumPy type named `name`; ``"bfloat16"`` and the like come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return kind
