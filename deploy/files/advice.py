"""Adapt the advice in messages to where they are read: a command, a recipe, a check file or Python.

Messages name options of ``deploy bench``: ``pass --precision int8``. If the running command has no such option, its
own of the same meaning is named, or a key of the recipe that it reads, or else ``deploy bench``. For a call from
Python, its arguments are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deploy.errors import is_mistake

__all__ = ["ARGUMENTS", "CHECK", "CHECK_KEYS", "KEYS", "PYTHON", "RECIPE", "Place", "advised", "fitting"]

KEYS = {
    "--backend": "bench.backends",
    "--batch": "bench.batch",
    "--budget": "bench.budget_s",
    "--device": "bench.device",
    "--margin": "bench.margin",
    "--precision": "bench.precision",
    "--threads": "bench.threads",
    "--trials": "bench.trials",
}
"""Option of ``deploy bench`` -> key of a recipe of the same meaning."""
CHECK_KEYS = {
    "--backend": "backends",
    "--batch": "batch",
    "--device": "device",
    "--inputs": "inputs",
    "--margin": "limits.slower",
    "--precision": "precision",
    "--shape": "shapes",
    "--threads": "threads",
}
"""Option of ``deploy bench`` -> key of a model in a check file of the same meaning."""
ARGUMENTS = {
    "--backend": "backends",
    "--batch": "batch",
    "--budget": "budget_s",
    "--cold": "cold",
    "--cores": "cores",
    "--device": "device",
    "--fast": "fast",
    "--input": "inputs",
    "--input-range": "input_ranges",
    "--inputs": "inputs",
    "--margin": "margin",
    "--no-check": "check=False",
    "--precision": "precision",
    "--shape": "shapes",
    "--threads": "threads",
    "--trials": "trials",
}
"""Option of ``deploy bench`` -> argument of `deploy.bench`."""
_ALIKE = {"--budget": "--duration"}
"""Option of ``deploy bench`` -> option of other commands of the same meaning."""
_OTHERS = ("--cold", "--cores", "--fast", "--input", "--input-range", "--inputs", "--no-check", "--shape", "--streams")
_VALUE = r"(?: (cpu|cuda(?::\d+)?|sm_\d+|fp\d+|bf16|int8|\d[\d.]*)(?![\w.]*\w))?"
_ADVICE = re.compile(rf"(?<![\w-])(pass )?({'|'.join(sorted((*KEYS, *_OTHERS), reverse=True))})(?![\w-]){_VALUE}")
_COMMAND = re.compile(r"\b(?:deploy [a-z]+|pip [a-z]+) [^;]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where messages are read.

    Parameters
    ----------
    options : frozenset of str
        Options of the command, as ``"--threads"``.
    recipe : bool
        Whether it reads a recipe.
    python : bool
        Whether it is a call from Python.
    check_file : bool
        Whether it reads a check file.
    """

    options: frozenset[str] = frozenset()
    recipe: bool = False
    python: bool = False
    check_file: bool = False

    def fitting(self, text: str) -> str:
        """Return `text` with the option names of this place; commands that it quotes stay unchanged."""
        parts, end, named = [], 0, False
        keys = KEYS if self.recipe else CHECK_KEYS if self.check_file else {}
        quoted = [match.span() for match in _COMMAND.finditer(text)]
        for match in _ADVICE.finditer(text):
            verb, option, value = match.groups()
            if option in self.options or any(start <= match.start() < stop for start, stop in quoted):
                continue
            parts.append(text[end : match.start()])
            end = match.end()
            if self.python and option in ARGUMENTS:
                given = "" if value is None else f"={value}" if value[0].isdigit() else f"={value!r}"
                parts.append(f"{verb or ''}{ARGUMENTS[option]}{given}")
                continue
            if option in keys:
                parts.append(f"{'set ' if verb else ''}{keys[option]}{f': {value}' if value else ''}")
                continue
            alike = _ALIKE.get(option)
            if alike in self.options:
                parts.append(f"{verb or ''}{alike}{f' {value}' if value else ''}")
                continue
            parts.append(f"{'' if named else 'deploy bench '}{option}{f' {value}' if value else ''}")
            named = True
        return "".join((*parts, text[end:]))


RECIPE = Place(recipe=True)
"""A process that runs a recipe."""
CHECK = Place(frozenset({"--accept-unfit", "--budget"}), check_file=True)
"""`deploy check`, whose models are listed in a check file."""
PYTHON = Place(python=True)
"""A call from Python."""

_place: ContextVar[Place | None] = ContextVar("place", default=None)


def fitting(text: str) -> str:
    """Return a message adapted to the running command; unchanged without one."""
    place = _place.get()
    return text if place is None else place.fitting(text)


@contextmanager
def advised(place: Place) -> Iterator[None]:
    """Adapt messages to `place`, including those of errors that the block raises on purpose."""
    before = _place.set(place)
    try:
        yield
    except Exception as error:
        if is_mistake(error) and len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (place.fitting(error.args[0]),)
        raise
    finally:
        _place.reset(before)
