"""Write a mapping as readable YAML: sections as blocks, deeper values on one line, comments after the keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["commented_yaml"]

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_NO_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_WIDTH = 120


def commented_yaml(document: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """Write a mapping of JSON values.

    Parameters
    ----------
    document : Mapping
        The keys of a section that is a mapping are written below it.
    comments : Mapping of str to str
        By key, or ``section.key`` in a section; written after the value, or above it if the line would be too long.
    """
    lines = []
    for key, value in document.items():
        if not isinstance(value, Mapping) or not value:
            lines += _lines("", key, value, comments.get(key))
            continue
        lines += _lines("", key, None, comments.get(key))
        for name, part in value.items():
            lines += _lines("  ", name, part, comments.get(f"{key}.{name}"))
    return "\n".join(lines) + "\n"


def _lines(indent: str, key: str, value: Any, comment: str | None) -> list[str]:
    line = f"{indent}{_flow(key)}:" if value is None else f"{indent}{_flow(key)}: {_flow(value)}"
    if not comment:
        return [line]
    together = f"{line}  # {comment}"
    return [together] if len(together) <= _WIDTH else [f"{indent}# {comment}", line]


def _flow(value: Any) -> str:
    """Write a value on one line, as JSON, which is valid YAML."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NO_TEXT:
        return value
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_flow(str(key))}: {_flow(part)}' for key, part in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, float):  # 1e-07 is a string in YAML, 1.0e-07 a number
        return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))
    return _UNPRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08x}", json.dumps(value, ensure_ascii=False))
