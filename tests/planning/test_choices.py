"""Each choice of a plan, for data of one kind."""

from typing import Any

import numpy as np
import pytest

from frcnn.config import Config, make_config, with_settings
from frcnn.planning import choices
from frcnn.planning.choices import Machine
from frcnn.planning.fingerprint import QUANTILES, ClassFingerprint, Fingerprint, Quantiles
from frcnn.planning.sizes import Sizes


def all_equal(value: float) -> Quantiles:
    return (value,) * len(QUANTILES)


def found(**figures: Any) -> Fingerprint:
    """100 images of 640 x 480 pixels with one object of 100 x 100 pixels each."""
    values = {
        "images": 100,
        "empty_images": 0,
        "objects": 100,
        "shorter_side": all_equal(480),
        "longer_side": all_equal(640),
        "shape": all_equal(4 / 3),
        "size": all_equal(100),
        "relative_size": all_equal(100 / 640),
        "shortest_side": all_equal(100),
        "aspect_ratio": all_equal(1),
        "objects_per_image": all_equal(1),
        "overlapping": 0.0,
        "mirrored_classes": (),
        "classes": {"cat": ClassFingerprint(100, 100, all_equal(100))},
    }
    return Fingerprint(**(values | figures))


def sizes(size: float, longer_side: float, shorter_side: float | None = None) -> Sizes:
    """An object of this size in an image of this size, 4:3 if not said."""
    sides = (longer_side * 3 / 4 if shorter_side is None else shorter_side, longer_side)
    return Sizes(np.array([size]), np.array([0]), np.array([sides]))


@pytest.fixture(scope="module")
def config() -> Config:
    return make_config()


def test_large_objects_keep_the_default_input_size(config: Config) -> None:
    assert choices.input_size(found(), sizes(100, 640), config) is None


@pytest.mark.parametrize(
    ("relative", "longer_side", "size"),
    [
        (32 / 800, 4000, (608, 800)),
        (0.001, 4000, (768, 1024)),  # no more than the largest input
        (0.001, 400, (608, 800)),  # no image is enlarged beyond twice its size
        (0.001, 300, None),
    ],
)
def test_small_objects_get_a_larger_input(
    relative: float, longer_side: int, size: tuple[int, int] | None, config: Config
) -> None:
    images = found(shorter_side=all_equal(longer_side * 3 / 4), longer_side=all_equal(longer_side))
    choice = choices.input_size(images, sizes(relative * longer_side, longer_side), config)
    assert (None if choice is None else tuple(choice.settings.values())) == size


def test_a_square_image_may_become_twice_as_large_too(config: Config) -> None:
    square = found(shorter_side=all_equal(360), longer_side=all_equal(360))
    choice = choices.input_size(square, sizes(1, 360, 360), config)
    assert choice is not None
    assert choice.settings["detector.image.shorter_side"] == 736  # 2 x 360, rounded up


@pytest.mark.parametrize(("reached", "chosen"), [(1.0, False), (0.8, False), (0.79, True), (0.0, True)])
def test_objects_that_anchors_cannot_reach_get_finer_feature_maps(reached: float, chosen: bool, config: Config) -> None:
    choice = choices.pyramid(config, reached)
    assert (None if choice is None else choice.settings["base_model.name"]) == (
        "efficientnet_lite0-fpn" if chosen else None
    )
    assert choice is None or choice.settings["base_model.freeze_before"] == config.base_model.freeze_before
    assert choices.pyramid(make_config(base_model="efficientnet_lite0-fpn"), reached) is None  # it has one


@pytest.mark.parametrize(
    ("longer_side", "size", "at_largest_input", "tile"),
    [
        (3840, 20, 5.3, 640),
        (20_000, 40, 2, 640),  # strips
        (4000, 8, 2, 320),  # no pixel is enlarged more than twice
        (1000, 6, 6, 320),
        (400, 6, 11.9, None),  # a tile would be nearly the image
        (3840, 50, 12, None),
    ],
)
def test_tiny_objects_in_large_images_get_tiles(
    longer_side: int, size: float, at_largest_input: float, tile: int | None, config: Config
) -> None:
    choice = choices.tile(found(longer_side=all_equal(longer_side), size=all_equal(size)), at_largest_input, config)
    assert (None if choice is None else choice.settings["detector.image.tile"]) == tile


