"""Recipes: what ships is legal, and a mistake is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.errors import RecipeError
from deploy.recipe import load_recipe

ROOT = Path(__file__).parent.parent.parent
MINIMAL = {
    "name": "tiny",
    "network": {"name": "cifar:resnet20"},
    "data": {"name": "digits"},
    "prune": {"method": "l1", "target": {"flops": 0.5}},
}


def _written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def _with(dotted: str, value: object) -> dict:
    document = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *path, last = dotted.split(".")
    section = document
    for part in path:
        section = section.setdefault(part, {})
    section[last] = value
    return document


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_legal(path):
    assert load_recipe(path).name == path.stem


def test_minimal_recipe(tmp_path):
    recipe = load_recipe(_written(tmp_path, MINIMAL))
    assert recipe.prune.target.as_target().kept_fraction == 0.5
    assert recipe.train is None


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("prunne", {}, "unknown key 'prunne'; did you mean 'prune'?"),
        ("prune.taget", {}, "unknown key 'prune.taget'; did you mean 'target'?"),
        ("bench.backend", ["ort"], "unknown key 'bench.backend'; did you mean 'backends'?"),
        ("train.epoch", 3, "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("prune.target", {"flops": 2}, "key 'prune.target.flops'"),
        ("prune.target", {}, "a target is one of flops, params, ratios; got none"),
        ("prune.target", {"flops": 0.5, "params": 0.5}, "got flops and params"),
        ("name", "../escape", "key 'name'"),
        ("bench.precision", "int3", "key 'bench.precision'"),
        ("seed", "abc", "key 'seed'"),
    ],
)
def test_mistake_is_one_line_that_names_the_key(tmp_path, dotted, value, said):
    with pytest.raises(RecipeError) as caught:
        load_recipe(_written(tmp_path, _with(dotted, value)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [("a: [1", "is not YAML at line"), ("- 1\n- 2\n", "a recipe is a mapping"), ("", "a recipe is a mapping")],
)
def test_broken_document(tmp_path, document, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe(_written(tmp_path, document))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        load_recipe(tmp_path / "binary.yaml")
