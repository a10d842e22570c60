"""Networks by name: what is built, with which weights, and one clear line for each mistake."""

from __future__ import annotations

import hashlib
import json
import logging
from urllib.error import URLError

import pytest
import torch
from pydantic import ValidationError

from deploy.errors import ExtraMissingError, SourceError
from deploy.sources import boundary
from deploy.sources.network import fingerprint, provenance
from deploy.sources.network_spec import NetworkSpec
from deploy.sources.registry import DATA_SETS, NETWORKS, names

GREY = (1, 28, 28)
COLOUR = (3, 32, 32)
SMALL = """
    from torch import nn

    def net(n_classes, in_channels, hidden=4):
        return nn.Sequential(nn.Conv2d(in_channels, hidden, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(hidden, n_classes))
"""


# ---------------------------------------------------------------------------------------------------- names


def test_registry_lists_what_ships():
    assert names() == (*NETWORKS, *DATA_SETS)


@pytest.mark.parametrize("name", ["cifar:resnet20", "cifar:vgg16", "cifar:mobilenetv1", "cifar:densenet40"])
def test_shipped_networks_fit_grey_images(name, make):
    network = make(name, n_classes=5, input_shape=GREY, options={"width": 0.125})
    assert network.training
    assert network.eval()(torch.zeros(1, *GREY)).shape == (1, 5)


def test_same_seed_gives_the_same_network(make):
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(make("cifar:resnet20", options={"width": 0.25}).state_dict())
    for key, value in networks[0].items():
        torch.testing.assert_close(value, networks[1][key], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar:resnet21", "unknown network 'cifar:resnet21'; did you mean 'cifar:resnet"),
        ("cifar:alexnet", "there are: cifar:vgg16"),
        ("resnet20", "did you mean 'cifar:resnet20'"),
        ("resnet18", r"unknown network 'resnet18' \(a network is cifar:NAME, .*torchvision:NAME"),
        ("hub:resnet18", "nothing is called 'hub'"),
        ("torchvision:resnet19", "did you mean 'torchvision:resnet"),
        ("torchvision:fcn_resnet50", "unknown network 'torchvision:fcn_resnet50'"),
        ("timm:resnet19", "did you mean 'timm:resnet"),
        ("timm:resnet18.no_such_tag", "timm has no weights tagged 'no_such_tag' for resnet18"),
        ("net.py", "names a file but no factory in it; write net.py:factory"),
        ("net.py:", "'' is not a function name"),
        ("nowhere/net.py:make", "network file nowhere/net.py: No such file"),
    ],
)
def test_unknown_network_is_one_line_that_helps(name, words, refused):
    refused(words, name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cifar:resnet20", {"wdith": 0.5}, "unknown option 'wdith'; did you mean 'width'"),
        ("cifar:resnet20", {"width": -1}, "width is a multiplier above 0, got -1"),
        ("cifar:resnet20", {"width": "wide"}, "TypeError"),
        ("cifar:resnet20", {"n_classes": 7}, "n_classes=7 contradicts the data, which has 10"),
        ("torchvision:resnet18", {"wdith": 0.5}, "unexpected keyword argument 'wdith'"),
        ("torchvision:resnet18", {"num_classes": 7}, "num_classes=7 contradicts the data"),
        ("timm:resnet18", {"wdith": 0.5}, "unexpected keyword argument 'wdith'"),
    ],
)
def test_wrong_options_are_refused(name, options, words, refused):
    refused(words, name, options=options)


def test_unknown_key_of_the_specification_is_refused():
    with pytest.raises(ValidationError):
        NetworkSpec(name="cifar:resnet20", weigths="none")


def test_missing_library_says_how_to_get_it(monkeypatch, make):
    monkeypatch.setattr(boundary, "find_spec", lambda name: None if name == "timm" else object())
    with pytest.raises(ExtraMissingError, match=r"timm:resnet18 needs timm: pip install -e '\.\[prune\]'"):
        make("timm:resnet18")