def test_a_tile_holds_nearly_all_objects_in_its_overlap(config: Config) -> None:
    objects = (10, 10, 20, 30, 60, 200, 900)
    choice = choices.tile(found(longer_side=all_equal(5000), size=objects), 4, config)
    assert choice is not None
    assert choice.settings["detector.image.tile"] == 1024  # a fifth of it is 200 or more


def test_a_pyramid_needs_a_smaller_input() -> None:
    large, config = found(longer_side=all_equal(4000)), make_config()
    with_pyramid = make_config(base_model="efficientnet_lite0-fpn")
    chosen = [choices.input_size(large, sizes(80, 4000), each) for each in (config, with_pyramid)]
    assert [None if each is None else each.settings["detector.image.longer_side"] for each in chosen] == [1024, 800]


def test_images_that_fit_a_frame_keep_it() -> None:
    config = make_config(overrides={"detector.image.resize": "fit"})
    assert choices.input_size(found(), sizes(1, 640), config) is None


@pytest.mark.parametrize(("classes", "flip"), [((), True), (("left", "right"), False)])
def test_mirror_images(classes: tuple[str, ...], flip: bool) -> None:
    choice = choices.mirror(found(mirrored_classes=classes))
    assert choice.settings == {"train.flip": flip}
    assert all(name in choice.reason for name in classes)


@pytest.mark.parametrize(("shortest", "size"), [(100, 16), (20, 10), (7, 3), (1, 0)])
def test_no_object_is_below_the_least_proposal(shortest: float, size: float, config: Config) -> None:
    choice = choices.min_proposal_size(found(shortest_side=all_equal(shortest)), config)
    assert set(choice.settings.values()) == {size}


@pytest.mark.parametrize(
    ("most", "detections", "proposals", "samples"), [(3, 100, 300, 128), (120, 250, 500, 512), (1000, 2000, 4000, 512)]
)
def test_numbers_for_crowded_images(most: int, detections: int, proposals: int, samples: int, config: Config) -> None:
    crowded = found(objects_per_image=all_equal(most))
    assert choices.max_detections(crowded, config).settings == {"detector.results.max_detections": detections}
    assert choices.proposals(crowded, config).settings["detector.test_proposals.post_nms_top_n"] == proposals
    assert choices.roi_samples(crowded, config).settings == {"train.roi.sample_size": samples}


def test_numbers_stay_within_what_the_settings_allow(config: Config) -> None:
    crowd = found(objects_per_image=all_equal(200_000))
    for choose in (choices.max_detections, choices.proposals):
        assert set(choose(crowd, config).settings.values()) == {100_000}


@pytest.mark.parametrize(("images", "epochs"), [(1, 40), (20, 40), (200, 30), (300, 20), (5000, 8)])
def test_epochs_give_enough_steps_and_no_more(images: int, epochs: int, config: Config) -> None:
    assert choices.schedule(found(images=images), config).settings["train.epochs"] == epochs


def test_many_tiles_show_the_same_objects_so_their_epochs_are_fewer() -> None:
    tiled = make_config(overrides={"detector.image.tile": 640})
    choice = choices.schedule(found(images=2000), tiled)
    assert choice.settings["train.epochs"] == 4
    assert choice.reason.startswith("2000 training tiles")


def test_longer_steps_are_fewer(config: Config) -> None:
    large = with_settings(config, {"detector.image.shorter_side": 960, "detector.image.longer_side": 1280})
    assert (
        choices.schedule(found(images=300), large).settings["train.epochs"] == 8
    )  # 4 times the pixels: 20 / 2.8, but at least 8
    pyramid = make_config(base_model="efficientnet_lite0-fpn")
    assert choices.schedule(found(images=300), pyramid).settings["train.epochs"] == 12


