"""Proposals that are made once and kept, and how good they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_detector, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import load_batch
from frcnn.data.records import Records
from frcnn.ops.boxes import rescale
from frcnn.ops.selection import select_proposals
from frcnn.training.proposals import keep_proposals, open_proposals, without_fillers


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return open_dataset(write_tiny(tmp_path_factory.mktemp("tiny") / "data"), DataSettings()).train


@pytest.fixture
def detector() -> object:
    # inputs of half the size, so that input pixels and original pixels differ
    return tiny_detector("detector.image.shorter_side=48", "detector.image.longer_side=64")


def test_what_is_kept_is_what_the_rpn_says_in_original_pixels(records: Records, detector, tmp_path: Path) -> None:
    keep_proposals(detector, records, tmp_path / "kept.npy")
    kept = open_proposals(tmp_path / "kept.npy")
    settings = detector.config.detector
    assert kept.shape == (len(records), settings.train_proposals.post_nms_top_n, 4)
    assert isinstance(kept, np.memmap)
    for number, record in enumerate(records):
        batch = load_batch([record], detector.classes, settings.image)
        with torch.no_grad():
            features = detector.backbone(detector.normalize(batch.images, batch.image_sizes))
            boxes, _, valid = select_proposals(
                detector.rpn(features, tuple(batch.images.shape[-2:])),
                batch.image_sizes,
                batch.original_sizes,
                **settings.train_proposals.model_dump(),
            )
        expected = rescale(boxes, batch.image_sizes, batch.original_sizes)[0, valid[0]]
        np.testing.assert_array_equal(without_fillers(kept[number]), expected.numpy())
        assert len(expected) > 0


@pytest.mark.parametrize("flip", [False, True])
def test_kept_proposals_go_the_way_of_the_ground_truth(records: Records, detector, flip: bool) -> None:
    """If the ground truth itself is kept, flipping and scaling leave both the same."""
    batch = load_batch(
        records[:3],
        detector.classes,
        detector.config.detector.image,
        flip=flip,
        proposals=[record.boxes for record in records[:3]],
    )
    for proposals, target in zip(batch.proposals, batch.targets, strict=True):
        torch.testing.assert_close(proposals, target.boxes, rtol=0, atol=0)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"kept\.npy: the kept proposals are gone"):
        open_proposals(tmp_path / "kept.npy")


def test_the_recall_is_that_of_the_ground_truth(records: Records, detector, tmp_path: Path) -> None:
    """An oracle that counts objects one by one."""
    recall = keep_proposals(detector, records, tmp_path / "kept.npy")
    kept = open_proposals(tmp_path / "kept.npy")

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        common = max(width, 0) * max(height, 0)
        return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)

    for count, share in recall.items():
        found = [
            any(overlap(box, proposal) >= 0.5 for proposal in without_fillers(kept[number])[:count])
            for number, record in enumerate(records)
            for box in record.boxes
        ]
        assert share == pytest.approx(sum(found) / len(found))
    assert set(recall) == {50, 100, 300}
