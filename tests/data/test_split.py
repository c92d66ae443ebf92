"""How splits are drawn, and which images are near-duplicates."""

import itertools
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from PIL import Image, ImageEnhance
from tiny import draw_image, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset, read_annotations
from frcnn.data.discover import discover
from frcnn.data.near_duplicates import MAX_DIFFERENCE, ImageHash, hash_image, near_duplicate_groups
from frcnn.data.split import stratified

FRACTIONS = (0.8, 0.1, 0.1)


@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=3), min_size=3, max_size=40),
    st.integers(0, 5),
    st.lists(st.integers(0, 30), min_size=40, max_size=40),
)
def test_every_image_is_in_one_part_and_groups_stay_together(names, seed: int, group_of: list[int]) -> None:
    group = np.array(group_of[: len(names)])
    parts = stratified(names, group, FRACTIONS, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(names)))
    assert all((np.diff(part) > 0).all() for part in parts)
    for first, second in itertools.combinations(parts, 2):
        assert not set(group[first]) & set(group[second])
    if len(set(group.tolist())) >= 3:
        assert all(len(part) for part in parts)
    again = stratified(names, group, FRACTIONS, seed=seed)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))


def test_every_class_is_shared_out_as_the_images_are() -> None:
    """Also the rare one, and images without objects."""
    names = [("common",)] * 700 + [("common", "rare")] * 20 + [()] * 80 + [("other",)] * 200
    order = np.random.default_rng(0).permutation(len(names))
    names = [names[place] for place in order]
    parts = stratified(names, np.arange(len(names)), FRACTIONS, seed=1)
    assert [len(part) for part in parts] == [800, 100, 100]
    for kind, total in ((("common", "rare"), 20), ((), 80), (("other",), 200)):
        counts = [sum(names[place] == kind for place in part) for part in parts]
        assert counts == pytest.approx([total * fraction for fraction in FRACTIONS], abs=1)
    others = stratified(names, np.arange(len(names)), FRACTIONS, seed=2)
    assert parts[1].tolist() != others[1].tolist()


def test_a_class_with_one_image_stays_in_training() -> None:
    names = [("common",)] * 9 + [("only",)]
    for seed in range(5):
        train, *_ = stratified(names, np.arange(10), (0.7, 0.3), seed=seed)
        assert 9 in train


def test_a_part_of_no_size_gets_nothing() -> None:
    train, val, test = stratified([("a",)] * 10, np.arange(10), (0.5, 0.0, 0.5), seed=0)
    assert (len(train), len(val), len(test)) == (5, 0, 5)


# -------------------------------------------------------------------------------------------------------------- alike


@pytest.fixture
def photo() -> Image.Image:
    """Something with large shapes, as photos have."""
    return draw_image([("red", (10, 12, 60, 70)), ("blue", (50, 30, 120, 80))], size=(384, 512)).resize((512, 384))