# ---------------------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_torchvision_networks_get_the_datas_classes(name, make):
    network = make(f"torchvision:{name}", n_classes=7, input_shape=(3, 64, 64))
    outputs = network.train()(torch.randn(2, 3, 64, 64))
    assert isinstance(outputs, torch.Tensor)
    assert outputs.shape == (2, 7)


def test_torchvision_takes_colour_only(refused):
    refused("takes 3 channels, the data has 1: set data.channels: 3", "torchvision:resnet18", input_shape=GREY)


def test_timm_networks_get_the_datas_classes_and_channels(make):
    network = make("timm:resnet10t", n_classes=7, input_shape=GREY)
    assert network(torch.randn(2, *GREY)).shape == (2, 7)


def test_images_that_do_not_fit_are_found_before_training(refused):
    refused(r"cifar:vgg16 cannot take images of 3x8x8: RuntimeError", "cifar:vgg16", input_shape=(3, 8, 8))
    refused(r"timm:vit_tiny_patch16_224 cannot take images of 3x32x32", "timm:vit_tiny_patch16_224")


def test_networks_own_classes_when_the_data_does_not_say(make):
    assert make("cifar:resnet20", n_classes=None).fc.out_features == 10
    assert make("torchvision:resnet18", n_classes=None).fc.out_features == 1000


def offline(*args, **kwargs):
    raise URLError("no route")


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_published_weights_without_a_network_are_one_line(name, monkeypatch, refused):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    refused(
        "cannot download its published weights .*give that file as weights", name, n_classes=1000, weights="DEFAULT"
    )


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_published_weights_for_other_classes_need_a_decision(name, refused):
    refused("are for 1000 classes, the data has 10; set new_classifier: true", name, weights="DEFAULT")


def test_published_weights_move_to_a_new_classifier(monkeypatch, caplog, make, refused):
    from torchvision.models import resnet18

    published = {key: torch.full_like(value, 0.5) for key, value in resnet18(weights=None).state_dict().items()}
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: dict(published))
    with caplog.at_level(logging.INFO):
        network = make("torchvision:resnet18", weights="DEFAULT", new_classifier=True)
    assert network.fc.out_features == 10
    assert "untrained, because the classes are others: fc" in caplog.text
    for key, value in network.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, published[key])
    assert network.fc.weight.std() > 0
    refused(
        "as many classes as the data", "torchvision:resnet18", n_classes=1000, weights="DEFAULT", new_classifier=True
    )


def test_pretrained_googlenet_keeps_its_input_transform(monkeypatch, make):
    from torchvision.models import googlenet

    state = googlenet(weights=None, aux_logits=True, init_weights=False).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *args, **kwargs: dict(state))
    network = make("torchvision:googlenet", input_shape=(3, 64, 64), weights="DEFAULT", new_classifier=True)
    assert network.transform_input
    assert network.train()(torch.randn(2, 3, 64, 64)).shape == (2, 10)


# ---------------------------------------------------------------------------------------------------- files


def test_factory_of_a_file_is_told_what_the_data_knows(file, make):
    network = make(f"{file(SMALL)}:net", n_classes=6, input_shape=GREY, options={"hidden": 3})
    assert network[0].in_channels == 1
    assert network[0].out_channels == 3
    assert network[3].out_features == 6


def test_file_may_import_its_neighbours(file, tmp_path, make):
    (tmp_path / "my_layers_of_this_test.py").write_text("from torch import nn\nhead = nn.Linear\n")
    path = file(
        """
        from torch import nn
        from my_layers_of_this_test import head

        class Net(nn.Sequential):
            def __init__(self, num_classes):
                super().__init__(nn.Flatten(), head(3 * 32 * 32, num_classes))
        """
    )
    assert make(f"{path}:Net")(torch.zeros(2, *COLOUR)).shape == (2, 10)


