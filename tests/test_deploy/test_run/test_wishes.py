"""Flags in the place of a recipe's keys, and the commented recipe that they amount to."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from deploy.errors import RecipeError
from deploy.files.commented_yaml import commented_yaml
from deploy.files.strict_yaml import strict_yaml
from deploy.recipe import Recipe, TargetSpec, recipe_of
from deploy.run.own import COMMENTS, document_of
from deploy.run.wishes import Wishes
from deploy.sources.datasets.data_spec import DataSpec

OWN = {"network": "nets/own_net.py:build", "weights": "own.pt", "data": "imagefolder:photos"}
DATA = DataSpec(name="imagefolder:photos", image_size=32, crop="none", channels=1, normalise="none", augment=False)
RECIPE = {
    "version": 1,
    "name": "known",
    "network": {"name": "cifar:resnet20"},
    "data": {"name": "digits"},
    "prune": {"method": "criterion", "settings": {"criterion": "taylor_fo"}, "target": {"speed_up": 1.5, "on": "ort"}},
    "bench": {"backends": ["ort"], "threads": 1},
}


def own(**wishes) -> Recipe:
    return recipe_of(document_of(Wishes(**OWN, **wishes), DATA, n_train=180), "test")


def test_each_flag_is_a_key():
    recipe = own(speed_up=2, on=("ort",), max_drop=1, threads=2, epochs=7, budget_s=30, method="l1")
    assert recipe.name == "own_net"
    assert (recipe.network.name, recipe.network.weights) == ("nets/own_net.py:build", "own.pt")
    assert recipe.data == DATA
    assert recipe.prune.method == "l1"
    assert recipe.prune.target == TargetSpec(speed_up=2, on="ort")
    assert recipe.prune.multiple_of == "auto"
    assert (recipe.max_drop, recipe.beyond_target) == (1, False)
    assert (recipe.bench.backends, recipe.bench.threads, recipe.bench.budget_s) == (("ort",), 2, 30)
    assert recipe.finetune.epochs == 7


def test_a_speed_on_several_backends_is_met_on_each():
    recipe = own(speed_up=2, on=("ort", "openvino"))
    assert recipe.prune.targets == (TargetSpec(speed_up=2, on="ort"), TargetSpec(speed_up=2, on="openvino"))
    assert recipe.bench.backends == ("ort", "openvino")


def test_without_a_target_the_smallest_within_the_drop_is_asked_for():
    recipe = own(max_drop=1, on=("openvino",))
    assert recipe.prune.target == TargetSpec(speed_up=2, on="openvino")
    assert recipe.beyond_target


def test_one_epoch_can_be_asked_for():
    assert own(flops=0.5, epochs=1).finetune.warmup_epochs == 0


@pytest.mark.parametrize("key", ["max_drop", "speed_up", "budget_s"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_no_number_is_refused_and_never_left_out(key, value):
    asked = Wishes.model_validate_json(Wishes(**OWN, **{"speed_up": 2, key: value}).model_dump_json())
    with pytest.raises(RecipeError, match=key):
        recipe_of(asked.over({"name": "own"}), "command line")


def test_fine_tuning_is_longer_in_epochs_where_there_are_few_images():
    few, many = (
        recipe_of(document_of(Wishes(**OWN, flops=0.5), DATA, n_train=n), "test").finetune for n in (180, 100_000)
    )
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size


def test_flags_beside_a_recipe_change_only_their_keys():
    changed = Wishes(threads=2, epochs=3, data_root="sets").over({**RECIPE, "finetune": {"epochs": 9, "lr": 0.05}})
    assert changed == {
        **RECIPE,
        "data": {"name": "digits", "root": "sets"},
        "finetune": {"epochs": 3, "lr": 0.05},
        "bench": {"backends": ["ort"], "threads": 2},
    }


def test_another_backend_beside_a_recipe_takes_its_speed_along():
    changed = recipe_of(Wishes(on=("openvino",)).over(RECIPE), "test")
    assert changed.prune.target == TargetSpec(speed_up=1.5, on="openvino")
    in_time = {**RECIPE, "prune": {"target": {"latency_ms": 3, "on": "ort"}}}
    assert recipe_of(Wishes(on=("openvino",)).over(in_time), "test").prune.target == TargetSpec(
        latency_ms=3, on="openvino"
    )
    assert changed.bench.backends == ("openvino",)


ON_OPENVINO = {"speed_up": 1.5, "on": "openvino", "threads": 1, "tolerance": 0.02}


@pytest.mark.parametrize(
    ("wishes", "target"),
    [
        ({"speed_up": 3}, {**ON_OPENVINO, "speed_up": 3}),
        ({"latency_ms": 4}, {"latency_ms": 4, "on": "openvino", "threads": 1, "tolerance": 0.02}),
        ({"speed_up": 3, "on": ("ort",)}, {**ON_OPENVINO, "speed_up": 3, "on": "ort"}),
        ({"on": ("ort", "openvino")}, [{**ON_OPENVINO, "on": "ort"}, ON_OPENVINO]),
        ({"flops": 0.5, "on": ("ort",)}, {"flops": 0.5}),
        ({"speed_up": 3, "threads": 4}, {"speed_up": 3, "on": "openvino", "tolerance": 0.02}),
        ({"threads": 4}, {"speed_up": 1.5, "on": "openvino", "tolerance": 0.02}),
    ],
)
def test_another_speed_keeps_what_else_the_recipe_says_of_it(wishes, target):
    assert Wishes(**wishes).over({**RECIPE, "prune": {"target": ON_OPENVINO}})["prune"]["target"] == target


def test_one_speed_may_be_written_as_a_list_and_keys_may_be_null():
    alone = {**RECIPE, "prune": {"target": [ON_OPENVINO]}}
    assert Wishes(speed_up=3).over(alone)["prune"]["target"] == {**ON_OPENVINO, "speed_up": 3}
    by_flops = {**RECIPE, "prune": {"target": {"flops": 0.5, "speed_up": None, "on": None}, "also": []}}
    assert Wishes(speed_up=3).over(by_flops)["prune"] == {"target": {"speed_up": 3}, "also": []}
    assert Wishes(on=("ort",)).over(by_flops)["prune"] == by_flops["prune"]


def test_of_several_speeds_none_is_changed_by_guess():
    several = {**RECIPE, "prune": {"target": [{"speed_up": 2, "on": "ort"}, ON_OPENVINO]}}
    also = {**RECIPE, "prune": {"target": {"speed_up": 2, "on": "ort"}, "also": [ON_OPENVINO]}}
    for wishes, recipe in (
        ({"speed_up": 3}, several),
        ({"on": ("openvino",)}, several),
        ({"speed_up": 3}, also),
        ({"threads": 4}, several),
    ):
        with pytest.raises(RecipeError, match="several speeds: change them there, or give a speed with --on"):
            Wishes(**wishes).over(recipe)
    assert Wishes(speed_up=3, on=("ort",)).over(several)["prune"]["target"] == {"speed_up": 3, "on": "ort"}
    assert Wishes(flops=0.5).over(several)["prune"]["target"] == {"flops": 0.5}
    assert Wishes(flops=0.5).over(also)["prune"] == {"target": {"flops": 0.5}, "also": []}
    same = {**RECIPE, "prune": {"target": [{"speed_up": 2, "on": "ort"}, {"speed_up": 1.5, "on": "openvino"}]}}
    assert Wishes(threads=2).over(same)["prune"] == same["prune"]


def test_another_method_takes_no_settings_over():
    assert Wishes(method="l1").over(RECIPE)["prune"] == {**RECIPE["prune"], "method": "l1", "settings": {}}


def test_a_wish_that_is_illegal_is_one_line():
    with pytest.raises(
        RecipeError, match=r"^command line: key .prune\.target\.speed_up.: input should be greater than 1"
    ):
        recipe_of(Wishes(**OWN, speed_up=0.5).over(RECIPE), "command line")


def test_every_comment_stands_behind_a_key():
    def keys(model: type[BaseModel], opening: str = ""):
        for name, field in model.model_fields.items():
            yield f"{opening}{name}"
            for one in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if not opening and isinstance(one, type) and issubclass(one, BaseModel):
                    yield from keys(one, f"{name}.")

    assert set(COMMENTS) <= set(keys(Recipe))


def test_the_recipe_that_is_written_is_read_back():
    document = document_of(Wishes(**OWN, speed_up=2, max_drop=1), DATA, n_train=180)
    text = commented_yaml(document, COMMENTS)
    assert recipe_of(strict_yaml(text), "file") == recipe_of(document, "memory")
    assert "# points of accuracy that may be lost" in text
    assert max(map(len, text.splitlines())) <= 120


NAMES = st.text(min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_any_mapping_is_read_back(document):
    assert yaml.safe_load(commented_yaml(document, {})) == document
