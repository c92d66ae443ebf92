"""Raw RoIs and class probabilities of one image before NMS, as CNTK's evaluator gives them; AP is in evaluation/."""

from pathlib import Path

import numpy as np
import torch

from frcnn.data.transforms import prepare_images
from frcnn.detector import Detector
from frcnn.fast.optimize import optimize
from frcnn.inference.inputs import ImageLike, open_input
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.nn.head_outputs import HeadOutputs, run_heads
from frcnn.nn.model_file import load_model
from frcnn.ops.box_coder import decode
from frcnn.ops.boxes import clip, rescale


class Evaluator:
    """Raw regions and class probabilities of one image, before NMS, as CNTK's evaluator returns them. For average
    precision use `Detector.evaluate`.

    Args:
        model: a detector, a `FasterRCNN`, or the path of a run directory or model file.
    """

    def __init__(self, model: Detector | FasterRCNN | str | Path) -> None:
        model = model.model if isinstance(model, Detector) else model
        self.model = optimize(model if isinstance(model, FasterRCNN) else load_model(model))

    @torch.no_grad()
    def __call__(self, image: ImageLike) -> HeadOutputs:
        """The three raw outputs under the names of CNTK's tutorial, `rpn_rois` (1, K, 4) in input pixels, `cls_pred`
        (1, K, 1 + C) and `bbox_regr` (1, K, 1 + C, 4), and `valid` (1, K)."""
        return run_heads(self.model, *self._inputs(image))

    @torch.no_grad()
    def process_image(self, image: ImageLike) -> tuple[np.ndarray, np.ndarray]:
        """Regressed RoIs and class probabilities.

        Returns:
            boxes: (N, 4), pixels of the original image; each RoI, regressed for its most probable class; RoIs
                that are background are not regressed.
            probabilities: (N, 1 + C); column 0 is the background.
        """
        model = self.model
        images, sizes, originals = self._inputs(image)
        raw = run_heads(model, images, sizes, originals)
        best = raw.cls_pred.argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 4)
        deltas = raw.bbox_regr.gather(2, best)[:, :, 0]
        limits = model.rules.limits_shrinking
        boxes = decode(deltas, raw.rpn_rois, mean=model.delta_mean, std=model.delta_std, limits_shrinking=limits)
        boxes = torch.where(best[:, :, 0] == 0, raw.rpn_rois, boxes)
        boxes = rescale(clip(boxes, sizes), sizes, originals)
        valid = raw.valid[0]
        return boxes[0][valid].cpu().numpy(), raw.cls_pred[0][valid].cpu().numpy()

    @torch.no_grad()
    def unregressed(self, image: ImageLike) -> np.ndarray:
        """The RoIs before regression, in `process_image`'s order: (N, 4), pixels of the original image. They are the
        proposals of the RPN; in a cascade, the boxes that the last stage classified."""
        images, sizes, originals = self._inputs(image)
        raw = run_heads(self.model, images, sizes, originals)
        return rescale(raw.rpn_rois, sizes, originals)[0][raw.valid[0]].cpu().numpy()

    def _inputs(self, image: ImageLike) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        model = self.model
        images, sizes, originals = (
            torch.from_numpy(array).to(model.mean.device)
            for array in prepare_images([open_input(image).image], model.settings.detector.resizing)
        )
        return images, sizes, originals
