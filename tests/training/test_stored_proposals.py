"""Stored proposals, and their recall."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, write_tiny

from frcnn.config import DataSettings
from frcnn.data.augment import Augmentation
from frcnn.data.dataset import open_dataset
from frcnn.data.loader import load_batch
from frcnn.data.records import Records
from frcnn.fast.optimize import optimize
from frcnn.ops.boxes import rescale
from frcnn.ops.postprocess import select_proposals
from frcnn.training.stored_proposals import open_proposals, store_proposals, without_fillers


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return open_dataset(write_tiny(tmp_path_factory.mktemp("tiny") / "data"), DataSettings()).train


@pytest.fixture
def model() -> object:
    # inputs of half the size, so that input pixels and original pixels differ
    return tiny_model("detector.image.shorter_side=48", "detector.image.longer_side=64")


def test_stored_proposals_are_those_of_the_rpn_in_original_pixels(records: Records, model, tmp_path: Path) -> None:
    store_proposals(model, records, tmp_path / "stored.npy")
    stored = open_proposals(tmp_path / "stored.npy")
    model = optimize(model)
    settings = model.settings.detector
    assert stored.shape == (len(records), settings.train_proposals.post_nms_top_n, 4)
    assert isinstance(stored, np.memmap)
    for number, record in enumerate(records):
        batch = load_batch([record], model.classes, settings.resizing)
        with torch.no_grad():
            features = model.backbone(model.normalize(batch.images, batch.image_sizes))
            boxes, _, valid = select_proposals(
                model.rpn(features, tuple(batch.images.shape[-2:])),
                batch.image_sizes,
                batch.original_sizes,
                **settings.train_proposals.model_dump(),
                nms=model.nms,
                drop_small=settings.details.drop_small,
            )
        expected = rescale(boxes, batch.image_sizes, batch.original_sizes)[0, valid[0]]
        np.testing.assert_array_equal(without_fillers(stored[number]), expected.numpy())
        assert len(expected) > 0


@pytest.mark.parametrize("flip", [False, True])
def test_stored_proposals_are_transformed_like_the_ground_truth(records: Records, model, flip: bool) -> None:
    """If the ground truth itself is stored, flipping and scaling leave both the same."""
    batch = load_batch(
        records[:3],
        model.classes,
        model.settings.detector.resizing,
        augmentations=[Augmentation(flip=flip)] * 3,
        proposals=[record.boxes for record in records[:3]],
    )
    for proposals, target in zip(batch.proposals, batch.targets, strict=True):
        torch.testing.assert_close(proposals, target.boxes, rtol=0, atol=0)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"stored\.npy: the stored proposals are missing"):
        open_proposals(tmp_path / "stored.npy")


def test_the_recall_is_that_of_the_ground_truth(records: Records, model, tmp_path: Path) -> None:
    """An oracle that counts objects one by one."""
    recall = store_proposals(model, records, tmp_path / "stored.npy")
    stored = open_proposals(tmp_path / "stored.npy")

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
        common = max(width, 0) * max(height, 0)
        return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)

    for count, share in recall.items():
        covered = [
            any(overlap(box, proposal) >= 0.5 for proposal in without_fillers(stored[number])[:count])
            for number, record in enumerate(records)
            for box in record.boxes
        ]
        assert share == pytest.approx(sum(covered) / len(covered))
    assert set(recall) == {50, 100, 300}