def test_the_phases_of_alternating_training_change_in_proportion() -> None:
    config = make_config(overrides={"train.scheme": "alternating"})
    settings = choices.schedule(found(images=214), config).settings  # twice the usual 14 epochs
    assert settings == {"train.rpn_epochs": 20, "train.roi_epochs": 28}


def test_new_layers_become_a_cascade_and_those_of_a_classifier_do_not(config: Config) -> None:
    choice = choices.roi_head(config)
    assert choice is not None
    assert choice.settings == {"base_model.box_per_class": False, "base_model.cascade": 2}
    assert choices.roi_head(make_config(base_model="vgg16")) is None


def test_a_detector_that_is_trained_further_keeps_what_its_weights_fit(config: Config) -> None:
    assert choices.initial_detector(config.model, config) is None
    other = make_config(
        base_model="resnet50", overrides={"detector.anchors.scales": [1, 2], "detector.draw.save": False}
    )
    choice = choices.initial_detector(other.model, config)
    assert choice is not None
    with_them = with_settings(config, choice.settings)
    assert (with_them.model.base_model, with_them.detector.anchors) == (other.model.base_model, other.detector.anchors)
    assert with_them.detector.draw == config.detector.draw


@pytest.mark.parametrize(
    ("gigabytes", "epochs", "where"), [(1, 20, "memory"), (50, 20, "disk"), (500, 20, "memory"), (1, 1, None)]
)
def test_decoded_images_go_where_they_fit(gigabytes: int, epochs: int, where: str | None) -> None:
    machine = Machine(cores=2, cache_memory=6 * 10**9, cache_disk=100 * 10**9)
    choice = choices.cache(gigabytes * 10**9, epochs, machine)
    assert (None if choice is None else choice.settings["data.cache"]) == where
    if gigabytes == 500:
        assert choice is not None
        assert choice.reason.endswith("a part fits")


@pytest.mark.parametrize(("cores", "workers"), [(1, None), (4, None), (8, 2), (128, 8)])
def test_many_cores_read_with_several_threads(cores: int, workers: int | None) -> None:
    choice = choices.workers(Machine(cores, 0, 0))
    assert (None if choice is None else choice.settings["data.workers"]) == workers


def test_a_budget_scales_the_epochs_of_the_scheme() -> None:
    train = make_config(overrides={"train.budget": 600, "train.epochs": 20}).train
    assert choices.within_budget(train, seconds=1080).settings == {"train.epochs": 10}
    alternating = make_config(overrides={"train.budget": 600, "train.scheme": "alternating"}).train
    assert "few" not in choices.within_budget(train, seconds=1080).reason
    assert choices.within_budget(train, seconds=3000).reason.endswith(
        "less than a quarter of the usual epochs: this may be too little; give it more time"
    )
    assert choices.within_budget(alternating, seconds=1080).settings == {"train.rpn_epochs": 5, "train.roi_epochs": 7}


def test_warnings_about_the_data(config: Config) -> None:
    assert list(choices.warnings(found(), 10, config, 0)) == []
    assert next(choices.warnings(found(), 10, config, 2)).startswith("2 of 100 objects will not be trained on: no tile")
    classes = {"cat": ClassFingerprint(100, 90, all_equal(100)), "dog": ClassFingerprint(1, 1, all_equal(100))}
    rare = found(images=12, empty_images=9, classes=classes)
    few = list(choices.warnings(rare, 10, config, 0))
    assert few[0] == "few training images have objects (3): label at least 10"
    assert few[1].startswith("fewer than 5 training objects of dog")
    for size, pixels in ((1.92, "2 pixels"), (0.6, "1 pixel"), (0.1, "1 pixel")):
        assert next(choices.warnings(found(), size, config, 0)).startswith(
            f"a quarter of the objects are smaller than {pixels} at the input"
        )
