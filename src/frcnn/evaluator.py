"""The tutorial's evaluator: what the network says of one image before NMS."""

from pathlib import Path

import numpy as np
import torch

from frcnn.data.transforms import frames_of
from frcnn.nn.checkpoint import load
from frcnn.nn.detector import FasterRCNN, RawOutput
from frcnn.ops.boxes import clip, rescale
from frcnn.ops.coding import decode
from frcnn.prediction import ImageLike, image_or_file


class Evaluator:
    """RoIs and class probabilities of one image.

    Args:
        model: a detector, or a RUN.
    """

    def __init__(self, model: FasterRCNN | str | Path) -> None:
        self.detector = model if isinstance(model, FasterRCNN) else load(model)

    @torch.no_grad()
    def __call__(self, image: ImageLike) -> RawOutput:
        """The three raw outputs by the tutorial's names, `rpn_rois` (1, K, 4) in input pixels, `cls_pred`
        (1, K, 1 + C) and `bbox_regr` (1, K, 1 + C, 4), and `valid` (1, K)."""
        return self.detector.raw(*self._inputs(image))

    @torch.no_grad()
    def process_image(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray]:
        """Regressed RoIs and class probabilities.

        Returns:
            boxes: (N, 4), pixels of the original image; each RoI regressed for its most probable class (as it
                is where that is the background).
            probabilities: (N, 1 + C); column 0 is the background.
        """
        detector = self.detector
        images, sizes, originals = self._inputs(image)
        raw = detector.raw(images, sizes, originals)
        best = raw.cls_pred.argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 4)
        deltas = raw.bbox_regr.gather(2, best)[:, :, 0]
        boxes = decode(deltas, raw.rpn_rois, mean=detector.delta_mean, std=detector.delta_std)
        boxes = torch.where(best[:, :, 0] == 0, raw.rpn_rois, boxes)
        boxes = rescale(clip(boxes, sizes), sizes, originals)
        valid = raw.valid[0]
        return boxes[0][valid].cpu().numpy(), raw.cls_pred[0][valid].cpu().numpy()

    def unregressed(self, image: ImageLike) -> np.ndarray:
        """The RoIs as the RPN proposes them: (N, 4), pixels of the original image, in `process_image`'s order."""
        _, sizes, originals = self._inputs(image)
        raw = self(image)
        return rescale(raw.rpn_rois, sizes, originals)[0][raw.valid[0]].cpu().numpy()

    def _inputs(self, image: ImageLike) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        detector = self.detector
        images, sizes, originals = (
            torch.from_numpy(array).to(detector.mean.device)
            for array in frames_of([image_or_file(image)], detector.image_settings)
        )
        return images, sizes, originals
