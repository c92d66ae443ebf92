"""Anchor recall, and the anchors that `frcnn check` suggests."""

import math
import subprocess
import sys
from itertools import product
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
import torch
from hypothesis import given, settings
from tiny import tiny_config

from frcnn.config import Config, base_model_names, make_config, with_settings
from frcnn.data.records import make_record
from frcnn.nn.build import build_model
from frcnn.nn.rpn import RPN
from frcnn.ops.boxes import inside, iou
from frcnn.planning.anchors import (
    Boxes,
    Shapes,
    anchor_recall,
    anchor_sides,
    at_training_size,
    best_iou,
    feature_levels,
    fitted_anchors,
    suggest,
)
from frcnn.resizing import frame_size
from frcnn.types import Level


def all_anchors(size: tuple[int, int], levels: list[Level], config: Config) -> torch.Tensor:
    """Every anchor of the RPN, one by one."""
    frame, rules = frame_size([size], config.detector.resizing), config.detector.details
    maps = [torch.zeros(1, 1, *(math.ceil(side / level.stride) for side in frame)) for level in levels]
    with torch.no_grad():
        anchors = RPN(1, 1, 1, levels, config.detector.anchors, rules)(maps, frame).anchors
    return anchors[inside(anchors, torch.tensor(size))] if config.train.rpn.inside_only else anchors


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    rules=st.sampled_from(["paper", "torchvision"]),
    inside_only=st.booleans(),
    resize=st.sampled_from(["fit", "shorter_side"]),
    scales=st.lists(st.floats(0.5, 12), min_size=1, max_size=3),
    ratios=st.lists(st.floats(0.3, 3), min_size=1, max_size=3),
    offset=st.sampled_from([0, 0.03125, 0.5, 0.96875]),
    is_pyramid=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_best_anchor_is_the_one_that_the_whole_grid_has(
    size, rules, inside_only, resize, scales, ratios, offset, is_pyramid, seed
) -> None:
    """Twin: the IoU with every anchor of the grid."""
    config = make_config(
        overrides=[
            f"detector.rules={rules}",
            f"train.rpn.inside_only={str(inside_only).lower()}",
            f"detector.image.resize={resize}",
            f"detector.anchors.scales={scales}",
            f"detector.anchors.aspect_ratios={ratios}",
            *(["detector.image.height=300", "detector.image.width=320"] if resize == "fit" else []),
            *(["detector.anchors.base_size=null"] if is_pyramid else []),
        ]
    )
    levels = [Level(8, offset), Level(32, offset)] if is_pyramid else [Level(16, offset)]
    random = np.random.default_rng(seed)
    sides = random.uniform(0.03, 0.9, (30, 2)) * size[::-1]
    corners = random.uniform(-0.1, 1, (30, 2)) * (size[::-1] - sides)
    xyxy = np.concatenate((corners, corners + sides), axis=1)
    frame = frame_size([size], config.detector.resizing)
    boxes = Boxes(xyxy, np.tile(size, (30, 1)), np.tile(frame, (30, 1)), np.zeros(30, int), ("a",))
    anchors = all_anchors(size, levels, config).double()
    expected = iou(torch.from_numpy(xyxy), anchors).amax(dim=1) if len(anchors) else torch.zeros(30)
    found = best_iou(boxes, list(product(ratios, scales)), levels, config).max(axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize(("rules", "frame"), [("paper", (90, 125)), ("torchvision", (96, 128))])
def test_the_grid_of_the_twin_is_that_of_the_rpn(rules: str, frame: tuple[int, int]) -> None:
    config = tiny_config(f"detector.rules={rules}", "train.rpn.inside_only=false")
    model = build_model(config.model, ("object",)).eval()
    assert frame_size([(90, 125)], config.detector.resizing) == frame
    with torch.no_grad():
        expected = model.rpn(model.backbone(torch.zeros(1, 3, *frame)), frame).anchors
    assert torch.equal(all_anchors((90, 125), list(feature_levels(config)), config), expected)


@pytest.mark.parametrize("rules", ["paper", "torchvision"])
def test_the_sides_are_those_of_the_rpn(rules: str) -> None:
    config = tiny_config(f"detector.rules={rules}", "detector.anchors.scales=[1,2.4]")
    base = RPN(1, 1, 1, [Level(16, 0.5)], config.detector.anchors, config.detector.details).base[0].numpy()
    sides = (base[:, 2:] - base[:, :2])[:, ::-1]
    pairs = list(product(config.detector.anchors.aspect_ratios, config.detector.anchors.scales))
    np.testing.assert_allclose(anchor_sides(pairs, Level(16, 0.5), config), sides, rtol=1e-6)


def test_recall_counts_the_boxes_of_each_class() -> None:
    """Boxes that are anchors, shifted: with an anchor of side s, a shift by d has IoU (s - d) / (s + d)."""
    config = tiny_config("train.rpn.inside_only=false", "detector.anchors.base_size=16")
    level, side = Level(160, 0.5), 64
    records = [
        make_record(Path("a.png"), [((48 + shift, 48, 48 + shift + side, 48 + side), name)])
        for shift, name in ((0, "a"), (16, "a"), (32, "a"), (16, "b"))
    ]
    boxes = at_training_size(records, [(160, 160)] * 4, make_config(overrides={"detector.image.shorter_side": 160}))
    assert boxes.classes == ("a", "b")
    recall = anchor_recall(boxes, Shapes((4,), (1,)), [level], config)
    assert recall.all == {0.5: 0.75, 0.7: 0.25}  # IoU 1, 0.6, 0.33, 0.6
    assert recall.of_class == {"a": {0.5: pytest.approx(2 / 3), 0.7: pytest.approx(1 / 3)}, "b": {0.5: 1, 0.7: 0}}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "alexnet",
            "vgg11",
            "resnet18",
            "resnet18-fpn",
            "convnext_tiny-fpn",
            "efficientnet_lite0",
            "mobilenet_v2-fpn",
        ),
        *(pytest.param(name, marks=pytest.mark.slow) for name in base_model_names()),
    ],
)
def test_the_levels_that_are_known_are_those_that_a_model_has(name: str) -> None:
    for rules in ("paper", "torchvision"):
        config = make_config(base_model=name, overrides=[f"detector.rules={rules}"])
        assert feature_levels(config) == build_model(config.model, ("object",)).rpn.levels


