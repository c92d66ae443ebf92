"""Settings that a user names stay, and no choice contradicts them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from frcnn.config import Config, ModelSettings, make_config, set_names
from frcnn.data.records import Records, make_record
from frcnn.nn.build import build_model
from frcnn.nn.model_file import detector_settings, save_model
from frcnn.nn.weights import DETECTOR_KEY
from frcnn.planning.anchors import anchor_recall_of
from frcnn.planning.fingerprint import fingerprint
from frcnn.planning.plan import Plan, make_plan


def plan_for_small_objects(
    overrides: dict[str, Any], base_model: str | None = None, detector: ModelSettings | None = None
) -> Plan:
    """Objects of 25 pixels in images of 1600: without a choice of the user, a pyramid and a larger input."""
    objects = [((x, 100, x + 25, 125), "a") for x in (100, 900)]
    records = [make_record(Path("a.png"), objects, (1200, 1600))] * 20
    config = make_config(base_model=base_model, overrides=overrides)
    named = set_names(None, overrides, base_model)
    return make_plan("x", fingerprint(records), Records.of(records), config, named, detector=detector)


def test_nothing_named() -> None:
    config = plan_for_small_objects({}).config
    assert config.base_model.name == "efficientnet_lite0-fpn"
    assert config.detector.image.longer_side == 1024
    assert (config.base_model.cascade, config.base_model.box_per_class) == (2, False)


@pytest.mark.parametrize(
    ("overrides", "base_model"),
    [
        ({"base_model.last_conv_node": "blocks.3"}, None),
        ({"base_model.architecture": "timm:efficientnet_lite1"}, None),
        ({"detector.anchors.scales": [0.5, 1, 2]}, None),
        ({}, "efficientnet_lite0"),
        ({}, "efficientnet_lite1"),
    ],
)
def test_a_named_base_model_or_named_anchors_get_no_pyramid(overrides: dict[str, Any], base_model: str | None) -> None:
    before = make_config(base_model=base_model, overrides=overrides)
    after = plan_for_small_objects(overrides, base_model).config
    assert (after.base_model.name, after.base_model.last_conv_node) == (
        before.base_model.name,
        before.base_model.last_conv_node,
    )
    assert after.base_model.cascade == 2
    if overrides.keys() == {"detector.anchors.scales"}:
        assert (after.detector.anchors.base_size, after.detector.anchors.scales) == (16, (0.5, 1, 2))


@pytest.mark.parametrize(
    "named", [{"scales": [8, 16, 32]}, {"aspect_ratios": [4]}, {"scales": [2], "aspect_ratios": [0.7]}]
)
def test_anchors_are_fitted_to_those_that_are_named(named: dict[str, Any]) -> None:
    """Long objects: the anchor recall that the plan tells is that of the anchors that it uses."""
    records = [make_record(Path("a.png"), [((100, 100, 340, 180), "a"), ((100, 200, 370, 280), "a")], (480, 640))] * 20
    overrides = {f"detector.anchors.{name}": value for name, value in named.items()}
    config = make_config(overrides=overrides)
    plan = make_plan("x", fingerprint(records), Records.of(records), config, set_names(None, overrides))
    assert not overrides.keys() & plan.settings.keys()
    told = [choice.reason for choice in plan.choices if "detector.anchors" in str(choice.settings)]
    recall = anchor_recall_of(records, plan.config)
    assert told in ([], [f"anchor recall at IoU 0.5: {recall:.0%} instead of {anchor_recall_of(records, config):.0%}"])
    assert recall >= anchor_recall_of(records, config)


def test_a_named_tile_that_shows_no_object_is_refused() -> None:
    records = [make_record(Path("a.png"), [((50, 50, 350, 350), "a")], (480, 640))] * 3
    config = make_config(overrides={"detector.image.tile": 64})
    with pytest.raises(ValueError, match=r"detector\.image\.tile: no tile of 64 pixels shows half of an object"):
        make_plan("x", fingerprint(records), Records.of(records), config, {"detector.image.tile"})


@pytest.mark.parametrize("named", [{"base_model.box_per_class": True}, {"base_model.cascade": 1}])
def test_a_named_roi_head_stays(named: dict[str, Any]) -> None:
    base = plan_for_small_objects(named).config.base_model
    assert (base.cascade, base.box_per_class) == (1, True)


@pytest.mark.parametrize("side", ["shorter_side", "longer_side"])
def test_a_named_side_of_the_input_leaves_the_other(side: str) -> None:
    config = plan_for_small_objects({f"detector.image.{side}": 500}).config
    expected = make_config(overrides={f"detector.image.{side}": 500})
    assert config.detector.image == expected.detector.image


@pytest.mark.parametrize(
    ("tile", "sides"),
    [
        (800, (1024, 1024)),  # the objects have 32 pixels
        (640, (832, 832)),
        (300, (600, 640)),  # not enlarged more than twice
        (200, (480, 640)),  # not smaller than the default
    ],
)
def test_a_named_tile_is_not_scaled_down(tile: int, sides: tuple[int, int]) -> None:
    image = plan_for_small_objects({"detector.image.tile": tile}).config.detector.image
    assert image.tile == tile
    assert (image.shorter_side, image.longer_side) == sides


@pytest.mark.parametrize("side", ["shorter_side", "longer_side"])
def test_a_named_input_of_a_named_tile_stays(side: str) -> None:
    named = {"detector.image.tile": 640, f"detector.image.{side}": 500}
    assert plan_for_small_objects(named).config.detector.image == make_config(overrides=named).detector.image


def test_settings_that_leave_nothing_to_sample() -> None:
    assert "train.roi.sample_size" not in plan_for_small_objects({"train.roi.positive_fraction": 0}).settings


@pytest.mark.parametrize("base_model", [None, "resnet18"])
def test_a_plan_holds_what_was_named_but_no_paths(base_model: str | None, tmp_path: Path) -> None:
    plan = plan_for_small_objects({"train.lr": 0.005, "base_model.weights": "/home/me/w.pth"}, base_model)
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    assert "/home/me" not in plan.to_yaml()
    again = make_config(file=tmp_path / "plan.yaml")
    assert (again.train, again.detector) == (plan.config.train, plan.config.detector)
    assert again.base_model == plan.config.base_model.model_copy(update={"weights": None})


def test_a_plan_of_nothing_is_a_config_file(tmp_path: Path) -> None:
    plan = plan_for_small_objects({})._replace(choices=(), named=())
    assert "nothing to choose" in str(plan)
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    assert make_config(file=tmp_path / "plan.yaml") == make_config()


# ------------------------------------------------------------------------------------------- training from a detector


@pytest.fixture(scope="module")
def config() -> Config:
    return make_config(
        base_model="resnet18", overrides={"base_model.fc_channels": [8], "detector.image.shorter_side": 300}
    )


def test_weights_of_a_detector_are_known(config: Config, tmp_path: Path) -> None:
    save_model(build_model(config.model, ("a",)), tmp_path / "model.safetensors")
    torch.save({DETECTOR_KEY: torch.zeros(3, 4)}, tmp_path / "theirs.pth")
    save_file({DETECTOR_KEY: torch.zeros(3, 4)}, tmp_path / "theirs.safetensors")
    torch.save({"features.0.weight": torch.zeros(3, 4)}, tmp_path / "classifier.pth")
    default = make_config().model
    for ours in (tmp_path, tmp_path / "model.safetensors"):
        assert detector_settings(default, str(ours)) == config.model
    for theirs in ("coco", tmp_path / "theirs.pth", tmp_path / "theirs.safetensors"):
        assert detector_settings(default, str(theirs)) == default
    for other in (None, "auto", "none", tmp_path / "classifier.pth", tmp_path / "nowhere.pth"):
        assert detector_settings(default, None if other is None else str(other)) is None


def test_a_detector_keeps_its_layers_anchors_and_input(config: Config) -> None:
    after = plan_for_small_objects({}, detector=config.model).config
    assert after.base_model.fc_channels == (8,)
    assert after.base_model.name == "resnet18"
    assert after.detector.image == config.detector.image
    assert after.detector.anchors == config.detector.anchors
    own = config.model.model_copy(update={"base_model": config.base_model.model_copy(update={"name": "mine"})})
    assert plan_for_small_objects({}, detector=own).config.base_model.name == "mine"


def test_torchvisions_detectors_stay_as_they_are() -> None:
    name = "fasterrcnn_resnet50_fpn"
    before = make_config(base_model=name)
    after = plan_for_small_objects({}, name, detector=before.model).config
    assert (after.base_model, after.detector.anchors, after.detector.image) == (
        before.base_model,
        before.detector.anchors,
        before.detector.image,
    )
