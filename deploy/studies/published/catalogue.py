"""Catalogue of published pruned networks: read it, check its consistency, and look up entries.

Every entry names its source and holds three kinds of numbers: the architecture (what is kept of the parent), the cost
according to the paper, and the exactly counted cost. An entry whose exact counts miss a published figure by more than
1 % is invalid: it belongs in `left_out`, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from deploy.errors import DeployError

__all__ = [
    "TOLERANCE",
    "Catalogue",
    "CatalogueEntry",
    "CatalogueError",
    "Counts",
    "Figures",
    "LeftOut",
    "Measured",
    "Network",
    "Pair",
    "Published",
    "Ratios",
    "load_catalogue",
    "read_catalogue",
]

TOLERANCE = 0.01
"""Largest relative distance between an exact count and the published figure."""


class CatalogueError(DeployError):
    """A catalogue file is broken, an entry contradicts its paper, or a pattern matches no entry."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Data):
    """A network by name: one of `deploy.sources.network`, or of the module `networks` (``published:NAME``)."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    input_shape: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="channels, height, width")
    classes: PositiveInt


class Ratios(_Data):
    """An architecture given as shares: every layer that matches a pattern keeps ``floor(channels * (1 - removed))``."""

    removed: dict[str, float] = Field(description="pattern of layer names -> removed share", min_length=1)
    whole: tuple[str, ...] = Field((), description="layers that match a pattern but are left alone")


class Counts(_Data):
    """Counted cost of a network: all parameters, and MACs of its convolutions and linear layers."""

    parameters: PositiveInt
    macs: PositiveInt


class Pair(_Data):
    """Exact counts of the parent and of the pruned network."""

    dense: Counts
    pruned: Counts


class Figures(_Data):
    """Published numbers, as printed; None if there is none."""

    parameters: float | None = Field(None, gt=0)
    operations: float | None = Field(None, gt=0, description="in the unit of `Published.counted_in`")


class Measured(_Data):
    """Latency measured by the source itself."""

    dense_ms: float = Field(gt=0)
    pruned_ms: float = Field(gt=0)
    where: str

    @property
    def speedup(self) -> float:
        """Latency of the parent over that of the pruned network."""
        return self.dense_ms / self.pruned_ms


class Published(_Data):
    """Cost of the two networks according to the source."""

    counted_in: Literal["macs", "flops"] = Field(description="flops: a multiplication and an addition count as two")
    dense: Figures = Figures()
    pruned: Figures = Figures()
    removed: Figures = Field(Figures(), description="shares of the parent's, where the source prints those")
    measured: Measured | None = None

    def macs(self, operations: float) -> float:
        """Convert a published number of operations to MACs."""
        return operations / (2 if self.counted_in == "flops" else 1)

    @property
    def ratio(self) -> float | None:
        """Published operations of the parent over those of the pruned network; None if not published."""
        if self.removed.operations is not None:
            return 1 / (1 - self.removed.operations)
        if self.dense.operations is None or self.pruned.operations is None:
            return None
        return self.dense.operations / self.pruned.operations


class CatalogueEntry(_Data):
    """One pruned network.

    Its architecture is given in one of three ways: `kept` (a list of channel counts), `ratios`, or `network` (another
    network of the same family: removed blocks, another head).
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    source: str = Field(min_length=10, description="table, section, or the file of a repository")
    parent: Network
    kept: dict[str, PositiveInt] | None = Field(None, description="layer or pattern of layers -> channels")
    ratios: Ratios | None = None
    network: Network | None = None
    counts: Pair
    published: Published
    note: str = ""
    method: str = Field("", description="taken from the file")
    paper: str = Field("", description="taken from the file")

    @model_validator(mode="after")
    def _legal(self) -> CatalogueEntry:
        given = [one for one in (self.kept, self.ratios, self.network) if one is not None]
        if len(given) != 1:
            raise ValueError(f"{self.name}: give the architecture in one of kept, ratios and network")
        missed = self.misses()
        if not any(name.startswith(("pruned", "kept")) for name in missed):
            raise ValueError(f"{self.name}: nothing is published of the pruned network, so nothing can be checked")
        for name, miss in missed.items():
            if abs(miss) > TOLERANCE:
                raise ValueError(f"{self.name}: {name} misses the published figure by {miss:+.2%}; leave it out")
        return self

    def misses(self) -> dict[str, float]:
        """Return how far the exact count is above (+) or below (-) each published figure, as a share of it."""
        published, counted = self.published, self.counts
        misses: dict[str, float] = {}
        for label, figures, counts in (
            ("dense", published.dense, counted.dense),
            ("pruned", published.pruned, counted.pruned),
        ):
            if figures.parameters is not None:
                misses[f"{label} parameters"] = counts.parameters / figures.parameters - 1
            if figures.operations is not None:
                misses[f"{label} MACs"] = counts.macs / published.macs(figures.operations) - 1
        if published.removed.parameters is not None:
            kept = counted.pruned.parameters / counted.dense.parameters
            misses["kept share of parameters"] = kept / (1 - published.removed.parameters) - 1
        if published.removed.operations is not None:
            kept = counted.pruned.macs / counted.dense.macs
            misses["kept share of MACs"] = kept / (1 - published.removed.operations) - 1
        return misses


class LeftOut(_Data):
    """A network of a paper that is not in the catalogue."""

    title: str
    reason: str = Field(min_length=10)
    method: str = Field("", description="taken from the file")


class Catalogue(_Data):
    """All files together, in the order of their names."""

    entries: tuple[CatalogueEntry, ...]
    left_out: tuple[LeftOut, ...]

    def select(self, patterns: tuple[str, ...] = ()) -> tuple[CatalogueEntry, ...]:
        """Return the entries whose name matches a pattern; all without patterns.

        Raises
        ------
        CatalogueError
            A pattern matches no entry.
        """
        for pattern in patterns:
            if not any(fnmatchcase(entry.name, pattern) for entry in self.entries):
                known = ", ".join(entry.name for entry in self.entries)
                raise CatalogueError(f"no published network is called {pattern!r}; there are {known}")
        return tuple(
            entry
            for entry in self.entries
            if not patterns or any(fnmatchcase(entry.name, pattern) for pattern in patterns)
        )


def load_catalogue() -> Catalogue:
    """Read the bundled catalogue.

    Raises
    ------
    CatalogueError
        A file is broken or contradicts itself.
    """
    folder = files("deploy.studies.published") / "catalogue"
    documents = {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }
    return read_catalogue(documents)


def read_catalogue(documents: Mapping[str, str]) -> Catalogue:
    """Read catalogue files.

    Parameters
    ----------
    documents : Mapping of str to str
        Name -> YAML text with ``method``, ``paper``, ``entries`` and ``left_out``.

    Raises
    ------
    CatalogueError
        A file is broken or contradicts itself, or two entries share a name.
    """
    entries: list[CatalogueEntry] = []
    left_out: list[LeftOut] = []
    for name, text in documents.items():
        try:
            document = yaml.safe_load(text)
            shared = {"method": document["method"], "paper": document["paper"]}
            entries += [CatalogueEntry.model_validate({**item, **shared}) for item in document.get("entries", ())]
            left_out += [
                LeftOut.model_validate({**item, "method": document["method"]}) for item in document.get("left_out", ())
            ]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise CatalogueError(f"{name} is not a catalogue file: {' '.join(str(error).split())}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "entry"
            raise CatalogueError(f"{name}: {where}: {first['msg']}") from error
    names = [entry.name for entry in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CatalogueError(f"two entries are called {twice[0]!r}")
    return Catalogue(entries=tuple(entries), left_out=tuple(left_out))
