"""Base class of all stored records."""

from __future__ import annotations

from reprlib import Repr

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]

_SHORT = Repr()
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 3
_SHORT.maxlevel = 2
_SHORT.maxstring = _SHORT.maxother = 60
_MOST = 1500
"""Most characters of a ``repr``: a record can hold every sample of a measurement."""


class Record(BaseModel):
    """Base of all records: frozen, without extra fields, and validated on creation."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_SHORT.repr(getattr(self, name))}" for name in type(self).model_fields)
        return f"{type(self).__name__}({fields if len(fields) <= _MOST else f'{fields[:_MOST]}...'})"

    def __str__(self) -> str:
        return repr(self)
