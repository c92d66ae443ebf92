"""Records in arrays are the records that went in."""

from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import strategies  # noqa: F401  (its profile)
from hypothesis import given
from hypothesis.extra.numpy import arrays

from frcnn.data.records import Record, Records

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)


@st.composite
def records(draw: st.DrawFn) -> Record:
    count = draw(st.integers(0, 4))
    return Record(
        Path("data") / draw(st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1)),
        draw(arrays(np.float32, (count, 4), elements=st.floats(-1e6, 1e6, width=32))),
        tuple(draw(st.lists(NAMES, min_size=count, max_size=count))),
        draw(arrays(bool, count)),
        draw(st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))),
    )


def assert_same(first: Record, second: Record) -> None:
    assert (first.image, first.class_names, first.size) == (second.image, second.class_names, second.size)
    np.testing.assert_array_equal(first.boxes, second.boxes, strict=True)
    np.testing.assert_array_equal(first.ignore, second.ignore, strict=True)


@given(st.lists(records(), max_size=6))
def test_what_goes_in_comes_out(originals: list[Record]) -> None:
    kept = Records.of(originals)
    assert len(kept) == len(originals)
    for number, (record, original) in enumerate(zip(kept, originals, strict=True)):
        assert_same(record, original)
        assert_same(kept[number - len(kept)], original)


def test_slices_and_choices_are_records_too() -> None:
    kept = Records.of(
        Record(Path(f"{i}.jpg"), np.full((i, 4), i, np.float32), ("a",) * i, np.zeros(i, bool)) for i in range(5)
    )
    assert [record.image.stem for record in kept[1:4]] == ["1", "2", "3"]
    assert [record.image.stem for record in kept[1:4][1:]] == ["2", "3"]
    assert [record.image.stem for record in kept.take([4, 0]).take([0])] == ["4"]
    assert len(kept.take([4, 0])[0].boxes) == 4
    assert not kept[:0]
    with pytest.raises(IndexError):
        kept[5]


def test_a_changed_copy_does_not_change_the_data() -> None:
    kept = Records.of([Record(Path("a.jpg"), np.ones((1, 4), np.float32), ("a",), np.zeros(1, bool))])
    kept[0].boxes[:] = 7
    assert (kept[0].boxes == 1).all()


def test_a_hundred_thousand_images_cost_a_few_megabytes() -> None:
    box = np.array([[1, 2, 3, 4]], np.float32)
    kept = Records.of(Record(Path(f"images/{i:06}.jpg"), box, ("thing",), np.zeros(1, bool)) for i in range(100_000))
    arrays_ = kept._arrays
    size = len(arrays_.paths) + sum(part.nbytes for part in arrays_ if isinstance(part, np.ndarray))
    assert size < 70 * len(kept)


@given(st.lists(records(), max_size=6), st.randoms(use_true_random=False))
def test_counts_are_those_of_the_chosen(originals: list[Record], random) -> None:
    chosen = random.sample(range(len(originals)), k=len(originals) // 2)
    kept = Records.of(originals).take(chosen)
    assert kept.box_counts.tolist() == [len(originals[place].class_names) for place in chosen]
    expected = Counter(name for place in chosen for name in originals[place].class_names)
    assert kept.class_counts == dict(sorted(expected.items()))


@given(st.lists(records(), max_size=6))
def test_records_of_arrays_are_the_same(originals: list[Record]) -> None:
    names = sorted({name for record in originals for name in record.class_names})
    kept = Records.of_arrays(
        [str(record.image) for record in originals],
        np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in originals)]),
        np.array([names.index(name) for record in originals for name in record.class_names], np.int64),
        names,
        np.array([len(record.class_names) for record in originals], np.int64),
        ignore=np.concatenate([np.zeros(0, bool), *(record.ignore for record in originals)]),
        sizes=np.array([record.size or (0, 0) for record in originals], np.int64).reshape(-1, 2),
    )
    for record, original in zip(kept, originals, strict=True):
        assert_same(record, original)
