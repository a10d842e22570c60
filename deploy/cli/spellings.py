"""Alternative spellings on the command line: a model by ``--model``, and former names of options, with a notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

__all__ = ["MODEL_MAY_BE_AN_OPTION", "RENAMED", "respelt"]

MODEL_MAY_BE_AN_OPTION = frozenset(
    {*(("deploy", name) for name in ("bench", "load", "calibrate", "layers", "compile")), ("table", "check")}
)
"""(Group, command) whose last argument, a model, may also be given as ``--model``."""

RENAMED = {
    ("deploy", "bench"): {"-a": "--against"},
    ("deploy", "layers"): {"--baseline": "--against", "-a": "--against", "--budget": "--duration"},
    ("deploy", "load"): {"--budget": "--duration"},
    ("deploy", "run"): {"--out": "--output"},
    ("plan", "show"): {"--html": "--page"},
    ("plan", "apply"): {"--out": "--output"},
    ("plan", "transfer"): {"--out": "--output"},
    ("study", "run"): {"--out": "--output"},
    ("study", "coverage"): {"--out": "--output"},
    ("study", "published"): {"--out": "--output"},
}
"""(Group, command) -> former option -> current option of the same meaning."""


def respelt(command: tuple[str, str], words: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Return the words of a command line in the current spelling.

    Parameters
    ----------
    command : (str, str)
        Its group and name.
    words : sequence of str
        The words after its name.
    say : callable
        Receives one line for each former option, which names the current one.
    """
    renamed = RENAMED.get(command, {})
    kept: list[str] = []
    models: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*kept, word, *left, *models]
        flag, joined, value = word.partition("=")
        if command in MODEL_MAY_BE_AN_OPTION and (model := _model(word, left)) is not None:
            models.append(model)
        elif flag in renamed:
            kept.append(f"{renamed[flag]}{joined}{value}")
            say(f"deploy: {flag} is now {renamed[flag]}")
        else:
            kept.append(word)
    return [*kept, *models]


def _model(word: str, following: Iterator[str]) -> str | None:
    """Return the value of ``--model``, which may be the next word; None if the word is something else."""
    if word in {"--model", "-m"}:
        return next(following, "")
    if word.startswith("--model="):
        return word.removeprefix("--model=")
    return word.removeprefix("-m") if word.startswith("-m") else None