def test_levels_of_another_cut_are_measured() -> None:
    assert feature_levels(make_config(base_model="resnet18", overrides=["base_model.last_conv_node=layer2"])) == (
        Level(8, 0.0625),
    )


def test_torch_is_not_imported_for_a_base_model_of_the_table() -> None:
    code = (
        "import sys; from frcnn.config import make_config; "
        "from frcnn.planning import anchors; from frcnn.tools.check import boxes, classes, duplicates, images; "
        "anchors.feature_levels(make_config()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_other_anchors_are_suggested_where_they_reach_more() -> None:
    """Objects that are all of one shape, which the default's anchors have not."""
    config = tiny_config(
        "detector.anchors.scales=[8,16,32]", "detector.image.shorter_side=480", "detector.image.longer_side=640"
    )
    random = np.random.default_rng(0)
    records = []
    for _ in range(30):
        x, y = random.uniform(2, 390), random.uniform(2, 390)
        records.append(make_record(Path("a.png"), [((x, y, x + 240, y + 80), "plank")]))
    boxes = at_training_size(records, [(480, 640)] * 30, config)
    levels = feature_levels(config)
    rules = config.detector.anchors
    now = anchor_recall(boxes, Shapes(rules.scales, rules.aspect_ratios), levels, config)
    suggestion = suggest(boxes, now, levels, config)
    assert now.all[0.7] < 0.2
    assert suggestion is not None
    assert suggestion.anchor_recall.all[0.7] > 0.9
    pasted = make_config(overrides=suggestion.settings)
    assert (
        Shapes(pasted.detector.anchors.scales, pasted.detector.anchors.aspect_ratios) == suggestion.anchor_recall.shapes
    )
    assert suggest(boxes, suggestion.anchor_recall, levels, config) is None  # nothing clearly better
    ratios = suggest(boxes, now, levels, config, kept=["scales"])
    assert ratios is not None
    assert [setting.partition("=")[0] for setting in ratios.settings] == ["detector.anchors.aspect_ratios"]
    assert ratios.anchor_recall.shapes.scales == rules.scales


def test_a_rare_class_is_not_given_up_for_a_common_one() -> None:
    """Many large objects that the anchors reach badly, few small ones that they reach well."""
    config = tiny_config(
        "detector.anchors.scales=[2,9]",
        "detector.anchors.aspect_ratios=[1]",
        "detector.image.shorter_side=480",
        "detector.image.longer_side=640",
    )
    random, records = np.random.default_rng(0), []
    for _ in range(60):
        x, y = random.uniform(2, 390), random.uniform(2, 230)
        small = (16 * int(x / 16), 16 * int(y / 16), 16 * int(x / 16) + 32, 16 * int(y / 16) + 32)
        records.append(make_record(Path("a.png"), [((x, y, x + 220, y + 240), "large")]))
        if len(records) % 10 == 0:
            records.append(make_record(Path("a.png"), [(small, "small")]))
    boxes = at_training_size(records, [(480, 640)] * len(records), config)
    levels, rules = feature_levels(config), config.detector.anchors
    now = anchor_recall(boxes, Shapes(rules.scales, rules.aspect_ratios), levels, config)
    suggestion = suggest(boxes, now, levels, config)
    assert suggestion is not None
    for name, shares in now.of_class.items():
        assert suggestion.anchor_recall.of_class[name][0.5] >= shares[0.5]
    assert suggestion.anchor_recall.all[0.7] > now.all[0.7] + 0.2


def test_boxes_are_taken_at_the_training_size() -> None:
    config = tiny_config("detector.image.shorter_side=48", "detector.image.longer_side=64")
    record = make_record(Path("a.png"), [((10, 20, 50, 60), "a"), ((1, 1, 1, 9), "b")])
    boxes = at_training_size([record, record], [(96, 128), None], config)
    assert boxes.xyxy.tolist() == [[5, 10, 25, 30]]
    assert boxes.sizes.tolist() == [[48, 64]]
    assert [boxes.classes[label] for label in boxes.labels] == ["a"]


def test_anchors_for_few_objects_also_fit_objects_of_other_sizes() -> None:
    """Four of one size, far from the anchors: those around it are reached too."""
    config = make_config()
    records = [make_record(Path("a.png"), [((10, 10, 310, 60), "a")], (480, 640))] * 4
    choice = fitted_anchors(records, config)
    assert choice is not None
    fitted = with_settings(config, choice.settings)
    levels = feature_levels(config)
    others = [make_record(Path("a.png"), [((100, 100, 100 + w, 100 + h), "a") for w, h in ((240, 40), (370, 62))])]
    boxes = at_training_size(others, [(480, 640)], config)
    for used, reached in ((fitted, True), (config, False)):
        anchors = used.detector.anchors
        best = best_iou(boxes, list(product(anchors.aspect_ratios, anchors.scales)), levels, used).max(axis=1)
        assert (best > 0.5).all() == reached, best
    assert fitted_anchors([], config) is None
