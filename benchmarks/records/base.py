"""What all stored records have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Record"]


class Record(BaseModel):
    """Base of all records: frozen, closed, and checked at birth."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")
