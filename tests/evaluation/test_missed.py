"""Why an object was missed: each reason is made on purpose."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLASSES, SIZE, draw_image, tiny_model

from frcnn.evaluation.missed import Reason, _explain, why_missed
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.report.evidence import in_words

ALL_ANCHORS = ("detector.test_proposals.post_nms_top_n=200", "detector.test_proposals.nms_threshold=1")
ANCHOR = (48.0, 32.0, 80.0, 64.0)
RED = (20.0, 20.0, 60.0, 60.0)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "a.png"
    draw_image([("red", RED)], size=SIZE).save(path)
    return path


def reason_of(model: FasterRCNN, image: Path, box: tuple[float, ...] = RED, threshold: float = 0.99) -> Reason:
    (why,) = why_missed(model, image, np.array([box]), ["red"], threshold=threshold)
    assert in_words(why)
    return why.reason


def test_an_object_that_no_anchor_fits(image: Path) -> None:
    """Anchors of 16 to 64 pixels, and a strip of 2 x 120."""
    assert reason_of(tiny_model(), image, (2, 40, 122, 42)) == Reason.ANCHOR


def test_an_object_that_is_not_proposed(image: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.rpn.deltas.weight.zero_()
        far = torch.tensor([50.0, 50, 0, 0])
        model.rpn.deltas.bias[:] = far.repeat(len(model.rpn.deltas.bias) // 4)
    assert reason_of(model, image, ANCHOR) == Reason.PROPOSAL


def head(model: FasterRCNN, *logits: float, shift: float = 0.0) -> FasterRCNN:
    """The RPN proposes its anchors; the RoI head gives these logits (background, blue, red), and moves every box by
    `shift` of its size."""
    with torch.no_grad():
        for layer in (model.rpn.deltas, model.roi_head.logits, model.roi_head.deltas):
            layer.weight.zero_()
            layer.bias.zero_()
        model.roi_head.logits.bias[:] = torch.tensor(logits)
        model.roi_head.deltas.bias[0::4] = shift / 0.1
    return model


@pytest.mark.parametrize(
    ("logits", "shift", "reason"),
    [
        ((0, 0, 5), 0.0, Reason.LOW_SCORE),
        ((5, 0, 0), 0.0, Reason.BACKGROUND),
        ((0, 5, 0), 0.0, Reason.OTHER_CLASS),
        ((0, 0, 9), 0.0, Reason.NMS),
        ((0, 0, 9), 50.0, Reason.LOCATION),
    ],
)
def test_what_the_roi_head_makes_of_it(image: Path, logits: tuple[float, ...], shift: float, reason: Reason) -> None:
    assert reason_of(head(tiny_model(*ALL_ANCHORS), *logits, shift=shift), image, ANCHOR) == reason


def test_the_figures_are_those_of_the_detector(image: Path) -> None:
    model = head(tiny_model(*ALL_ANCHORS), 0, 1, 2)
    (why,) = why_missed(model, image, np.array([ANCHOR]), ["red"], threshold=0.99)
    background, blue, red = torch.tensor([0.0, 1, 2]).softmax(0).tolist()
    assert (why.score, why.other_score, why.background) == pytest.approx((red, blue, background))
    assert why.other_class == CLASSES[0]
    assert why.proposal_iou > 0.9
    assert why.anchor_iou > 0.9


def test_a_detector_of_one_class_has_no_other_class() -> None:
    model = tiny_model(classes=["red"])
    why = _explain(model, 0, torch.tensor([[0.6, 0.4]]), 0.9, 0.8, 0.5)
    assert (why.reason, why.other_class, why.other_score) == (Reason.BACKGROUND, None, 0.0)
