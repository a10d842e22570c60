"""The recipe of a study, and which jobs it comes to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from deploy.errors import RecipeError
from deploy.studies.methods.jobs import cell_name, jobs_of
from deploy.studies.methods.recipe import StudyRecipe, load_study

ROOT = Path(__file__).parents[4]
MINIMAL = {
    "name": "tiny",
    "network": {"name": "cifar:resnet20"},
    "data": {"name": "digits"},
    "train": {"epochs": 2},
    "budgets": {"flops": [0.5]},
    "methods": ["l1"],
    "recoveries": [{"fine-tune": {"epochs": 1}}],
}
MISFIT = {"epochs": 1, "loss": "cross-entropy"}


def written(tmp_path, document):
    path = tmp_path / "study.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def recipe(**changes) -> StudyRecipe:
    return StudyRecipe.model_validate({**MINIMAL, **changes})


SHIPPED = sorted(path for kind in ("study", "latency") for path in (ROOT / "recipes").glob(f"{kind}-*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_are_legal(path):
    found = load_study(path)
    assert found.name == path.stem
    assert {"uniform", "random"} <= {method.name for method in found.all_methods}
    assert len(found.seeds) >= 2 or path.stem in ("study-quick", "latency-digits")  # which say nothing


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"budgts": {}}, "unknown key 'budgts'; did you mean 'budgets'?"),
        ({"recoveries": [{"fine-tune": {"epoch": 1}}]}, "'recoveries.0.fine-tune.epoch'; did you mean 'epochs'?"),
        ({"recoveries": ["scratch-f"]}, "unknown key 'recoveries.0.scratch-f'; did you mean 'scratch-e'?"),
        ({"recoveries": ["fine-tune"]}, "key 'recoveries.0.fine-tune.epochs' is missing"),
        ({"recoveries": [{"name": "x"}]}, "a recovery is one of fine-tune, scratch-e"),
        ({"recoveries": [{"scratch-e": {}, "recalibrate": True}]}, "there is nothing to recalibrate"),
        ({"recoveries": [{"scratch-e": {}, "fold_bias": True, "recalibrate": True}]}, "to fold_bias or recalibrate"),
        ({"recoveries": [{"mend": {}, "fold_bias": True, "reconstruct": True}]}, "take one of the two"),
        ({"recoveries": ["mend"]}, "mend needs one of fold_bias, reconstruct, recalibrate: true"),
        ({"recoveries": ["budget-matched"]}, "there is no fine-tune"),
        ({"recoveries": ["scratch-e", "scratch-e"]}, "recovery 'Scratch-E' is there twice"),
        ({"methods": ["tailor"]}, "unknown method 'tailor'; did you mean 'taylor'?"),
        ({"methods": ["l1", {"method": "l1"}]}, "method 'l1' is there twice"),
        ({"methods": [{"method": "taylor", "settings": {"step": 3}}]}, "unknown setting 'step'; did you mean 'steps'?"),
        ({"methods": [{"method": "l1", "setting": {}}]}, "'methods.0.setting'; did you mean 'settings'?"),
        ({"methods": [{"name": "x"}]}, "key 'methods.0.method' is missing"),
        ({"train": {"epochs": 2, "loss": "l1"}}, "loss l1 does not fit targets that are classes; take cross-entropy"),
        (
            {
                "data": {"name": "denoising:25"},
                "methods": [{"method": "dhp", "settings": {"training": {"epochs": 1, "loss": "cross-entropy"}}}],
            },
            "loss cross-entropy does not fit targets that are images",
        ),
        (
            {"data": {"name": "denoising:25"}, "recoveries": [{"distil": {"training": {"epochs": 1}}}]},
            "distil softens class scores; denoising:25 has none: fine-tune instead",
        ),
        ({"constraints": {"multiple_off": 8}}, "unknown key 'multiple_off'; did you mean 'multiple_of'?"),
        ({"constraints": {"target": {}}}, "'target' is not a constraint"),
        ({"budgets": {"flops": [1.5]}}, "'budgets.0.flops': input should be less than 1, got 1.5"),
        ({"budgets": {"flops": [0.5, 0.5]}}, "budget '50 % flops' is there twice"),
        ({"budgets": {"flops": 0.5}}, "flops takes a list of shares that are kept; got 0.5"),
        ({"budgets": {"flop": [0.5]}}, "unknown key 'budgets.flop'; did you mean 'flops'?"),
        ({"budgets": [{"flop": 0.5}]}, "unknown key 'budgets.0.flop'; did you mean 'flops'?"),
        ({"budgets": [{"ratios": {"*": 0.5}}]}, "ratios fit one network"),
        ({"budgets": [{"speed_up": 0.5}]}, "greater than 1"),
        ({"budgets": [{"speed_up": 2, "by": "flops"}]}, "which cost decides is said of a method: decide_by: flops"),
        (
            {"budgets": [{"speed_up": 2}], "methods": [{"method": "taylor", "decide_by": "flops"}]},
            "method 'taylor' trains while it prunes, and a speed met by flops takes up to ten prunings",
        ),
        ({"budgets": [{"speed_up": 2, "threads": 1}]}, "with the threads of `bench`"),
        ({"budgets": [{"speed_up": 2}, {"speed_up": 2, "on": "ort"}]}, "budget '2x on ort' is there twice"),
        ({"budgets": [{"speed_up": 2, "on": "trt"}]}, "bench.backends lacks 'trt', on which a speed is asked for"),
        ({"budgets": [{"speed_up": 2}], "methods": ["l1", "lottery"]}, "no budget is for method 'lottery': single"),
        ({"seeds": [1, 1]}, "seed '1' is there twice"),
        ({"bench": {"backend": ["ort"]}}, "'bench.backend'; did you mean 'backends'?"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, changes, told):
    path = written(tmp_path, {**MINIMAL, **changes})
    with pytest.raises(RecipeError) as caught:
        load_study(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "5"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(RecipeError):
        load_study(written(tmp_path, text))


def test_baselines_come_by_themselves_once():
    assert [one.name for one in recipe().all_methods] == ["l1", "uniform", "random"]
    assert [one.name for one in recipe(methods=["random", "l1"]).all_methods] == ["random", "l1", "uniform"]
    assert [one.name for one in recipe(baselines=False).all_methods] == ["l1"]


def test_methods_that_remove_weights_keep_so_large_a_share_of_the_weights():
    found = recipe(methods=["l1", "magnitude"], constraints={"multiple_of": 4, "exclude": ["linear"]})
    budget = found.all_budgets[0]
    l1, magnitude = (found.prune(method, budget) for method in found.methods)
    assert (l1.target.flops, l1.multiple_of) == (0.5, 4)
    assert (magnitude.target.params, magnitude.multiple_of, magnitude.exclude) == (0.5, 1, ("linear",))


def test_a_budget_is_a_share_or_a_speed():
    found = recipe(
        budgets=[{"speed_up": 2}, {"latency_ms": 1.5, "on": "openvino"}, {"flops": 0.5}],
        methods=["l1", "magnitude"],
        bench={"backends": ["ort", "openvino"]},
    )
    assert [one.title for one in found.all_budgets] == ["2x on ort", "1.5 ms on openvino", "50 % flops"]
    l1, magnitude = found.methods
    assert [one.title for one in found.budgets_of(magnitude)] == ["50 % flops"]
    asked = found.prune(l1, found.all_budgets[0])
    assert (asked.target.speed_up, asked.target.on, asked.multiple_of) == (2, "ort", "auto")
    assert found.prune(l1, found.all_budgets[2]).multiple_of == 1
    by_flops = l1.model_copy(update={"decide_by": "flops"})
    assert [found.prune(by_flops, one).target.by for one in found.all_budgets] == ["flops", "flops", None]
    by_cost = recipe(budgets={"params": [0.3], "flops": [0.5, 0.25]})
    assert by_cost == recipe(budgets=[{"flops": 0.5}, {"flops": 0.25}, {"params": 0.3}])
    assert StudyRecipe.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_a_recipe_survives_json():
    found = recipe(recoveries=[{"fine-tune": {"epochs": 1}}, "scratch-e", {"scratch-b": {"rule": "imagenet"}}])
    assert StudyRecipe.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert [one.title for one in found.recoveries] == ["fine-tuned", "Scratch-E", "Scratch-B"]


def test_jobs_share_what_they_stand_on():
    found = recipe(seeds=[0, 1], recoveries=[{"fine-tune": {"epochs": 1}}, "scratch-e"])
    jobs = jobs_of(found)
    kinds = [job.kind for job in jobs.all]
    assert {kind: kinds.count(kind) for kind in kinds} == {"dense": 2, "prune": 6, "recover": 12, "export": 4}
    folders = [job.folder for job in jobs.all]
    for position, job in enumerate(jobs.all):
        assert set(job.needs) <= set(folders[:position])
    assert not [job for job in jobs_of(found, measure=False).all if job.kind == "export"]


def test_one_latency_table_serves_all_methods_budgets_and_seeds():
    bench = {"backends": ["ort", "openvino"], "threads": 1}
    asked = {"budgets": [{"speed_up": 2}], "bench": bench, "baselines": False}
    headed = {"name": "headed", "method": "l1", "constraints": {"attention": "head_size"}}
    speeds = [{"speed_up": 2}, {"speed_up": 3}, {"speed_up": 2, "on": "openvino"}, {"flops": 0.5}]
    found = recipe(**{**asked, "budgets": speeds}, methods=["l1", "uniform"], seeds=[0, 1])
    jobs = jobs_of(found)
    assert [job.title for job in jobs.tables.values()] == ["latency table of ort", "latency table of openvino"]
    assert [job.kind for job in jobs.all[:2]] == ["table", "table"]
    for name, job in jobs.pruned.items():
        tables = [folder for folder in job.needs if folder in jobs.tables]
        assert len(tables) == job.measures == ("x on" in name)
    assert jobs.tables.keys() < jobs.chosen
    assert jobs_of(recipe(**asked, train={"epochs": 9})).tables.keys() < jobs.tables.keys()  # weights do not matter
    both = {"method": "criterion", "settings": {"structures": "both"}}
    with_blocks = jobs_of(recipe(**asked, methods=["l1", both])).tables
    assert [job.title for job in with_blocks.values()][1] == "latency table of ort, with residual blocks"
    others = ({"bench": {**bench, "threads": 2}}, {"network": {"name": "cifar:resnet56"}}, {"methods": [headed]})
    for changes in others:
        assert jobs_of(recipe(**{**asked, **changes})).tables.keys().isdisjoint(jobs.tables)


def keys(**changes):
    found = recipe(**changes)
    jobs = jobs_of(found)
    name = cell_name("l1", found.all_budgets[0], found.seeds[0])
    return jobs.dense[found.seeds[0]].key, jobs.pruned[name].key, jobs.recovered[f"{name}/fine-tuned"].key


def test_keys_hold_what_decides_and_nothing_else():
    dense, pruned, recovered = keys()
    assert keys(name="another", baselines=False, data={"name": "digits", "root": "/elsewhere"}) == keys()
    assert keys(bench={"backends": ["ort"]}) == keys()
    assert all(old != new for old, new in zip(keys(), keys(train={"epochs": 3}), strict=True))
    assert all(old != new for old, new in zip(keys(), keys(seeds=[7]), strict=True))
    assert all(old != new for old, new in zip(keys(), keys(data={"name": "digits", "limit": 100}), strict=True))
    changed = keys(constraints={"multiple_of": 8})
    assert (changed[0] == dense, changed[1] == pruned, changed[2] == recovered) == (True, False, False)
    changed = keys(recoveries=[{"fine-tune": {"epochs": 1, "lr": 0.01}}])
    assert (changed[0] == dense, changed[1] == pruned, changed[2] == recovered) == (True, True, False)


def test_only_leaves_the_other_methods_alone():
    jobs = jobs_of(recipe(), only=["u*"])
    chosen = [job for job in jobs.all if job.folder in jobs.chosen]
    assert {job.recipe.prune.method for job in chosen if job.kind in ("prune", "recover")} == {"uniform"}
    with pytest.raises(RecipeError, match="no method of this study matches 'unifrm'; did you mean 'uniform'"):
        jobs_of(recipe(), only=["unifrm"])
