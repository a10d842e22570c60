"""Groups of options shared by the commands that measure an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.subject.given import GivenInputs
from deploy.cli import options as given
from deploy.results.bench_grid import Grid, numbers, shapes

__all__ = ["Feeds", "Points", "names_of"]


def names_of(backend: list[str] | None) -> list[str]:
    """Return the named backends, each once; ``ort`` if none was named."""
    return list(dict.fromkeys(backend or ["ort"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Where a model is measured: each backend with each number of threads and each batch size."""

    backend: given.Backends = None
    precision: given.Precision = "fp32"
    threads: given.ThreadsList = None
    device: given.Device = None
    batch: given.Batches = None

    def grid(self, cores: tuple[int, ...] | None = None) -> Grid:
        """Return the points as a grid, on these cores.

        Raises
        ------
        InputError
            Threads or batches are not whole numbers of at least 1.
        """
        return Grid(
            backends=names_of(self.backend),
            precision=self.precision,
            device=self.device,
            threads=numbers(self.threads, "--threads"),
            batches=numbers(self.batch, "--batch"),
            cores=cores,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeds:
    """The inputs of a model."""

    shape: given.Shapes = None
    inputs: given.InputsFile = None
    input_value: given.InputValues = None
    input_range: given.InputRanges = None

    def into(self, grid: Grid) -> Grid:
        """Return a grid whose models get these inputs.

        Raises
        ------
        InputError
            Sizes or inputs are malformed, or a file cannot be read.
        """
        return replace(
            grid,
            shapes=shapes(self.shape or []),
            given=GivenInputs.read(self.inputs, self.input_value or (), self.input_range or ()),
        )
