"""The command behind a result that came from a board, for checking and showing that result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.subject.subject import content_sha256
from deploy.edge.boards.address import Address
from deploy.errors import BoardError
from deploy.results.bench_grid import onnx_file

__all__ = ["GivenCommand"]


@dataclass(frozen=True, slots=True)
class GivenCommand:
    """A command that ran on a board, as it was given here.

    Parameters
    ----------
    options : Mapping of str to object
        Value of each option and argument, by its name in Python.
    address : Address
        The board that it ran on.
    code : int
        Its exit code, as the board reports it.
    """

    options: Mapping[str, Any]
    address: Address
    code: int

    @property
    def is_text(self) -> bool:
        """Whether its result is what it prints."""
        return "output" not in self.options

    def path(self, name: str) -> Path | None:
        """Return the path that an option names; None if it was not given."""
        value = self.options.get(name)
        return None if value is None else Path(value)

    def require(self, measured: Iterable[str], code: int) -> None:
        """Check that a result is of the models that were sent, and matches the exit code that the board reports.

        Parameters
        ----------
        measured : iterable of str
            Hashes of the models in the result.
        code : int
            The exit code that follows from the result.

        Raises
        ------
        BoardError
            It is of other models, or implies another exit code.
        """
        paths = filter(None, map(self.path, ("model", "against", "baseline", "candidate")))
        sent = {content_sha256(onnx_file(path)) for path in paths}
        if set(measured) != sent:
            raise BoardError(f"{self.address}: it did not measure the models that were sent: not believed")
        if code != self.code:
            raise BoardError(
                f"{self.address}: it reports exit code {self.code}, but what it measured means {code}: not believed"
            )
