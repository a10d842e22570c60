"""GPUs and NPUs listed by the system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from benchmarks.machine.board.records import Accelerator
from benchmarks.machine.linux import text, value

__all__ = ["accelerators"]

_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_NPU_DRIVERS = ("rknpu", "rocket", "ethosu", "etnaviv")
_PCI = {("0x1e60", "0x2864"): "Hailo-8", ("0x1e60", "0x2862"): "Hailo-10H", ("0x1ac1", "0x089a"): "Google Coral"}
_USB = {
    ("18d1", "9302"): "Google Coral (USB)",
    ("1a6e", "089a"): "Google Coral (USB, without its firmware)",
    ("03e7", "2485"): "Intel Movidius Myriad X (USB)",
}
_JETSON = ("gpu.0", "17000000.gpu", "17000000.ga10b", "17000000.gv11b", "57000000.gpu")
"""Device names of Jetson GPUs."""


def accelerators(root: Path) -> tuple[Accelerator, ...]:
    """List the accelerators, each once.

    Parameters
    ----------
    root : Path
        Folder that contains ``proc`` and ``sys``.
    """
    found = [*_nvidia(root), *_jetson(root), *_rendering(root), *_accel(root), *_by_id(root)]
    return tuple(dict.fromkeys(found))


def _nvidia(root: Path) -> Iterator[Accelerator]:
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        if name := value(text(path), "Model"):
            yield Accelerator(kind="GPU", name=name, driver="nvidia")


def _jetson(root: Path) -> Iterator[Accelerator]:
    for name in _JETSON:
        if (root / "sys/class/devfreq" / name).is_dir() or (root / "sys/devices" / name).is_dir():
            yield Accelerator(kind="GPU", name=f"NVIDIA Jetson ({name})", driver="nvgpu")
            return


def _rendering(root: Path) -> Iterator[Accelerator]:
    """Yield the rendering devices, without display controllers."""
    for folder in sorted((root / "sys/class/drm").glob("renderD*")):
        facts = _facts(folder / "device/uevent")
        driver = facts.get("DRIVER")
        if driver in ("nvidia", "nvgpu"):
            continue  # named above
        yield Accelerator(kind=_kind(driver), name=_name(folder / "device", facts), driver=driver)


def _accel(root: Path) -> Iterator[Accelerator]:
    for folder in sorted((root / "sys/class/accel").glob("accel*")):
        facts = _facts(folder / "device/uevent")
        yield Accelerator(kind="NPU", name=_name(folder / "device", facts), driver=facts.get("DRIVER"))
    for folder in sorted((root / "sys/class/devfreq").glob("*.npu")):
        yield Accelerator(kind="NPU", name=folder.name)


def _by_id(root: Path) -> Iterator[Accelerator]:
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        name = _PCI.get((text(folder / "vendor") or "", text(folder / "device") or ""))
        if name is not None:
            yield Accelerator(kind="NPU", name=name, driver=_facts(folder / "uevent").get("DRIVER"))
    for folder in sorted((root / "sys/bus/usb/devices").glob("*")):
        name = _USB.get((text(folder / "idVendor") or "", text(folder / "idProduct") or ""))
        if name is not None:
            yield Accelerator(kind="NPU", name=name)


def _kind(driver: str | None) -> Literal["GPU", "NPU"]:
    return "NPU" if (driver or "").lower() in _NPU_DRIVERS else "GPU"


def _name(device: Path, facts: dict[str, str]) -> str:
    """Return the compatible string of a device, else its PCI numbers."""
    if compatible := facts.get("OF_COMPATIBLE_0"):
        return compatible
    vendor, number = text(device / "vendor") or "", text(device / "device") or ""
    return f"{_VENDORS.get(vendor, vendor)} {number}".strip() or facts.get("DRIVER") or "unknown"


def _facts(path: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in (text(path) or "").splitlines())
    return {key: value for key, _, value in lines}
