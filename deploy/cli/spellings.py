"""What the command line called things before: the old words still work, and a line names the new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

__all__ = ["MODEL_WAS_AN_OPTION", "RENAMED", "respelt"]

MODEL_WAS_AN_OPTION = {
    ("deploy", "bench"): "MODEL",
    ("deploy", "load"): "MODEL",
    ("deploy", "calibrate"): "MODEL",
    ("deploy", "layers"): "MODEL",
    ("deploy", "compile"): "MODEL",
    ("table", "check"): "DENSE",
}
"""(Group, command) -> the argument that was ``--model``, the last one of the command."""

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
"""(Group, command) -> option of before -> option of today, of the same meaning."""


def respelt(command: tuple[str, str], words: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Return the words of a command line in the spelling of today.

    Parameters
    ----------
    command : (str, str)
        Names of its group and of itself.
    words : sequence of str
        What follows its name.
    say : callable
        Receives one line for each old word, which names the new one.
    """
    argument, renamed = MODEL_WAS_AN_OPTION.get(command), RENAMED.get(command, {})
    kept: list[str] = []
    models: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*kept, word, *left, *models]
        flag, joined, value = word.partition("=")
        if argument and (model := _model(word, left)) is not None:
            models.append(model)
            say(f"deploy: {command[1]} takes its model without --model now: deploy {_name(command)} {argument} ...")
        elif flag in renamed:
            kept.append(f"{renamed[flag]}{joined}{value}")
            say(f"deploy: {flag} is now {renamed[flag]}")
        else:
            kept.append(word)
    return [*kept, *models]


def _model(word: str, following: Iterator[str]) -> str | None:
    """Return the value of ``--model``, which may be the next word; None where the word is something else."""
    if word in {"--model", "-m"}:
        return next(following, "")
    if word.startswith("--model="):
        return word.removeprefix("--model=")
    return word.removeprefix("-m") if word.startswith("-m") else None


def _name(command: tuple[str, str]) -> str:
    group, name = command
    return name if group == "deploy" else f"{group} {name} TABLE"
