"""Turn a failed pydantic validation into one line: which key, what it got, and what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from backends.errors import did_you_mean

__all__ = ["one_line", "suggestion"]


def suggestion(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or all known names if none is near."""
    if meant := did_you_mean(name, known):
        return meant
    return f" (there are: {', '.join(known)})" if known else ""


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe the first problem of `error` with the dotted path of the key.

    Parameters
    ----------
    error : ValidationError
        Raised while validating `model`.
    model : type of BaseModel
        The requested model; its fields are the keys that can be suggested.
    """
    problems = error.errors(include_url=False)
    # An unknown key explains a missing one (a misspelt name is both), so it is reported first.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), _telling(problems))
    path = _keys_of(problem["loc"], model, ends_in_key=problem["type"] in ("extra_forbidden", "missing"))
    where = ".".join(path) or "the document"
    if problem["type"] == "extra_forbidden":
        owner = _field_model(model, path[:-1])
        return f"unknown key {where!r}{suggestion(path[-1], _keys(owner) if owner else [])}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
    beside = [one for one in problems if one is not problem and one["loc"][:-1] == problem["loc"][:-1]]
    words = [one["ctx"]["expected"] for one in beside if one["type"] == "literal_error"]
    other = f", or {words[0]}" if words and not isinstance(problem["input"], Mapping) else ""
    return f"key {where!r}: {message[:1].lower()}{message[1:]}{other}{got}"


def _telling(problems: Sequence[ErrorDetails]) -> ErrorDetails:
    """Return the first problem; for a mapping where a literal was also allowed, the first problem inside it."""
    first = problems[0]
    if first["type"] == "literal_error" and isinstance(first["input"], Mapping):
        return next((one for one in problems if one["type"] != "literal_error"), first)
    return first


def _keys_of(loc: Sequence[int | str], model: type[BaseModel], *, ends_in_key: bool) -> list[str]:
    """Return the keys of `loc`, without the parts that name a member of a union."""
    path: list[str] = []
    record: type[BaseModel] | None = model
    free = False  # in a mapping any key may follow
    for position, part in enumerate(loc):
        field = None if record is None else _field(record, str(part))
        if field is not None:
            record, free = _record_in(field.annotation), _has_mapping(field.annotation)
        elif not (isinstance(part, int) or free or (ends_in_key and position == len(loc) - 1)):
            continue
        path.append(str(part))
    return path


def _field_model(model: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """Follow `path` through nested models; None if it leads to something else."""
    for name in path:
        if name.isdigit():  # an index into a list: its key has already led to the model of its items
            continue
        field = _field(model, name)
        nested = _record_in(field.annotation) if field else None
        if nested is None:
            return None
        model = nested
    return model


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    return next((one for key, one in model.model_fields.items() if name in (key, one.alias)), None)


def _keys(model: type[BaseModel]) -> list[str]:
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _has_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    return origin in (dict, Mapping) or any(_has_mapping(part) for part in get_args(annotation))


def _record_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, list, tuple):
        return next((found for part in get_args(annotation) if (found := _record_in(part))), None)
    return None
