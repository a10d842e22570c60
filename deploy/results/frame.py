"""Rows as a pandas frame; pandas is optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploy.errors import ExtraMissingError
from prune_deploy import how_to_install

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of"]


def frame_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return rows with equal keys as a frame whose columns are the keys.

    Raises
    ------
    ExtraMissingError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ExtraMissingError(f"to_frame() needs pandas: {how_to_install('pandas')}") from error
    return pd.DataFrame(rows)
