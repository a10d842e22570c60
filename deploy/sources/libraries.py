"""Networks of torchvision and timm: built for the data's classes, with published weights on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backends.errors import did_you_mean
from deploy.errors import SourceError
from deploy.sources.boundary import cause
from deploy.sources.weights import log_untrained, transplant_classifier

if TYPE_CHECKING:
    from torch import nn

    from deploy.sources.network_spec import NetworkSpec

__all__ = ["LIBRARIES", "OPTION_ERRORS", "make_timm", "make_torchvision"]

LIBRARIES = ("torchvision", "timm")

OPTION_ERRORS = (TypeError, ValueError, KeyError, AssertionError, AttributeError, RuntimeError)
"""What a network's constructor may raise when an option is wrong."""


def make_torchvision(spec: NetworkSpec, options: dict[str, Any], n_classes: int | None, in_channels: int) -> nn.Module:
    """Build one of torchvision's classification networks, with its published weights when the specification says so.

    GoogLeNet and Inception are built without their auxiliary outputs, unless an option asks for them.

    Raises
    ------
    SourceError
        Unknown name or option, data that is not in colour, weights for other classes or not available.
    """
    from torchvision import models

    name = spec.name.partition(":")[2]
    _check_known(spec, name, models.list_models(module=models))
    if in_channels != 3:
        raise SourceError(
            f"network {spec.name} takes 3 channels, the data has {in_channels}: set data.channels: 3 to repeat grey "
            "images"
        )
    sized = dict(options) if n_classes is None else {**options, "num_classes": n_classes}
    if name in ("googlenet", "inception_v3"):
        # By default both train with extra outputs that deployment drops, and warn that their initialisation is slow.
        sized = {"aux_logits": False, "init_weights": True, **sized}
    if spec.weights != "DEFAULT":
        return _constructed(spec, lambda: models.get_model(name, weights=None, **sized))
    published = models.get_model_weights(name).DEFAULT
    n_published = len(published.meta["categories"])
    _check_class_count(spec, n_published, n_classes)
    try:
        network = _constructed(spec, lambda: models.get_model(name, weights=published, **options))
    except OSError as error:
        raise SourceError(
            f"network {spec.name}: cannot download its published weights ({cause(error)}); fetch {published.url} on a "
            "machine with a network and give that file as weights"
        ) from error
    if n_classes in (None, n_published):
        return network
    fresh = _constructed(spec, lambda: models.get_model(name, weights=None, **sized))
    log_untrained(spec.name, transplant_classifier(network, fresh))
    return network


def make_timm(spec: NetworkSpec, options: dict[str, Any], n_classes: int | None, in_channels: int) -> nn.Module:
    """Build one of timm's networks, with its published weights when the specification says so.

    timm adapts the first layer's published weights to other channel counts by itself.

    Raises
    ------
    SourceError
        Unknown name or option, weights for other classes or not available.
    """
    import timm

    name = spec.name.partition(":")[2]
    architecture, _, tag = name.partition(".")
    if "checkpoint_path" in options:  # timm may unpickle it
        raise SourceError(f"network {spec.name}: give the file as weights, not as option checkpoint_path")
    _check_known(spec, architecture, timm.list_models())
    try:
        published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError as error:
        raise SourceError(f"network {spec.name}: timm has no weights tagged {tag!r} for {architecture}") from error
    pretrained = spec.weights == "DEFAULT"
    untrained: tuple[str, ...] = ()
    if pretrained:
        if published is None or not published.has_weights:
            raise SourceError(
                f"network {spec.name}: timm publishes no weights for it; allowed are 'none' or a weights file"
            )
        _check_class_count(spec, published.num_classes, n_classes)
        untrained = (str(published.classifier),) if spec.new_classifier else ()
    sized = options if n_classes is None else {**options, "num_classes": n_classes}
    try:
        network = _constructed(
            spec, lambda: timm.create_model(name, pretrained=pretrained, in_chans=in_channels, **sized)
        )
    except OSError as error:
        raise SourceError(
            f"network {spec.name}: cannot download its published weights ({cause(error)}); fetch them on a machine "
            "with a network and give that file as weights"
        ) from error
    log_untrained(spec.name, untrained)
    return network


def _constructed(spec: NetworkSpec, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except OPTION_ERRORS as error:
        raise SourceError(f"network {spec.name} with options {spec.options}: {cause(error)}") from error


def _check_known(spec: NetworkSpec, name: str, known: list[str]) -> None:
    if name not in known:
        library = spec.name.partition(":")[0]
        meant = did_you_mean(name, known, prefix=f"{library}:")
        raise SourceError(f"unknown network {spec.name!r}{meant} ({library} has {len(known)} classification networks)")


def _check_class_count(spec: NetworkSpec, published: int, n_classes: int | None) -> None:
    if n_classes in (None, published):
        if spec.new_classifier:
            raise SourceError(
                f"network {spec.name}: new_classifier is set, but the published weights have as many classes as the "
                f"data ({published}); leave it out"
            )
    elif not spec.new_classifier:
        raise SourceError(
            f"network {spec.name}: the published weights are for {published} classes, the data has {n_classes}; set "
            "new_classifier: true to start the last layer untrained, and train it"
        )
