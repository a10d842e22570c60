"""Trees of boards: one file a board, from paths to contents, with ``{0-3}`` for a row of cores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

BOARDS = Path(__file__).parent / "boards"
_ROW = re.compile(r"\{(\d+)-(\d+)\}")
_OF_CORE = re.compile(r"\{([+-]\d+)?\}")


class Tree:
    """A made-up root folder."""

    def __init__(self, root, machine):
        self.root = root
        self.machine = machine

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def _spread(path, content):
    """Yield the files of a row of cores; in the content, a core stands for itself."""
    match = _ROW.search(path)
    if match is None:
        yield path, content
        return
    for core in range(int(match[1]), int(match[2]) + 1):
        own = _OF_CORE.sub(lambda found, core=core: str(core + int(found[1] or 0)), str(content))
        yield path.replace(match[0], str(core)), own


def _cpuinfo(told):
    """Repeat the block of a row of cores for each of them."""
    blocks = []
    for block in told.strip().split("\n\n"):
        row = _ROW.search(block)
        blocks += [block.replace(row[0], str(core)) for core in range(int(row[1]), int(row[2]) + 1)]
    return "\n\n".join(blocks)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Build the tree of a board by its name."""

    def build(name):
        told = yaml.safe_load((BOARDS / f"{name}.yaml").read_text())
        made = Tree(tmp_path, told["machine"])
        for path, content in told["files"].items():
            content = _cpuinfo(content) if path == "proc/cpuinfo" else content
            for one, own in _spread(path, content):
                made.write(one, own)
        refused = {str(tmp_path / path) for path in told.get("unreadable", ())}
        if refused:
            _refuse(refused, monkeypatch)
        return made

    return build


def _refuse(refused, monkeypatch):
    """Let some files be for root alone; tests may run as root, whom no mode keeps out."""
    read = Path.read_text

    def read_text(path, *args, **kwargs):
        if str(path) in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
