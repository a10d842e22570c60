"""Weights out of files: tensors only, every key accounted for."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn


def test_safetensors_and_torch_files_give_the_same_network(weights):
    state = weights.state
    assert weights.same(weights.load(weights.safetensors(state)))
    assert weights.same(weights.load(weights.pt(state)))
    assert weights.same(weights.load(weights.pt({"state_dict": state, "epoch": 3})))
    assert weights.same(weights.load(weights.pt({"model": {f"module.{key}": value for key, value in state.items()}})))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "model_state_dict": state, "loss": 0.5},
        lambda state: {"net": state, "acc": 93.0},
        lambda state: {"ema": state, "updates": 7},
        lambda state: {"state_dict": state, "state_dict_ema": {key: 0 * value for key, value in state.items()}},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "hyper_parameters": {}},
    ],
)
def test_a_state_dict_is_found_in_common_checkpoints(weights, wrap):
    path = weights.pt(wrap(weights.state))
    assert weights.same(weights.load(path))
    assert weights.same(weights.load(path.rename(path.with_suffix(".ckpt"))))


def test_a_network_inside_a_larger_module_is_not_guessed(weights):
    state = {f"model.{key}": value for key, value in weights.state.items()}
    words = r"'conv.weight', .* are missing; 'model.conv.weight', .* are unexpected"
    weights.refused(words, weights.pt({**state, "loss.weight": torch.ones(10)}))


def test_weights_without_batch_counters_are_accepted(weights):
    old = {key: value for key, value in weights.state.items() if not key.endswith("num_batches_tracked")}
    assert weights.same(weights.load(weights.pt(old)))


def test_modules_with_versioned_layouts_load_from_safetensors(tmp_path, make):
    # torchvision's MNASNet refuses a state dict that does not tell its version, which safetensors cannot hold.
    from torchvision.models import mnasnet0_5

    path = tmp_path / "mnasnet.safetensors"
    state = mnasnet0_5(weights=None, num_classes=10).state_dict()
    save_file(state, path)
    network = make("torchvision:mnasnet0_5", input_shape=(3, 64, 64), weights=path)
    torch.testing.assert_close(network.state_dict()["classifier.1.weight"], state["classifier.1.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("stages.1.0.conv1.weight"), r"'stages.1.0.conv1.weight' is missing$"),
        (lambda s: [s.pop("fc.weight"), s.pop("fc.bias")], r"'fc.weight', 'fc.bias' are missing$"),
        (lambda s: s.update(extra=torch.zeros(1)), r"'extra' is unexpected$"),
        (
            lambda s: s.update({"conv.weight": torch.zeros(4, 1, 3, 3)}),
            r"'conv.weight' has shape \(4, 1, 3, 3\), the network wants \(4, 3, 3, 3\)$",
        ),
        (
            lambda s: [s.pop(key) for key in list(s) if "bn1" in key],
            r"'[^']+', '[^']+', '[^']+' and \d+ more are missing$",
        ),
        (lambda s: s.update(conv2=s.pop("fc.bias")), "'fc.bias' is missing; 'conv2' is unexpected$"),
        (lambda s: s.update({"fc.bias": 3}), r"'fc.bias' is int, not a tensor"),
    ],
)
def test_weights_that_do_not_fit_name_the_first_keys(weights, change, words):
    state = dict(weights.state)
    change(state)
    weights.refused(words, weights.pt(state))


def test_weights_for_other_classes_need_a_decision(weights, caplog):
    path = weights.safetensors(weights.state)
    weights.refused("trained for 10 classes, set new_classifier: true", path, n_classes=4)
    with caplog.at_level(logging.INFO):
        network = weights.load(path, n_classes=4, new_classifier=True)
    assert "fc.weight, fc.bias" in caplog.text
    state = network.state_dict()
    assert state["fc.weight"].shape[0] == 4
    assert all(torch.equal(state[key], value) for key, value in weights.state.items() if not key.startswith("fc."))
    weights.refused("no layer differs in the number of classes", path, new_classifier=True)


def test_new_classifier_does_not_excuse_other_differences(weights):
    state = dict(weights.state, **{"conv.weight": torch.zeros(8, 3, 3, 3)})
    weights.refused(r"'conv.weight' has shape \(8, 3, 3, 3\)", weights.pt(state), n_classes=4, new_classifier=True)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 200, 4000])
def test_truncated_weights_are_one_line(weights, suffix, kept):
    path = weights.pt(weights.state) if suffix == ".pt" else weights.safetensors(weights.state)
    path.write_bytes(path.read_bytes()[:kept])
    weights.refused(f"weights file .*weights{suffix}", path)


def test_pickled_modules_are_never_unpickled(weights):
    path = weights.pt(nn.Linear(2, 2))
    weights.refused("holds more than tensors .*save model.state_dict", path)


def test_torchscript_is_called_that(weights, recwarn):
    path = weights.folder / "weights.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)
    recwarn.clear()
    weights.refused("is a TorchScript archive: save the state_dict", path)
    assert not recwarn


def test_file_without_a_state_dict_is_refused(weights):
    weights.refused("holds list, not a state dict", weights.pt([torch.zeros(1)]))
    weights.refused("not a state dict", weights.pt({}))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("default", "did you mean 'DEFAULT'"),
        ("None", "did you mean 'none'"),
        ("DEFAULT", "has no published weights"),
        ("weights.onnx", "allowed are 'none', 'DEFAULT'"),
        ("nowhere.pt", "weights file nowhere.pt: no such file"),
    ],
)
def test_wrong_weights_are_one_line(value, words, refused):
    refused(words, "cifar:resnet20", weights=value)


def test_folder_as_weights_is_refused(tmp_path, refused):
    (tmp_path / "checkpoint.pt").mkdir()
    refused("it is a folder", "cifar:resnet20", weights=tmp_path / "checkpoint.pt")


def test_new_classifier_without_weights_is_refused(refused):
    refused("new_classifier without weights means nothing", "cifar:resnet20", new_classifier=True)
