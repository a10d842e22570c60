"""Make valid files hostile: drop, double, retype, nest or enlarge fields; flip bytes; cut files."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    None, True, 0, -1, 1, 2, 1 << 31, -(1 << 40), 1 << 63, 10**30, 10**400, 0.0, -0.5, 1e-300, 1e300,
    float("nan"), float("inf"), "", "x", "a\0b", "\ud800", "\x1b[31m", "../../../etc/passwd", "9" * 30, "x" * 5000,
    "2026-13-45", [], {}, [[]], [0], ["x"], {"": 0}, {"x": None},
]  # fmt: skip
TEXTS = [
    "",
    "\0",
    "\xff\xfe",
    "NaN",
    "[" * 100_000,
    '{"a":' * 3000,
    "1" * 5000,
    "&a [*a]",
    "!!python/object:os.system x",
]

Document = Any


def odd(rng: random.Random) -> Any:
    value = rng.choice(ODD)
    for _ in range(rng.choice((0, 0, 0, 1, 150))):
        value = [value]
    return value


def places(document: Document) -> list[tuple[Any, Any]]:
    found = []
    waiting = [document]
    while waiting:
        owner = waiting.pop()
        keys = list(owner) if isinstance(owner, dict) else range(len(owner)) if isinstance(owner, list) else ()
        for key in keys:
            found.append((owner, key))
            waiting.append(owner[key])
    return found


def change(document: Document, rng: random.Random) -> None:
    """Change one to three fields of a JSON document in place."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not (known := places(document)):
            return
        # Otherwise long lists of samples would be drawn nearly always.
        known = [one for one in known if isinstance(one[0], dict)] or known if rng.random() < 0.8 else known
        owner, key = rng.choice(known)
        match rng.randrange(6):
            case 0 if isinstance(owner, dict):
                del owner[key]
            case 1 if isinstance(owner, list):
                owner.insert(key, owner[key])
            case 2 if isinstance(owner, dict):
                owner[rng.choice(("x", f"{key}".upper(), f"{key}s", "a\0"))] = owner[key]
            case 3:
                other, from_key = rng.choice(known)
                owner[key] = json.loads(json.dumps(other[from_key]))
            case 4 if isinstance(owner[key], int | float):
                owner[key] = rng.choice((0, -owner[key], owner[key] * 1000, owner[key] / 3, 1, 1e308, 1 << 62))
            case _:
                owner[key] = odd(rng)


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """Flip, cut, double or insert bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, stop = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[at : min(stop, at + 40)]
            case 3:
                data[at:at] = data[at : min(stop, at + 400)]
            case _:
                data[at:at] = rng.choice(TEXTS).encode("latin-1")
    return bytes(data)


def json_of(valid: Document, rng: random.Random) -> bytes:
    document = json.loads(json.dumps(valid))
    if rng.random() < 0.85:
        change(document, rng)
    text = json.dumps(document)
    return spoilt(text.encode(), rng) if rng.random() < 0.15 else text.encode()


def message_of(valid: Any, rng: random.Random) -> Any:
    """Return a copy of a protobuf message with some fields changed, anywhere in it."""
    message = type(valid)()
    message.CopyFrom(valid)
    for _ in range(rng.choice((1, 1, 2, 4))):
        owner = message
        while True:
            fields = owner.DESCRIPTOR.fields
            held = [field for field, _ in owner.ListFields()]
            field = rng.choice(held if held and rng.random() < 0.85 else fields)
            inner = getattr(owner, field.name)
            repeated = hasattr(inner, "append") or hasattr(inner, "add")
            if field.message_type is not None and rng.random() < 0.85:
                if not repeated:
                    owner = inner
                    continue
                if len(inner):
                    owner = rng.choice(inner)
                    continue
            break
        _change_field(owner, field, inner, repeated, rng)
    return message


def _change_field(owner: Any, field: Any, inner: Any, repeated: bool, rng: random.Random) -> None:
    what = rng.randrange(5)
    if what == 0:
        owner.ClearField(field.name)
    elif field.message_type is not None:
        if repeated and len(inner):
            some = rng.choice(inner)
            if what == 1:
                inner.remove(some)
            else:
                inner.add().CopyFrom(rng.choice(inner) if what == 2 else some)
        elif repeated:
            inner.add()
        else:
            inner.SetInParent()
    else:
        with contextlib.suppress(TypeError, ValueError):
            value = _scalar(field, rng)
            if not repeated:
                setattr(owner, field.name, value)
            elif len(inner) and what < 4:
                inner[rng.randrange(len(inner))] = value
            else:
                inner.append(value)


def _scalar(field: Any, rng: random.Random) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        texts = ["", "x", "a\0b", "\x1b[2J", "../../etc/passwd", "y" * 3000, "Loop", "If", "Conv", "Constant", "own"]
        text = rng.choice(texts)
        return text.encode() if field.type == field.TYPE_BYTES else text
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    return rng.choice((0, 1, -1, 2, 7, 25, 255, 1 << 20, 1 << 31, 1 << 40, -(1 << 63), (1 << 63) - 1))


def strange(path: Path, rng: random.Random) -> None:
    """Replace a file by something that is not a usable file."""
    path.unlink(missing_ok=True)
    match rng.randrange(5):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.mkdir()
        case _:
            path.write_bytes(b"")
