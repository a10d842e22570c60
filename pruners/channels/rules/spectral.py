"""Rules for Fourier transforms and complex numbers."""

from __future__ import annotations

from typing import Any

from pruners.channels.labels import Value
from pruners.channels.propagation import Propagation, rule
from pruners.channels.rules.movement import lock_along

__all__: list[str] = []


@rule("fft_fftshift", "fft_ifftshift")
@rule(*(f"fft_{kind}{axes}" for kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft") for axes in ("", "2", "n")))
def transform(walk: Propagation, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Mix or shift the positions along some axes; entries along the others stay apart."""
    given = {one.name: one.default_value for one in walk.node.target._schema.arguments[1:]}  # type: ignore[union-attr]
    given = {**given, **dict(zip(given, args, strict=False)), **kwargs}
    rank, dim = len(x.shape), given["dim"]
    if dim is None:
        dim = range(rank - len(given.get("s") or x.shape), rank)
    axes = [axis % rank for axis in ([dim] if isinstance(dim, int) else dim)]
    return Value(walk.shape, lock_along(walk, x, axes, "mixes its positions").slots)


@rule("view_as_real")
def real_pairs(walk: Propagation, x: Value) -> Value:
    """Put real and imaginary part into a new last axis."""
    return Value(walk.shape, tuple(slot.unsqueeze(-1) for slot in x.slots))


@rule("view_as_complex")
def complex_numbers(walk: Propagation, x: Value) -> Value:
    """Read real and imaginary part from the last axis: they are kept or removed together."""
    rest = lock_along(walk, x, [len(x.shape) - 1], "makes one number of them")
    return Value(walk.shape, tuple(slot.squeeze(-1) for slot in rest.slots))
