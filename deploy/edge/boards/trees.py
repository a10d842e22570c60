"""Models and inputs of a command, as sent to a board: addressed by content, with their names here."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backends import modelfile
from backends.reading.files import require_regular
from benchmarks.records.disk import file_sha256, read_errors
from deploy.bundles.bundle import Bundle, bundle_of
from deploy.bundles.manifest import MANIFEST
from deploy.errors import BoardError

__all__ = ["Tree", "tree_of"]

_ONNX = ".onnx"
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Tree:
    """Files behind one argument of a command.

    Parameters
    ----------
    files : dict of str to Path
        Path on the board, below the tree -> file here.
    sha256 : dict of str to str
        The same paths -> hash of the file.
    argument : str
        Path on the board, below the tree, that replaces the argument.
    """

    files: dict[str, Path]
    sha256: dict[str, str]
    argument: str

    @property
    def name(self) -> str:
        """Hash of the content."""
        lines = "".join(f"{name}\0{self.sha256[name]}\n" for name in sorted(self.files))
        return hashlib.sha256(lines.encode()).hexdigest()[:32]

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def archive(self) -> Iterator[bytes]:
        """Yield the files as tar.

        Raises
        ------
        BoardError
            A file shrank since it was hashed; the board refuses one that changed otherwise.
        """
        for name, path in self.files.items():
            member = tarfile.TarInfo(name)
            member.size = left = path.stat().st_size
            yield member.tobuf(tarfile.PAX_FORMAT)
            with path.open("rb") as file:
                while left and (block := file.read(min(left, _BLOCK))):
                    left -= len(block)
                    yield block
            if left:
                raise BoardError(f"{path} was changed while it was sent: run the command again")
            yield bytes(-member.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def tree_of(path: Path) -> Tree:
    """Return the files behind a command-line path: a model with its data, a bundle, or any single file.

    Parameters
    ----------
    path : Path
        Path of an ONNX file, of the folder of a bundle, or of another file.

    Raises
    ------
    BoardError
        The path is not a regular file, or is a folder without a bundle.
    ModelLoadError
        An ONNX file is broken.
    BundleError
        A bundle is broken.
    """
    if path.is_dir() and not (path / MANIFEST).is_file():
        if not (path / "model.onnx").is_file():
            raise BoardError(f"{path} is a folder without a bundle: only models, bundles and input files go to a board")
        path /= "model.onnx"
    if (path.is_dir() or path.suffix == _ONNX) and (bundle := bundle_of(path)) is not None:
        return _of_bundle(bundle, path)
    if path.suffix != _ONNX:
        with read_errors(path, BoardError):
            require_regular(path)
        return _tree({_plain(path.name): path}, _plain(path.name))
    data = modelfile.external_files(modelfile.read(path).proto)
    # Folders distinguish models of the same name.
    folder = _plain(path.resolve().parent.name) or "model"
    files = {f"{folder}/{_plain(path.name)}": path}
    files |= {f"{folder}/{name}": path.resolve().parent / name for name in data}
    return _tree(files, f"{folder}/{_plain(path.name)}")


def _of_bundle(bundle: Bundle, path: Path) -> Tree:
    folder = _plain(bundle.folder.resolve().name) or "bundle"
    files = {f"{folder}/{name}": bundle.folder / name for name in (MANIFEST, *bundle.manifest.files)}
    return _tree(files, folder if path.is_dir() else f"{folder}/{path.name}")


def _tree(files: dict[str, Path], argument: str) -> Tree:
    for name in files:
        if name.startswith("/") or ".." in name.split("/"):
            raise BoardError(f"{name}: not a valid name for a file that goes to a board")
    return Tree(files, {name: file_sha256(path) for name, path in files.items()}, argument)


def _plain(name: str) -> str:
    """Return the name of a file as text that can be sent; tables name a model after it."""
    return name.encode(errors="replace").decode()
