"""Records that describe a board; None where the machine does not report a value."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from benchmarks.records.base import Record

__all__ = ["Accelerator", "Board", "Cache", "Celsius", "CoreKind", "Khz", "Role", "Temperature"]

Celsius = Annotated[float, Field(ge=-273.15, le=1000)]
Khz = Annotated[int, Field(ge=1, le=10**9)]

Role = Literal["big", "middle", "little", "performance", "efficient", "low power"]


class CoreKind(Record):
    """Cores of one kind."""

    name: str = Field(
        description="design name where the part number is known, such as Cortex-A76; otherwise what the system reports"
    )
    role: Role | None = Field(None, description="None where all cores are alike, or nothing ranks them")
    role_from: str = Field("", description="what the role was inferred from")
    cores: tuple[NonNegativeInt, ...] = Field(min_length=1, description="logical cores that are online")
    capacity: PositiveInt | None = Field(
        None, description="capacity in the kernel's scheduler; the strongest core has 1024"
    )
    min_khz: Khz | None = None
    max_khz: Khz | None = None
    now_khz: Khz | None = Field(None, description="highest clock among its cores when the board was read")
    governor: str | None = Field(None, description="several are separated by commas")

    @property
    def title(self) -> str:
        """Name with its role: ``"Cortex-A76 (big)"``."""
        return f"{self.name} ({self.role})" if self.role else self.name


class Cache(Record):
    """Caches of one level and size."""

    level: PositiveInt
    kind: Literal["data", "instruction", "unified"]
    bytes: PositiveInt = Field(description="size of each")
    number: PositiveInt = Field(description="how many there are")


class Temperature(Record):
    """Reading of one temperature sensor."""

    name: str
    celsius: Celsius
    of_cores: bool = Field(description="whether it is at the processor, judging by its name")


class Accelerator(Record):
    """A GPU or NPU, as named by the system."""

    kind: Literal["GPU", "NPU"]
    name: str
    driver: str | None = None


class Board(Record):
    """Hardware and system of a machine."""

    model: str | None = None
    soc: str | None = Field(None, description="from the device tree, such as rockchip,rk3588")
    cpu: str | None = Field(None, description="as the processor names itself")
    architecture: str
    kinds: tuple[CoreKind, ...] = Field((), description="the strongest first")
    physical_cores: PositiveInt | None = None
    features: tuple[str, ...] = Field((), description="vector instructions that runtimes use and all cores have")
    caches: tuple[Cache, ...] = ()
    memory_bytes: PositiveInt | None = None
    memory_limit_bytes: PositiveInt | None = Field(
        None, description="memory limit of the control group; None where it has none"
    )
    quota_cores: float | None = Field(None, gt=0, le=1 << 20, description="CPU time of the control group, in cores")
    system: str | None = None
    kernel: str | None = None
    within: tuple[str, ...] = Field((), description="containers and virtual machines it appears to run in")
    temperatures: tuple[Temperature, ...] = ()
    throttling: tuple[str, ...] = Field((), description="what would show that the clock is held down")
    energy: tuple[str, ...] = Field((), description="what measures energy")
    no_energy: str = Field("", description="why nothing does")
    accelerators: tuple[Accelerator, ...] = ()
    runtimes: dict[str, str] = Field(
        default_factory=dict, description="versions of the runtimes that can run a model here"
    )

    @property
    def hides_throttling(self) -> bool:
        """Whether the firmware may throttle unnoticed: a Raspberry Pi whose kernel does not ask the firmware."""
        return "Raspberry Pi" in (self.model or "") and not any("firmware" in source for source in self.throttling)

    @property
    def cores(self) -> int:
        """Number of online logical cores."""
        return sum(len(kind.cores) for kind in self.kinds)

    @property
    def untold(self) -> tuple[str, ...]:
        """Names of the facts this machine does not report."""
        clocks = any(kind.max_khz for kind in self.kinds)
        governors = any(kind.governor for kind in self.kinds)
        told = {
            "the board's name": self.model,
            "caches": self.caches,
            "clock frequencies": clocks,
            "frequency governor": governors,
            "temperatures": self.temperatures,
            "throttling": self.throttling,
            "energy": self.energy,
        }
        return tuple(name for name, value in told.items() if not value)