def test_copies_are_alike_and_others_are_not(tmp_path: Path, photo: Image.Image) -> None:
    photo.save(tmp_path / "0.png")
    photo.save(tmp_path / "1.png")
    photo.save(tmp_path / "2.jpg", quality=60)
    photo.resize((300, 225)).save(tmp_path / "3.png")
    ImageEnhance.Brightness(photo).enhance(1.01).save(tmp_path / "4.png")
    draw_image([("red", (70, 12, 120, 70)), ("blue", (5, 30, 50, 80))]).save(tmp_path / "5.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "6.png")
    (tmp_path / "7.png").write_text("no image")
    looks = [hash_image(path) for path in sorted(tmp_path.iterdir())]
    assert looks[7] is None
    assert looks[0].digest == looks[1].digest != looks[2].digest  # type: ignore[union-attr]
    assert near_duplicate_groups(looks).tolist() == [0, 0, 0, 0, 0, 5, 6, 7]


@given(st.integers(0, 2**32 - 1), st.floats(0, 6), st.integers(0, 40))
def test_none_that_are_alike_are_missed(seed: int, spread: float, base: int) -> None:
    """Against all pairs, one by one."""
    random = np.random.default_rng(seed)
    first = random.integers(0, 256 - base, (16, 16)) + base
    images = [(first + random.normal(random.normal(0, spread), spread, (16, 16))).clip(0, 255) for _ in range(9)]
    looks = [ImageHash(b"", image.astype(np.uint8)) for image in images]
    expected = list(range(10))
    for _ in range(9):  # until every chain is one group
        for one, other in itertools.combinations(range(9), 2):
            if np.abs(looks[one].gray.astype(int) - looks[other].gray).mean() <= MAX_DIFFERENCE:
                expected[one] = expected[other] = min(expected[one], expected[other])
    assert near_duplicate_groups([*looks, None]).tolist() == expected


def test_flat_images_must_be_closer() -> None:
    """A small thing on a plain ground is not the same thing elsewhere."""
    ground = np.full((16, 16), 100, np.uint8)
    here, there = ground.copy(), ground.copy()
    here[2:4, 2:4], there[10:12, 10:12] = 160, 160
    assert near_duplicate_groups([ImageHash(b"", here), ImageHash(b"", there)]).tolist() == [0, 1]
    assert near_duplicate_groups([ImageHash(b"", here), None, ImageHash(b"", here + 1)]).tolist() == [0, 1, 0]


def test_frames_of_a_video_are_one_group_in_little_time() -> None:
    random = np.random.default_rng(0)
    scene = random.integers(0, 200, (16, 16))
    frames = [ImageHash(b"", (scene + random.integers(0, 3, (16, 16))).astype(np.uint8)) for _ in range(3000)]
    ground = np.eye(16, dtype=np.uint8) * 60 + 50
    slow = [ImageHash(b"", ground + np.uint8(number // 3)) for number in range(300)]
    start = time.process_time()
    groups = near_duplicate_groups([*frames, *slow]).tolist()
    assert time.process_time() - start < 10
    assert groups == [0] * 3000 + [3000] * 300  # the first and the last slow frame are unlike


# ---------------------------------------------------------------------------------------------------------- data sets


def test_images_that_are_alike_are_never_on_both_sides(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = ["path,x1,y1,x2,y2,label"]
    for number in range(8):
        box = (8 + 6 * number, 10, 60 + 6 * number, 80)
        for copy in range(3):
            draw_image([("red", box)], seed=copy).save(data / f"{number}-{copy}.png")
            rows.append(f"{number}-{copy}.png,{','.join(map(str, box))},red")
    (data / "boxes.csv").write_text("\n".join(rows))
    settings = DataSettings(split=(0.5, 0.25, 0.25))
    splits = read_annotations(discover(data, settings), settings, lambda problem: None)
    motifs = [{record.image.stem[0] for record in records} for records in splits.values()]
    assert [len(records) for records in splits.values()] == [12, 6, 6]
    assert [len(motif) for motif in motifs] == [4, 2, 2]


def test_a_split_is_for_data_that_has_none(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    with pytest.raises(ValueError, match=r"the data has splits \(train, test\); leave out data\.split"):
        open_dataset(data, DataSettings(split=FRACTIONS))
    for shares in ((0.5, 0.1, 0.1), (0.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match=r"data\.split .*must sum to 1, and the one for train must not be 0"):
            DataSettings(split=shares)


def test_images_that_are_all_alike_cannot_be_shared_out(tmp_path: Path) -> None:
    rows = ["path,x1,y1,x2,y2,label"]
    for number in range(10):
        draw_image([("red", (10, 10, 60, 80))], seed=number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,10,10,60,80,red")
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    with pytest.raises(ValueError, match=r"10 images cannot be split into 3 parts, because near-duplicates"):
        open_dataset(tmp_path, DataSettings(split=FRACTIONS))
