"""A profile is a file that anybody may have touched."""

from __future__ import annotations

import json
import lzma

import pytest

from deploy.edge.profile.record import Profile, is_profile, load
from deploy.edge.profile.steadiness import steadiness
from deploy.errors import ResultsError

from .conftest import BIG, GOLDEN


@pytest.fixture
def file(profile, tmp_path):
    path = tmp_path / "profile.json"
    profile.save(path)
    return path


def test_it_is_read_as_it_was_written(profile, file):
    assert load(file) == profile
    assert is_profile(json.loads(file.read_text()))
    assert not is_profile(json.loads(profile.results.model_dump_json()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version 2; this program reads 1"),
        ({"schema_version": "1"}, "schema_version '1'"),
        ({"board": {"cpu": "x"}}, "board.architecture"),
        ({"sustained": [{"label": "a", "asked_s": 1, "rest": {}, "seconds": []}]}, "sustained"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_file_that_is_none_is_one_line(file, change, words):
    document = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps(document))
    with pytest.raises(ResultsError, match="profile") as caught:
        load(file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_are_none(tmp_path, profile):
    path = tmp_path / "results.json"
    profile.results.save(path)
    with pytest.raises(ResultsError, match="is not a profile: it has no board"):
        load(path)
    with pytest.raises(ResultsError, match="no such file"):
        load(tmp_path / "none.json")


def test_profiles_of_every_version_stay_readable(tmp_path):
    path = tmp_path / "profile.json"
    path.write_bytes(lzma.decompress((GOLDEN / "profile-1.json.xz").read_bytes()))
    made = load(path)
    assert [load.label for load in made.sustained] == ["dense", "pruned"]
    assert steadiness(made.sustained[1]).throttling.words == f"2.40 -> 1.50 GHz ({BIG})"


def test_every_field_is_explained():
    assert all(field.description or name in PLAIN for name, field in Profile.model_fields.items())


PLAIN = {"schema_version", "created_utc", "tool_version", "board", "cold", "cooling", "sustained", "layers", "absent"}
"""Fields whose record says what they are."""
