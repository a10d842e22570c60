"""Recipes: what ships is legal, and a mistake is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.errors import RecipeError
from deploy.recipe import load_recipe
from pruners.target import COSTS, Constraints, Target

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


RUNS = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if not path.stem.startswith(("study-", "latency-")))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_shipped_recipes_are_legal(path):
    assert load_recipe(path).name == path.stem


def test_minimal_recipe(tmp_path):
    recipe = load_recipe(_written(tmp_path, MINIMAL))
    assert recipe.prune.target.as_target().kept_fraction == 0.5
    assert recipe.train is None


@pytest.mark.parametrize("of", COSTS)
def test_every_cost_can_be_a_target(tmp_path, of):
    recipe = load_recipe(_written(tmp_path, _with("prune.target", {of: 0.25})))
    assert recipe.prune.target.as_target() == Target(of=of, kept_fraction=0.25)


def test_constraints_arrive_as_they_are_written(tmp_path):
    document = """
        name: tiny
        network: {name: "cifar:resnet20"}
        data: {name: digits}
        prune:
          target: {weight_bytes: 0.5}
          multiple_of: 8
          min_units: 2
          min_fraction: 0.1
          exclude: [conv1]
          bounds: {"*": [0.1, 1], "layer1.*": [0.5, 0.75]}
          max_units_per_step: 100
          max_fraction_per_step: 0.05
          exact_only: true
          form: module
    """
    assert load_recipe(_written(tmp_path, document)).prune.constraints() == Constraints(
        multiple_of=8,
        min_units=2,
        min_fraction=0.1,
        exclude=("conv1",),
        bounds={"*": (0.1, 1.0), "layer1.*": (0.5, 0.75)},
        max_units_per_step=100,
        max_fraction_per_step=0.05,
        exact_only=True,
        form="module",
    )


@pytest.mark.parametrize(
    ("dotted", "value", "said"),
    [
        ("prunne", {}, "unknown key 'prunne'; did you mean 'prune'?"),
        ("prune.taget", {}, "unknown key 'prune.taget'; did you mean 'target'?"),
        ("bench.backend", ["ort"], "unknown key 'bench.backend'; did you mean 'backends'?"),
        ("train.epoch", 3, "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("prune.target", {"flops": 2}, "key 'prune.target.flops'"),
        (
            "prune.target",
            {},
            "one of flops, macs, params, weight_bytes, activation_bytes, ratios, speed_up, latency_ms; got none",
        ),
        ("prune.target", {"ratios": {"conv1": 1.5}}, "'conv1' is the share removed, in [0, 1); got 1.5"),
        ("prune.target", {"activations": 0.5}, "did you mean 'activation_bytes'?"),
        ("prune.bounds", {"layer1.*": [0.9, 0.5]}, "key 'prune.bounds': bounds of 'layer1.*' are the least and"),
        ("prune.bounds", {"layer1.*": 0.5}, "key 'prune.bounds.layer1.*'"),
        ("data.normalise", "foo", "key 'data.normalise': input should be 'train', 'imagenet' or 'none', got 'foo'"),
        ("data.normalise", {"mean": [1], "std": [0]}, "key 'data.normalise': mean and std have one number a channel"),
        ("data.normalise", {"mena": [1], "std": [1]}, "unknown key 'data.normalise.mena'; did you mean 'mean'?"),
        ("data.crop", "half", "parse string as a number, or 'none', got 'half'"),
        ("data.image_size", 100_000, "key 'data.image_size': input should be less than or equal to 8192"),
        ("prune.max_units_per_step", 0, "key 'prune.max_units_per_step'"),
        ("prune.max_fraction_per_step", 1.5, "key 'prune.max_fraction_per_step'"),
        ("prune.form", "onnx", "key 'prune.form'"),
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
