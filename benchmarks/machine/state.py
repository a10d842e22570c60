"""Folder where facts about this machine are stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["STATE_VARIABLE", "state_folder"]

STATE_VARIABLE = "PRUNE_DEPLOY_STATE"
"""Environment variable with the folder for stored facts about this machine."""


def state_folder(variables: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for facts about this machine: ``$PRUNE_DEPLOY_STATE``, else the user's state folder.

    Parameters
    ----------
    variables : Mapping of str to str
        The environment.

    References
    ----------
    XDG Base Directory Specification: a relative path in ``$XDG_STATE_HOME`` is ignored.
    """
    if chosen := variables.get(STATE_VARIABLE):
        return Path(chosen)
    base = Path(variables.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        base = Path(variables.get("HOME") or Path.home()) / ".local" / "state"
    return base / "prune-deploy"
