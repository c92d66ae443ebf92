"""What base models cost and where their weights are, without computing or downloading anything."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from frcnn.config import BaseModelSettings, merge
from frcnn.nn.backbones import build_classifier
from frcnn.nn.detector import FasterRCNN
from frcnn.nn.graph import NodeFacts, list_nodes, record
from frcnn.nn.weights import cached_file, file_in_package

CLASSES = 20  # as Pascal VOC has


class BaseModelFacts(NamedTuple):
    name: str
    parameters: int
    """Of the whole detector, for 20 classes."""
    strides: tuple[int, ...]
    """Of the feature map, or of the levels of the pyramid."""
    gflop: float
    """Billions of floating-point operations (a multiplication and an addition are two) in the layers, for one image of
    850 x 850 pixels and the proposals of evaluation."""
    weights: str
    """Where they come from."""
    here: bool
    """They are on this machine."""


def survey(name: str) -> BaseModelFacts:
    """The facts of a base model, by the name of its preset or the path of its file."""
    config = merge(base_model=name, overrides=["detector.image.resize=fit"])
    classes = [f"class {number}" for number in range(1, CLASSES + 1)]
    try:
        with torch.device("meta"):  # shapes without numbers: no time for random weights that nobody uses
            detector = FasterRCNN(config, classes)
    except NotImplementedError:  # a classifier that computes with numbers when it is built
        detector = FasterRCNN(config, classes).to("meta")
    image = torch.zeros(1, 3, config.detector.image.height, config.detector.image.width, device="meta")
    size = config.base_model.roi_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = detector.backbone(image)
        detector.rpn(features, (image.shape[-2], image.shape[-1]))
        rois = config.detector.test_proposals.post_nms_top_n
        detector.roi_head.read(torch.zeros(rois, features[0].shape[1], size, size, device="meta"))
    source, here = _weights(config.base_model)
    return BaseModelFacts(
        config.base_model.name,
        sum(parameter.numel() for parameter in detector.parameters()),
        tuple(level.stride for level in detector.rpn.levels),
        counter.get_total_flops() / 1e9,
        source,
        here,
    )


def survey_nodes(architecture: str, image_size: tuple[int, int]) -> list[NodeFacts]:
    """The nodes of a classifier, "torchvision:NAME" or "timm:NAME", for an image of this (height, width)."""
    try:
        return list_nodes(record(build_classifier(architecture).to("meta"), architecture), image_size)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if architecture.partition(":")[2] in text else f"{architecture}: {text}") from None


def _weights(settings: BaseModelSettings) -> tuple[str, bool]:
    if settings.weights_package is not None:
        return f"package {settings.weights_package}", file_in_package(settings.weights_package) is not None
    kind, url = ("COCO", settings.coco_url) if settings.weights == "coco" else ("ImageNet", settings.weights_url)
    if url is None:
        return "no source", False
    also = "; also --weights coco" if kind == "ImageNet" and settings.coco_url is not None else ""
    return f"{kind}, download of {url.rsplit('/', 1)[-1]} from {url.split('/')[2]}{also}", cached_file(url) is not None
