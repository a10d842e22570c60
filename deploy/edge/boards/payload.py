"""The measuring half of the package, as sent to a board: built from what is installed here, named by its hash.

Pruning and training stay here, with their dependencies.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from deploy.errors import BoardError

__all__ = ["EXTRAS", "Payload", "archive", "read_wheels"]

_HERE = Path(__file__).resolve().parents[3]
_PACKAGES = ("backends", "benchmarks", "deploy")
_STAYS = ("benchmarks/validation/", "deploy/networks/", "deploy/studies/")
_COMMAND = "prune_deploy.py"
_NAME = "prune-deploy"
EXTRAS = {"openvino": "openvino"}
"""Backend -> extra that a board needs for it; other backends' needs come with the board."""


class Payload:
    """Package files to send, and their requirements.

    Parameters
    ----------
    backends : tuple of str
        Backends whose extras the board needs as well.

    Raises
    ------
    BoardError
        The package is not installed here, so its requirements are unknown.
    """

    def __init__(self, backends: tuple[str, ...] = ()) -> None:
        try:
            installed = distribution(_NAME)
        except PackageNotFoundError as error:
            raise BoardError(f"{_NAME} is not installed here: what a board needs is not known") from error
        self.version = installed.version
        extras = {EXTRAS[name] for name in backends if name in EXTRAS}
        self.requirements = tuple(sorted(_needed(installed.requires or [], extras)))

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Path in the archive -> content."""
        files = dict(_modules())
        lines = ["Metadata-Version: 2.1", f"Name: {_NAME}", f"Version: {self.version}"]
        files[f"prune_deploy-{self.version}.dist-info/METADATA"] = "\n".join([*lines, ""]).encode()
        return files

    @cached_property
    def name(self) -> str:
        """Hash of the files."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:20]

    @cached_property
    def environment(self) -> str:
        """Hash of their requirements."""
        return hashlib.sha256("\n".join(self.requirements).encode()).hexdigest()[:12]

    def archive(self) -> bytes:
        """Return the files as tar; the last one marks it complete."""
        return archive({**self.files, ".complete": b""})


def archive(files: dict[str, bytes]) -> bytes:
    """Return files as tar, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o600
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _modules() -> Iterator[tuple[str, bytes]]:
    yield _COMMAND, (_HERE / _COMMAND).read_bytes()
    for package in _PACKAGES:
        for path in sorted((_HERE / package).rglob("*")):
            name = path.relative_to(_HERE).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and not name.startswith(_STAYS):
                yield name, path.read_bytes()


def _needed(requires: list[str], extras: set[str]) -> Iterator[str]:
    """Yield the requirements of the core and of some extras, without their markers."""
    for requirement in requires:
        wanted, _, marker = requirement.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if extra is None or extra[1] in extras:
            yield wanted.strip()


def read_wheels(folder: Path) -> dict[str, bytes]:
    """Read all wheels in a folder.

    Raises
    ------
    BoardError
        There are no wheels.
    """
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*.whl"))} if folder.is_dir() else {}
    if not found:
        raise BoardError(f"--wheels {folder}: not a folder with wheels (FILE.whl) in it")
    return found
