"""Making a model: the classifier is built and cut, the detector is put around it, and weights are loaded."""

import re
from collections.abc import Sequence

import torch
from torch import nn

from frcnn.config import ModelSettings
from frcnn.nn.backbone import build_classifier, cut_classifier
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.weights import DetectorWeights, Weights, load_base_model, load_detector


def build_model(settings: ModelSettings, classes: Sequence[str], weights: Weights | None = None) -> FasterRCNN:
    """A model in evaluation mode; new layers get random weights from torch's global generator.

    Args:
        classes: names, without background.
        weights: of the base model or of a whole detector; None: all layers are new.

    Raises:
        ValueError: the settings name layers that do not exist or do not fit, or the weights are of another
            architecture.
    """
    classifier = build_classifier(settings.base_model.architecture)
    base = cut_classifier(classifier, settings.base_model, settings.detector.details)
    model = FasterRCNN(settings, base, classes)
    if isinstance(weights, DetectorWeights):
        model.newly_initialized = load_detector(model, weights, model.classes)
    elif weights is not None:
        # The model shares its weights with the classifier that it was cut from.
        model.newly_initialized -= load_base_model(model, classifier, weights)
        if model.roi_head.next is not None:
            model.newly_initialized -= _copy_to_later_stages(model)
    if settings.base_model.freeze_batch_norm:
        model.frozen_norms = _base_norms(model)
    model.frozen = frozenset(f"backbone.conv_layers.{name}" for name in base.frozen) | {
        name for name, _ in model.named_parameters() if name.rpartition(".")[0] in model.frozen_norms
    }
    return model.eval()


def empty_model(settings: ModelSettings, classes: Sequence[str]) -> FasterRCNN:
    """`build_model`, but the weights have shapes alone and take no memory; `load_state_dict(..., assign=True)` sets
    them. A few classifiers (RegNet) compute with tensors while they are built, so their weights take memory."""
    try:
        with torch.device("meta"):
            return build_model(settings, classes)
    except NotImplementedError:
        return build_model(settings, classes)


def _copy_to_later_stages(model: FasterRCNN) -> frozenset[str]:
    """Copy the base model's layers from the first stage to the others. Returns the names of what is pretrained."""
    prefix, names = "roi_head.", set[str]()
    for stage in list(model.roi_head.stages())[1:]:
        prefix += "next."
        stage.head.load_state_dict(model.roi_head.head.state_dict())
        names |= {f"{prefix}head.{name}" for name, _ in stage.head.named_parameters()}
    new = {name.replace("roi_head.", prefix, 1) for name in model.newly_initialized}
    return frozenset(names - new)


def _base_norms(model: FasterRCNN) -> frozenset[str]:
    """Batch norm of the base model, and that of new layers if weights for it were loaded."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and not (
            re.match(r"backbone\.pyramid\.|roi_head\.(next\.)*convs\.", name)
            and f"{name}.weight" in model.newly_initialized
        )
    )
