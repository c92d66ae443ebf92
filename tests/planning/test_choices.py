"""Each choice of a plan, for data of one kind."""

from typing import Any

import pytest

from frcnn.config import Config, make_config
from frcnn.planning import choices
from frcnn.planning.fingerprint import QUANTILES, ClassFingerprint, Fingerprint, Quantiles


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


@pytest.fixture(scope="module")
def config() -> Config:
    return make_config()


def test_large_objects_keep_the_default_input_size(config: Config) -> None:
    assert choices.input_size(found(), config) is None


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
    relative: float, longer_side: float, size: tuple[int, int] | None, config: Config
) -> None:
    choice = choices.input_size(found(relative_size=all_equal(relative), longer_side=all_equal(longer_side)), config)
    assert (None if choice is None else tuple(choice.settings.values())) == size


def test_images_that_fit_a_frame_keep_it() -> None:
    config = make_config(overrides={"detector.image.resize": "fit"})
    assert choices.input_size(found(relative_size=all_equal(0.001)), config) is None


@pytest.mark.parametrize(("classes", "flip"), [((), True), (("left", "right"), False)])
def test_mirror_images(classes: tuple[str, ...], flip: bool) -> None:
    choice = choices.mirror(found(mirrored_classes=classes))
    assert choice.settings == {"train.flip": flip}
    assert all(name in choice.because for name in classes)


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
