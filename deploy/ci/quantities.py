"""Types for shares and counts as written in a check file: ``3 %``, ``0.03``, ``5M``."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

__all__ = ["Count", "Share"]

_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")
_COUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGBT]?)\s*")
_TIMES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}


def _share(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("write a share, for example 3 % or 0.03")  # noqa: TRY004 - pydantic reports value errors
    if not isinstance(value, str):
        return value
    if (match := _PERCENT.fullmatch(value)) is None:
        raise ValueError(f"write a share, for example 3 % or 0.03, not {value!r}")
    return float(match[1]) / 100


def _count(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("write a number, for example 300M or 3.0e+8")  # noqa: TRY004 - pydantic reports value errors
    if not isinstance(value, str):
        return value
    if (match := _COUNT.fullmatch(value)) is None:
        raise ValueError(f"write a number, for example 300M or 3.0e+8, not {value!r}")
    return float(match[1]) * _TIMES[match[2]]


Share: TypeAlias = Annotated[float, BeforeValidator(_share, json_schema_input_type=float | str), Field(ge=0, lt=10)]
"""Share of the baseline's value: 0.03, or ``3 %``."""
Count: TypeAlias = Annotated[float, BeforeValidator(_count, json_schema_input_type=float | str), Field(gt=0)]
"""A number with an optional K, M, G (or B) or T: powers of a thousand."""
