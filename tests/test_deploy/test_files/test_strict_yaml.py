"""YAML is read within bounds, and the line that is refused is named."""

from __future__ import annotations

import pytest

from deploy.files.strict_yaml import strict_yaml


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1, 2]\nb: *x\n", "line 2.*aliases are not read"),
        ("a: " + "[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("a: 1\nb: 2\na: 3\n", "line 3.*key 'a' appears twice"),
        ("seed: 99999999999999999999999999\n", "the integer 99999999999999999999999999 is too large"),
        ("rate: .inf\n", ".inf is not a finite number"),
        ("rate: .nan\n", ".nan is not a finite number"),
        ("a: !!python/object:os.system x\n", "line 1"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text, says):
    with pytest.raises(ValueError, match=says):
        strict_yaml(text)


def test_values_are_those_of_yaml_1_2():
    assert strict_yaml("on: ort\nyes: true\nn: 3\nx: 1.5\n") == {"on": "ort", "yes": True, "n": 3, "x": 1.5}
