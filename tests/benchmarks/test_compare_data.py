"""What is timed of reading photos is the same photos, one by one."""

from pathlib import Path

import pytest
import torch
from compare.data import reading, training, write_photos
from compare.timing import OURS

from frcnn.resizing import Resizing
from frcnn.types import Batch

SIZE = (192, 256)
SETTINGS = Resizing(resize="shorter_side", shorter_side=96, longer_side=128)


def test_reading_is_timed_beside_torchvisions(tmp_path: Path) -> None:
    row = reading(write_photos(tmp_path, SIZE), SIZE, SETTINGS, rounds=2)
    assert [len(seconds) for seconds in row.seconds.values()] == [2, 2]
    assert row.check.startswith("boxes; gray levels within 0.")


@pytest.mark.parametrize(
    ("size", "antialias", "message"),
    [((192, 512), True, "not close"), (SIZE, False, "gray levels differ")],
)
def test_what_differs_is_not_timed(tmp_path: Path, size: tuple[int, int], antialias: bool, message: str) -> None:
    settings = SETTINGS._replace(antialias=antialias)
    with pytest.raises(AssertionError, match=message):
        reading(write_photos(tmp_path, SIZE), size, settings, rounds=1)


def test_a_step_is_made_on_every_photo_in_both_ways(tmp_path: Path) -> None:
    records = write_photos(tmp_path, SIZE)
    names: list[str] = []

    def step(batch: Batch) -> None:
        names.extend(batch.image_names)

    row = training(records, SIZE, SETTINGS, step, torch.device("cpu"), rounds=1)
    assert names == [str(record.image) for record in records] * 8  # two ways, two calls, two rounds
    assert len(row.seconds[OURS]) == len(row.seconds["photos at hand"]) == 1
