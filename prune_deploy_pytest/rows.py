"""Rows for pytest-benchmark, named after the tests that measured them."""

from __future__ import annotations

import re
import zlib
from typing import Any

import pytest

__all__ = ["add_rows", "kept_name", "rows_of_test"]

_OLDEST = 5
"""Oldest supported major version of pytest-benchmark."""


def rows_of_test(item: pytest.Item, rows: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Rename rows as if the test were parametrized by them: ``test_net[candidate]``, ``test_net[ort-baseline]``.

    Parameters
    ----------
    item : pytest.Item
        The test.
    rows : list of dict
        As the measuring process wrote them; one, or a baseline and a candidate.
    number : int
        How many times this test has measured, including this one; the second and later ones are numbered.
    """
    marker = item.get_closest_marker("benchmark")
    group = None if marker is None else marker.kwargs.get("group")
    callspec = getattr(item, "callspec", None)
    renamed = []
    for row in rows:
        role = row["extra_info"]["role"]
        parts = [str(number)] * (number > 1) + [role] * (role != "model")
        params = {} if callspec is None else {name: _plain(value) for name, value in callspec.params.items()}
        ids = parts if callspec is None else [callspec.id, *parts]
        alone = f"{item.name} {number}" if number > 1 else item.name
        renamed.append(
            {
                **row,
                "group": group or (alone if len(rows) > 1 else None),
                "name": _with(item.name, parts),
                "fullname": _with(item.nodeid, parts),
                "param": "-".join(ids) or None,
                "params": {**params, "role": role} if ids else None,
            }
        )
    return renamed


def add_rows(config: pytest.Config, rows: list[dict[str, Any]]) -> str:
    """Add rows to pytest-benchmark's table and files; do nothing without it.

    Returns
    -------
    str
        Why the rows are missing although pytest-benchmark is installed; else empty.
    """
    session = getattr(config, "_benchmarksession", None)
    if session is None or not rows:
        return ""
    import pytest_benchmark  # installed, as its session exists
    from pytest_benchmark.stats import Metadata

    if int(pytest_benchmark.__version__.split(".")[0]) < _OLDEST:
        return f"version {pytest_benchmark.__version__} is too old, they are made for {_OLDEST} and newer"
    for row in rows:
        metadata = Metadata(_Benchmark(row), iterations=1, options=row["options"])
        for seconds in row["stats"]["data"]:
            metadata.update(seconds)
        session.benchmarks.append(metadata)
    return ""


def kept_name(item: pytest.Item, number: int) -> str:
    """Return the name of the file for the results of a test, in the folder of all results."""
    path, _, test = item.nodeid.partition("::")
    name = test or path
    plain = re.sub(r"[^\w.,=+\[\]-]+", "_", name)[:150]
    if plain != name.replace("::", "_"):
        plain += f"-{zlib.crc32(name.encode()):08x}"
    folder = "/".join(part for part in path.split("/") if part != "..") if test else ""
    return f"{folder}/{plain}{f'.{number}' if number > 1 else ''}.json".lstrip("/")


class _Benchmark:
    """The attributes that `pytest_benchmark.stats.Metadata` reads from a fixture."""

    has_error = False
    cprofile_stats = None

    def __init__(self, row: dict[str, Any]) -> None:
        self.name = row["name"]
        self.fullname = row["fullname"]
        self.group = row["group"]
        self.param = row["param"]
        self.params = row["params"]
        self.extra_info = row["extra_info"]


def _with(name: str, parts: list[str]) -> str:
    if not parts:
        return name
    ids = "-".join(parts)
    return f"{name[:-1]}-{ids}]" if name.endswith("]") else f"{name}[{ids}]"


def _plain(value: Any) -> Any:
    """Convert a parameter to a JSON value."""
    return value if type(value) in (str, int, float, bool, type(None)) else repr(value)
