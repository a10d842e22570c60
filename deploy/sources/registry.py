"""Tables of the networks and data sets that ship: strings only, nothing is imported before it is used."""

from __future__ import annotations

__all__ = ["DATA_SETS", "NETWORKS", "data_set_names", "names", "network_names"]

NETWORKS = {
    "cifar:vgg16": "deploy.networks.vgg:vgg16",
    "cifar:vgg19": "deploy.networks.vgg:vgg19",
    "cifar:resnet20": "deploy.networks.resnet:resnet20",
    "cifar:resnet56": "deploy.networks.resnet:resnet56",
    "cifar:resnet110": "deploy.networks.resnet:resnet110",
    "cifar:preresnet164": "deploy.networks.preresnet:preresnet164",
    "cifar:densenet40": "deploy.networks.densenet:densenet40",
    "cifar:mobilenetv1": "deploy.networks.mobilenet:mobilenetv1",
    "restoration:srresnet": "deploy.networks.srresnet:srresnet",
    "restoration:edsr": "deploy.networks.edsr:edsr",
    "restoration:dncnn": "deploy.networks.dncnn:dncnn",
    "restoration:unet": "deploy.networks.unet:unet",
}
"""Name -> ``module:factory``; besides its options, a factory takes ``in_channels`` by keyword, and for ``cifar:`` also
``n_classes``."""

DATA_SETS = {
    "digits": "deploy.sources.datasets.digits:Digits",
    "fashion-mnist": "deploy.sources.datasets.fashion_mnist:FashionMnist",
    "cifar10": "deploy.sources.datasets.cifar:Cifar10",
    "cifar100": "deploy.sources.datasets.cifar:Cifar100",
    "flowers102": "deploy.sources.datasets.flowers:Flowers102",
    "imagefolder": "deploy.sources.datasets.image_folder:ImageFolder",
    "super-resolution": "deploy.sources.datasets.photographs:SuperResolution",
    "denoising": "deploy.sources.datasets.photographs:Denoising",
}
"""Name -> ``module:class`` of a `deploy.sources.datasets.family.Family`."""


def network_names() -> tuple[str, ...]:
    """List the networks that ship, without those of ``torchvision:``, ``timm:`` and the user's own files."""
    return tuple(NETWORKS)


def data_set_names() -> tuple[str, ...]:
    """List the data sets that can be read."""
    return tuple(DATA_SETS)


def names() -> tuple[str, ...]:
    """List the networks and data sets that ship, networks first."""
    return network_names() + data_set_names()