def test_changed_file_is_loaded_again_and_leaves_no_byte_code(file, tmp_path, make):
    name = f"{file(SMALL)}:net"
    first, mark = make(name), fingerprint(NetworkSpec(name=name))
    file(SMALL.replace("hidden=4", "hidden=5"))
    assert (first[0].out_channels, make(name)[0].out_channels) == (4, 5)
    assert fingerprint(NetworkSpec(name=name)) != mark
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def net(:\n    pass", r"mine.py, line 1: SyntaxError"),
        ("import torch\nraise KeyError('x')", r"mine.py, line 2: KeyError: 'x'"),
        ("import no_such_module_anywhere", r"mine.py, line 1: ModuleNotFoundError"),
        ("import sys\n\nsys.exit(3)", r"mine.py, line 3: SystemExit: 3"),
        ("def helper():\n    return 1 / 0\n\ndef net():\n    return helper()", r"mine.py, line 2: ZeroDivisionError"),
        ("def nett():\n    pass", r"has no factory 'net'; did you mean 'nett'"),
        ("net = 3", r"has no factory 'net'"),
        ("def net():\n    return 3", r"mine.py:net gave int; a factory returns a torch.nn.Module"),
        ("def net(depth):\n    pass", r"missing 1 required positional argument: 'depth'; give its arguments defaults"),
        (
            "from torch import nn\nclass net(nn.Module):\n    def forward(self, x):\n        return x.nope()",
            r"cannot take images of 3x32x32: .*mine.py, line 4: AttributeError",
        ),
        (
            "from torch import nn\nclass net(nn.Module):\n    def forward(self, x):\n        return {'out': x}",
            r"gives dict of out: name the one that holds class scores in a recipe, such as network: {output: out}",
        ),
        (
            "from torch import nn\nnet = nn.Flatten",
            r"shape \(1, 3072\) for one image of 3x32x32; the data's 10 classes",
        ),
        ("x = '\0'", r"mine.py.*(ValueError|SyntaxError)"),
    ],
)
def test_mistakes_in_a_file_are_told_with_file_and_line(file, code, words, refused):
    path = file("")
    path.write_text(code)
    refused(words, f"{path}:net")


def test_check_leaves_the_modes_of_a_factorys_modules(file, make):
    path = file(
        """
        from torch import nn

        def net(n_classes):
            frozen = nn.BatchNorm2d(3).eval()
            return nn.Sequential(frozen, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, n_classes))
        """
    )
    network = make(f"{path}:net")
    assert network.training
    assert not network[0].training
    assert int(network[0].num_batches_tracked) == 0


# ---------------------------------------------------------------------------------------------------- weights


# ---------------------------------------------------------------------------------------------------- provenance


def test_provenance_holds_what_is_needed_to_build_again(file, weights):
    path, trained = file(SMALL), weights.pt(weights.state)
    record = provenance(NetworkSpec(name=f"{path}:net", weights=trained, options={"hidden": 3}))
    assert record["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["weights_sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    assert record["options"] == {"hidden": 3}
    assert set(record["versions"]) == {"torch"}
    assert json.loads(json.dumps(record)) == record
    spec = NetworkSpec.model_validate({key: value for key, value in record.items() if key in NetworkSpec.model_fields})
    assert spec.options == {"hidden": 3}


def test_provenance_names_the_library_and_finds_mistakes_without_building():
    assert set(provenance(NetworkSpec(name="timm:resnet18"))["versions"]) == {"torch", "timm"}
    assert set(provenance(NetworkSpec(name="cifar:vgg16"))["versions"]) == {"torch", "prune-deploy"}
    for bad in ({"name": "cifar:resnet21"}, {"name": "nowhere.py:f"}, {"name": "cifar:vgg16", "weights": "nowhere.pt"}):
        with pytest.raises(SourceError):
            provenance(NetworkSpec(**bad))


def test_fingerprint_follows_the_weights_content(weights):
    spec = NetworkSpec(name=weights.name, weights=weights.pt(weights.state))
    before = fingerprint(spec)
    assert fingerprint(spec) == before
    weights.pt(dict(weights.state, extra=torch.zeros(1)))
    assert fingerprint(spec) != before
