"""The settings themselves: ranges, agreement between them, and that they cannot be edited."""

import pytest
from pydantic import ValidationError

from frcnn.config import AnchorSettings, Config, TrainSettings, dump, from_dict, make_config

RESNET = {"name": "resnet18", "architecture": "torchvision:resnet18", "last_conv_node": "layer3"}


@pytest.mark.parametrize(
    ("group", "name", "value", "rule"),
    [
        (("train",), "momentum", 1.0, "less than 1"),
        (("train",), "momentum", -0.1, "greater than or equal to 0"),
        (("train",), "epochs", 0, "greater than or equal to 1"),
        (("train",), "epochs", 2.5, "integer"),
        (("train",), "seed", -1, "greater than or equal to 0"),
        (("train",), "device", "gpu", "'auto', 'cpu', 'cuda' or 'mps'"),
        (("train",), "flip", "perhaps", "boolean"),
        (("train",), "lr", [], "at least 1 item"),
        (("train",), "weight_decay", float("nan"), "finite"),
        (("train",), "clip_norm", 0.0, "greater than 0"),
        (("train", "rpn"), "positive_iou", 1.5, "less than or equal to 1"),
        (("train", "rpn"), "sigma", 0, "greater than 0"),
        (("train", "roi"), "sample_size", "many", "integer"),
        (("detector", "image"), "resize", "stretch", "'fit' or 'shorter_side'"),
        (("detector", "anchors"), "scales", [], "at least 1 item"),
        (("detector", "results"), "score_threshold", -0.5, "greater than or equal to 0"),
        (("detector", "box_deltas"), "means", "none", "tuple"),
        (("base_model",), "roi_pooling", "mean", "'align' or 'max'"),
        (("data",), "workers", -1, "greater than or equal to 0"),
    ],
)
def test_out_of_range_names_key_value_and_rule(group: tuple[str, ...], name: str, value: object, rule: str) -> None:
    values: dict[str, object] = {name: value}
    for part in reversed(group):
        values = {part: values}
    with pytest.raises(ValueError, match="setting") as caught:
        from_dict(Config, values)
    message = str(caught.value)
    assert f"'{'.'.join((*group, name))}'" in message
    assert repr(value) in message
    assert rule in message


def test_an_item_out_of_range_is_named_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"'train\.lr\.1' = -1\.0: .*greater than 0"):
        from_dict(Config, {"train": {"lr": [0.1, -1.0]}})


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)train\.epochs.*train\.momentum"):
        from_dict(Config, {"train": {"epochs": 0, "momentum": 2}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"train": {"rpn": {"positive_iou": 0.4, "negative_iou": 0.6}}},
            r"train\.rpn\.negative_iou \(0\.6\) must not be greater than train\.rpn\.positive_iou \(0\.4\)",
        ),
        (
            {"train": {"roi": {"negative_iou_low": 0.4, "negative_iou_high": 0.3}}},
            r"train\.roi\.negative_iou_low \(0\.4\) must not be greater than train\.roi\.negative_iou_high \(0\.3\)",
        ),
        ({"base_model": {**RESNET, "std": [1.0, 0.0, 1.0]}}, r"base_model\.std\.1' = 0\.0: .*greater than 0"),
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(Config, values)


def test_settings_are_frozen() -> None:
    config = make_config()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.train = TrainSettings()  # type: ignore[misc]


def test_a_group_refuses_unknown_names() -> None:
    with pytest.raises(ValidationError, match="size"):
        AnchorSettings(size=3)  # type: ignore[call-arg]


def test_a_base_model_must_say_where_it_is_cut() -> None:
    with pytest.raises(ValueError, match=r"'base_model\.architecture' is missing; `frcnn layers ARCHITECTURE` helps"):
        from_dict(Config, {"base_model": {"name": "mine", "last_conv_node": "layer3"}})


def test_all_else_has_a_default() -> None:
    config = from_dict(Config, {"base_model": RESNET})
    assert from_dict(Config, dump(config)) == config
