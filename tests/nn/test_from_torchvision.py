"""torchvision's detectors as ours: the same detections, on real photos, from the same weights.

The weights are random (those trained on COCO must be downloaded), made so that hundreds of boxes survive: batch norm
has the statistics of a photo, and the last layers are scaled until their scores spread. The branches of residual blocks
speak softly, or fifty random layers would blow up the last bit of float32 into more than the tolerances.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import same_detections
from torch import Tensor, nn
from torchvision.models import detection, get_model_weights
from torchvision.models.resnet import Bottleneck

from frcnn.config import make_config
from frcnn.data.images import read_image
from frcnn.data.transforms import frame, read_resized
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.model_file import from_torchvision
from frcnn.nn.weights import coco_url
from frcnn.types import DetectionTensors

NAMES = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
)
BOX_TOLERANCE = 1e-2  # pixels
SCORE_TOLERANCE = 1e-4
SIZES = ((480, 640), (700, 500), (333, 612))  # (height, width); the last one is scaled up past 1333 or 640


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Image.Image]:
    files = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))[: len(SIZES)]
    return [read_image(file).resize(size[::-1]) for file, size in zip(files, SIZES, strict=True)]


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, photos: list[Image.Image]) -> tuple[nn.Module, FasterRCNN]:
    theirs = random_detector(request.param, photos[1])
    return theirs, from_torchvision(theirs.state_dict(), request.param)


def tensor(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255


@torch.no_grad()
def random_detector(name: str, photo: Image.Image) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = detection.__dict__[name](weights=None, weights_backbone=None)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.2)
    for module in norms:
        module.train()
        module.momentum = 1.0
    model([tensor(photo)])
    model.eval()
    if name == "fasterrcnn_resnet50_fpn":
        for module in norms:  # as torchvision does when it loads the weights trained on COCO
            module.eps = 0.0

    spread(model, photo, {model.rpn.head.cls_logits: 1.0, model.rpn.head.bbox_pred: 0.2})
    predictor = model.roi_heads.box_predictor
    spread(model, photo, {predictor.cls_score: 0.8, predictor.bbox_pred: 0.25})
    return model


def spread(model: nn.Module, photo: Image.Image, layers: dict[nn.Module, float]) -> None:
    """Shift and scale each layer until its outputs have this standard deviation and, in each channel, mean 0."""
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [layer.register_forward_hook(lambda one, _, out: outputs[one].append(channels(out))) for layer in layers]
    model([tensor(photo)])
    for layer, hook in zip(layers, hooks, strict=True):
        hook.remove()
        mean, std = torch.cat(outputs[layer]).mean(dim=0), torch.cat(outputs[layer]).std(dim=0)
        scale = layers[layer] / std
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.sub_(mean).mul_(scale)


def channels(out: Tensor) -> Tensor:
    """(rows, channels) of a layer's outputs."""
    return out if out.dim() == 2 else out.permute(0, 2, 3, 1).flatten(0, 2)


@torch.no_grad()
def detect(model: FasterRCNN, photos: list[Image.Image]) -> DetectionTensors:
    settings = model.settings.detector.resizing
    sizes = [(photo.height, photo.width) for photo in photos]
    return model(*map(torch.from_numpy, frame([read_resized(photo, settings)[0] for photo in photos], sizes, settings)))


@torch.no_grad()
@pytest.mark.parametrize("chosen", [[0], [1], [2], [1, 2]])
def test_detections_are_torchvisions(
    pair: tuple[nn.Module, FasterRCNN], photos: list[Image.Image], chosen: list[int]
) -> None:
    theirs, ours = pair
    batch = [photos[i] for i in chosen]
    actual = detect(ours, batch)
    for i, expected in enumerate(theirs([tensor(photo) for photo in batch])):
        assert len(expected["boxes"]) == actual.valid[i].sum() == 100
        assert len(expected["labels"].unique()) > 5
        assert expected["scores"].std() > 0.01
        sure = expected["scores"] > expected["scores"][-1] + SCORE_TOLERANCE  # the last ones may just miss the hundred
        assert sure.sum() > 90
        same = same_detections(
            (actual.boxes[i], actual.scores[i], actual.labels[i]),
            (expected["boxes"], expected["scores"], expected["labels"]),
            pixels=BOX_TOLERANCE,
            score=SCORE_TOLERANCE,
        )
        # Of random weights, two boxes may be so equally good that rounding, which differs between processors, decides.
        assert same[sure].any(dim=1).float().mean() > 0.97


@torch.no_grad()
def test_proposals_are_torchvisions(pair: tuple[nn.Module, FasterRCNN], photos: list[Image.Image]) -> None:
    """Hundreds of boxes: more than the detections, of which there are at most 100."""
    theirs, ours = pair
    settings = ours.settings.detector.resizing
    arrays = frame([read_resized(photos[1], settings)[0]], [(photos[1].height, photos[1].width)], settings)
    inputs = map(torch.from_numpy, arrays)
    actual, _ = ours.propose_and_classify(*inputs)
    images, _ = theirs.transform([tensor(photos[1])])
    expected, _ = theirs.rpn(images, theirs.backbone(images.tensors))
    assert len(expected[0]) >= 100
    boxes = actual.boxes[0][actual.valid[0]]
    distance = (boxes - expected[0][:, None]).abs().amax(dim=2).amin(dim=1)
    assert len(boxes) == len(expected[0])
    assert (distance < BOX_TOLERANCE).float().mean() > 0.98  # all but those at the edge of being the best


@pytest.mark.parametrize("name", NAMES)
def test_addresses_of_the_weights_are_torchvisions(name: str) -> None:
    assert coco_url(make_config(base_model=name).base_model) == get_model_weights(name).COCO_V1.url
