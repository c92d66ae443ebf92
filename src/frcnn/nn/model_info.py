"""Base models: cost (parameters, FLOPs), source of the weights, layers, and smallest input. Nothing is downloaded."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from frcnn.config import BaseModelSettings, make_config
from frcnn.nn import fx_graph
from frcnn.nn.backbone import build_classifier
from frcnn.nn.build import empty_model
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.fx_graph import LayerInfo
from frcnn.nn.weights import cached_file, coco_url, file_in_package, imagenet_url

CLASSES = 20  # as in Pascal VOC
_LARGEST = 256  # pixels: a classifier that does not accept this side cannot be cut


class BaseModelInfo(NamedTuple):
    name: str
    parameters: int
    """Of the whole detector with 20 classes."""
    strides: tuple[int, ...]
    """Of the feature map, or of each level of the pyramid."""
    gflop: float
    """Billions of floating-point operations of the layers (a multiplication and an addition count as two), for one
    image of 850 x 850 pixels and the number of proposals of prediction."""
    weights: str
    """The source of the weights."""
    available: bool
    """Whether the weights are on this machine."""


def base_model_info(name: str) -> BaseModelInfo:
    """The cost and the weights of a base model.

    Args:
        name: of its preset, or the path of its YAML file.
    """
    config = make_config(base_model=name, overrides=["detector.image.resize=fit"])
    classes = [f"class {number}" for number in range(1, CLASSES + 1)]
    model = empty_model(config.model, classes).to("meta")  # no time for random weights that nobody uses
    image = torch.zeros(1, 3, config.detector.image.height, config.detector.image.width, device="meta")
    size = config.base_model.roi_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = model.backbone(image)
        model.rpn(features, (image.shape[-2], image.shape[-1]))
        rois = config.detector.test_proposals.post_nms_top_n
        for stage in model.roi_head.stages():
            stage.predict(torch.zeros(rois, features[0].shape[1], size, size, device="meta"))
    source, available = _weights(config.base_model)
    return BaseModelInfo(
        config.base_model.name,
        sum(parameter.numel() for parameter in model.parameters()),
        tuple(level.stride for level in model.rpn.levels),
        counter.get_total_flops() / 1e9,
        source,
        available,
    )


def list_layers(architecture: str, image_size: tuple[int, int]) -> list[LayerInfo]:
    """The nodes and blocks of a classifier.

    Args:
        architecture: "torchvision:NAME" or "timm:NAME".
        image_size: (height, width) of the image that the shapes are for, pixels.

    Raises:
        ValueError: there is no such classifier, it cannot be traced, or it does not accept images of this size.
    """
    try:
        graph = fx_graph.trace(build_classifier(architecture).to("meta"), architecture)
        return fx_graph.list_layers(graph, image_size)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if architecture.partition(":")[2] in text else f"{architecture}: {text}") from None


@torch.no_grad()
def least_side(model: FasterRCNN) -> int:
    """The side of the smallest square frame that the layers accept, pixels, determined by trying.

    Raises:
        ValueError: the layers accept no frame of up to 256 pixels.
    """
    sizes = torch.ones(1, 2, device=model.mean.device)
    for side in range(1, _LARGEST + 1):
        image = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=sizes.device)
        try:
            model.backbone(model.normalize(image, sizes))
        except (RuntimeError, ValueError):  # of convolutions, of pooling, of a pyramid's sums
            continue
        return side
    raise ValueError(f"base model '{model.settings.base_model.name}': accepts no image of {side} x {side} pixels")


def _weights(settings: BaseModelSettings) -> tuple[str, bool]:
    if settings.weights_package is not None:
        return f"package {settings.weights_package}", file_in_package(settings.weights_package) is not None
    kind, url = ("COCO", coco_url(settings)) if settings.weights == "coco" else ("ImageNet", imagenet_url(settings))
    if url is None:
        return "no source", False
    also = "; also --weights coco" if kind == "ImageNet" and settings.coco_detector is not None else ""
    return f"{kind}, download of {url.rsplit('/', 1)[-1]} from {url.split('/')[2]}{also}", cached_file(url) is not None
