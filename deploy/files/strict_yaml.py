"""Read untrusted YAML strictly: no aliases, no duplicate keys, only finite numbers."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

__all__ = ["strict_yaml"]

_MAX_DEPTH = 50
_MAX_INTEGER = 1 << 63


class _RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that is refused."""


class _Loader(yaml.SafeLoader):
    """Reads booleans as YAML 1.2 does: ``on`` is the key of a target, not True."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse deep nesting, and aliases: a few lines of them can expand to billions of values."""
        if self.check_event(yaml.AliasEvent):
            raise _refused("aliases are not read: write the value where it is used", self._next())
        if self._depth >= _MAX_DEPTH:
            raise _refused(f"it is nested more than {_MAX_DEPTH} deep", self._next())
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _next(self) -> Any:
        return self.peek_event()  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that appears twice."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _refused(f"key {key.value!r} appears twice", key)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Refuse strings that are invalid in file names or on a terminal."""
        value = super().construct_scalar(node)
        if re.search("[\0\ud800-\udfff]", value):
            raise _refused("a text in it holds a NUL or half of a surrogate pair", node)
        return value

    def construct_yaml_int(self, node: Any) -> int:
        """Refuse integers of more than 63 bits."""
        value = super().construct_yaml_int(node)
        if not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise _refused(f"the integer {node.value[:40]} is too large", node)
        return value

    def construct_yaml_float(self, node: Any) -> float:
        """Refuse numbers that are not finite."""
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise _refused(f"{node.value[:40]} is not a finite number", node)
        return value


_TRUTH = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TRUTH]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_TRUTH, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def strict_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises
    ------
    ValueError
        It is not YAML, with the place; or it has an alias, a duplicate key, a number that is not finite or has more
        than 63 bits, a NUL or half of a surrogate pair, or more than 50 levels of nesting.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = "it cannot be read" if isinstance(error, _RefusedError) else "it is not YAML"
        raise ValueError(f"{what}{where}: {getattr(error, 'problem', None) or 'malformed'}") from error
    except (ArithmeticError, LookupError, RecursionError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not YAML: {error}") from error  # tags with invalid content


def _refused(problem: str, place: Any) -> _RefusedError:
    return _RefusedError(None, None, problem, place.start_mark)
