"""The sizes of objects at the input, where the images are of one size or of many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from frcnn.config import make_config
from frcnn.data.records import Record, Records, make_record
from frcnn.planning.fingerprint import fingerprint
from frcnn.planning.plan import Plan, make_plan
from frcnn.planning.sizes import sizes_of

IMAGE = make_config().detector.image


def images(count: int, size: tuple[int, int], sides: Sequence[float]) -> list[Record]:
    """So many images of this (height, width) with square objects of these sides."""
    step = size[1] / len(sides)
    boxes = [((step * i, 0.0, step * i + side, side), "a") for i, side in enumerate(sides)]
    return [make_record(Path("a.png"), boxes, size)] * count


def plan_of(records: list[Record]) -> Plan:
    return make_plan("x", fingerprint(records), Records.of(records), make_config())


@pytest.mark.parametrize(
    ("size", "at_input", "at_largest_input"),
    [
        ((480, 640), 40, 64),
        ((3000, 4000), 6.4, 10.24),
        ((4000, 3000), 6.4, 10.24),  # upright
        ((1000, 4000), 6.4, 10.24),  # a strip
        ((1000, 1000), 19.2, 30.72),  # 768 x 768 at the largest input
        ((100, 100), 192, 80),  # enlarged twice at most
    ],
)
def test_sizes_at_the_input(size: tuple[int, int], at_input: float, at_largest_input: float) -> None:
    sizes = sizes_of(images(3, size, [40]))
    assert sizes.at_input(480, 640) == at_input
    assert sizes.at_largest_input(IMAGE) == at_largest_input
    assert sizes.images_of_small(IMAGE).tolist() == [0, 1, 2]


def test_ignored_objects_have_no_size() -> None:
    record = images(1, (480, 640), [8, 64])[0]._replace(ignore=np.array([True, False]))
    assert sizes_of([record]).size.tolist() == [64]


def test_the_images_of_small_objects_are_the_large_ones_or_the_small_ones() -> None:
    large, small = images(2, (3000, 4000), [20]), images(3, (480, 640), [200])
    assert sizes_of([*large, *small]).images_of_small(IMAGE).tolist() == [0, 1]
    large, small = images(2, (3000, 4000), [2000]), images(3, (480, 640), [5])
    assert sizes_of([*large, *small]).images_of_small(IMAGE).tolist() == [0, 1, 2, 3, 4]  # large ones may have some too


# ---------------------------------------------------------------------------------------- plans of images of many sizes


def test_tiny_objects_in_a_minority_of_large_images_get_tiles() -> None:
    """87% of the objects would have 4 pixels at the largest input. The tile need not hold the large objects of small
    images, which are not cut."""
    plan = plan_of([*images(60, (480, 640), [200]), *images(40, (3000, 4000), [15] * 10)])
    assert plan.settings["detector.image.tile"] == 608
    assert plan.warnings == ()


def test_small_objects_in_small_images_get_no_tiles() -> None:
    """They have 60 pixels at the largest input, those in the large images 102."""
    plan = plan_of([*images(60, (3000, 4000), [400, 400]), *images(40, (375, 500), [30] * 10)])
    assert "detector.image.tile" not in plan.settings


def test_without_tiles_tiny_objects_in_large_images_are_a_warning() -> None:
    records = [*images(60, (480, 640), [200]), *images(40, (3000, 4000), [15] * 10)]
    config = make_config(overrides={"detector.image.shorter_side": 480})
    plan = make_plan("x", fingerprint(records), Records.of(records), config, {"detector.image.shorter_side"})
    assert [warning.partition(" at the input")[0] for warning in plan.warnings] == [
        "a quarter of the objects are smaller than 2 pixels"
    ]


def test_small_objects_in_large_images_get_a_larger_input_also_where_most_images_are_small() -> None:
    plan = plan_of([*images(60, (240, 320), [100]), *images(40, (1500, 2000), [50] * 10)])
    assert plan.config.detector.image.longer_side > 640


def test_objects_in_square_images_reach_the_size_that_is_promised() -> None:
    plan = plan_of(images(50, (1000, 1000), [44, 44]))
    image = plan.config.detector.image
    assert len(plan.config.base_model.last_conv_node) == 1
    assert 32 <= 44 * image.shorter_side / 1000 < 34
