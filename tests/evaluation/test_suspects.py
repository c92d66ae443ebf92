"""Wrong labels are found: each kind by hand, and planted ones in many images."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import detections_of

from frcnn.data.records import make_record
from frcnn.evaluation.suspects import Suspect, SuspectKind, find_suspects
from frcnn.inference.results import Detections

CAT, DOG = (0.0, 0.0, 30.0, 30.0), (100.0, 0.0, 130.0, 30.0)
FAR = (200.0, 0.0, 230.0, 30.0)
AGAIN = (0.0, 0.0, 30.0, 29.0)
IMAGE = Path("data/a.jpg")


def suspects_of(
    labels: list[tuple[tuple[float, ...], str]], *found: tuple[str, float, tuple[float, ...]]
) -> list[Suspect]:
    """Those of an image. Another image has labels of both classes, which are ignored."""
    other = make_record(Path("b.jpg"), [(CAT, "cat"), (DOG, "dog")], ignore=[True, True])
    return find_suspects([detections_of(*found), Detections.empty(("cat", "dog"))], [make_record(IMAGE, labels), other])


BOTH = (("cat", 0.9, CAT), ("dog", 0.8, DOG))


@pytest.mark.parametrize(
    ("labels", "found", "expected"),
    [
        ([(CAT, "cat"), (DOG, "dog")], BOTH, []),
        ([(CAT, "cat")], BOTH, [(SuspectKind.MISSING, 0.8, "dog", None)]),
        ([(CAT, "cat"), (DOG, "cat")], BOTH, [(SuspectKind.CLASS, 0.8, "dog", DOG)]),
        ([(CAT, "cat"), ((110, 0, 140, 30), "dog")], BOTH, [(SuspectKind.PLACE, 0.4, "dog", (110, 0, 140, 30))]),
        (
            [(CAT, "cat"), (DOG, "dog"), ((0, 0, 30, 29), "cat")],
            BOTH,
            [(SuspectKind.TWICE, 0.967, "cat", (0, 0, 30, 29))],
        ),
        ([(CAT, "cat")], (("cat", 0.9, CAT), ("dog", 0.2, DOG)), []),  # not sure enough
        ([(CAT, "cat"), (DOG, "cat")], (("cat", 0.9, CAT),), [(SuspectKind.EXTRA, 0.9, "cat", DOG)]),
        ([(CAT, "cat"), (DOG, "cat")], (("cat", 0.9, CAT), ("cat", 0.3, DOG)), [(SuspectKind.EXTRA, 0.63, "cat", DOG)]),
        ([(CAT, "cat")], (), []),  # the detector sees nothing
        ([(CAT, "cat")], (("cat", 0.75, CAT),), []),
        # A weak detection beside the label, or of another class, explains nothing.
        (
            [(CAT, "cat"), (DOG, "cat")],
            (("cat", 1.0, DOG), ("cat", 0.02, (20, 0, 50, 30))),
            [(SuspectKind.EXTRA, 1.0, "cat", CAT)],
        ),
        ([(CAT, "cat"), (DOG, "cat")], (("cat", 1.0, DOG), ("dog", 0.1, CAT)), [(SuspectKind.EXTRA, 0.9, "cat", CAT)]),
        # A neighbor without a label does not make a label that fits badly placed.
        (
            [(CAT, "cat")],
            (("cat", 0.95, (20, 0, 50, 30)), ("cat", 0.9, CAT)),
            [(SuspectKind.MISSING, 0.95, "cat", None)],
        ),
        # A detection that fits a label of its own class says nothing about another one.
        ([(CAT, "cat"), (AGAIN, "dog")], (("dog", 0.95, AGAIN), ("cat", 0.5, CAT)), []),
        # Of two detections in one place, one label is missing.
        ([], (("cat", 0.9, CAT), ("dog", 0.6, (1, 0, 30, 30))), [(SuspectKind.MISSING, 0.9, "cat", None)]),
    ],
)
def test_each_kind(labels, found, expected) -> None:  # type: ignore[no-untyped-def]
    suspects = suspects_of(labels, *found)
    assert [(each.kind, round(each.score, 3), each.class_name, each.label) for each in suspects] == expected


def test_classes_that_nobody_labeled_are_not_judged() -> None:
    assert find_suspects([detections_of(*BOTH)], [make_record(IMAGE, [])]) == []
    assert find_suspects([detections_of(*BOTH)], [make_record(IMAGE, [(DOG, "dog")])]) == []


def test_a_label_without_object_is_suspicious_where_the_detector_sees_others() -> None:
    """Images 1 and 2 have three cats each: the detector sees two of the first image and none of the second. Image 3 has
    a cat, which it sees, and a dog, which it does not see. The ignored cat does not count."""
    cats = [(CAT, "cat"), (DOG, "cat"), (FAR, "cat")]
    records = [make_record(Path(f"{number}.jpg"), cats) for number in (1, 2)]
    records.append(make_record(Path("3.jpg"), [(CAT, "cat"), (DOG, "dog"), (FAR, "cat")], ignore=[False, False, True]))
    found = [
        detections_of(("cat", 0.8, CAT), ("cat", 0.6, DOG)),
        Detections.empty(("cat",)),
        detections_of(("cat", 1, CAT)),
    ]
    suspects = find_suspects(found, records)
    expected = {
        ("1.jpg", FAR): (0.8 + 0.6 + 0 + 0 + 0 + 1) / 6,  # at the other cats; at those of the image, 0.7
    }  # it saw no dog, and nothing in the second image
    assert {(str(each.image), each.label): each.score for each in suspects} == pytest.approx(expected)
    assert {each.kind for each in suspects} == {SuspectKind.EXTRA}


def test_the_box_is_what_the_detector_proposes() -> None:
    (suspect,) = suspects_of([(CAT, "cat"), ((110, 0, 140, 30), "dog")], *BOTH)
    assert suspect.box == DOG
    content = json.loads(json.dumps(suspect.to_dict(Path("data"))))
    assert content["image"] == "a.jpg"
    assert content["box"] == list(DOG)
    assert content["label"] == [110, 0, 140, 30]
    assert (content["kind"], content["class"]) == ("badly placed box", "dog")


def test_the_image_is_named_as_it_is_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the target of a link, which may be anywhere on the computer."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "7.jpg").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "0.jpg").symlink_to(tmp_path / "elsewhere" / "7.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    suspect = Suspect(Path(), SuspectKind.EXTRA, 1, (0, 0, 1, 1), "cat", None, "")
    for root in ("data", "link", tmp_path / "data", tmp_path / "link"):
        for image in (Path(root) / "0.jpg", tmp_path / "data" / "0.jpg"):
            assert suspect._replace(image=image).to_dict(Path(root))["image"] == "0.jpg"
    other = suspect._replace(image=tmp_path / "elsewhere" / "7.jpg")
    assert other.to_dict(Path("data"))["image"] == "../elsewhere/7.jpg"


def test_ignored_objects_are_not_judged_and_explain_detections() -> None:
    record = make_record(IMAGE, [(CAT, "cat"), (DOG, "dog")], ignore=[True, True])
    assert find_suspects([detections_of(("cat", 0.9, CAT))], [record]) == []


def test_what_is_inside_a_region_to_be_ignored_has_no_missing_label() -> None:
    """A crowd is much larger than each of its objects, so its IoU with them is low."""
    crowd = make_record(IMAGE, [((0, 0, 300, 300), "cat")], ignore=[True])
    found = detections_of(("cat", 0.9, CAT), ("dog", 0.8, DOG), ("cat", 0.7, (290, 0, 330, 30)))
    other = make_record(Path("b.jpg"), [(FAR, "dog")])
    suspects = find_suspects([found, Detections.empty(("cat", "dog"))], [crowd, other])
    assert [each.class_name for each in suspects] == ["dog", "cat"]


def test_planted_errors_are_the_first_suspects() -> None:
    """A detector that is right, but for small noise: the planted errors come before everything else."""
    rng = np.random.default_rng(0)
    records, detections, planted = [], [], set()
    for number in range(60):
        path = Path(f"{number}.jpg")
        labels, found = [], []
        for place in range(5):
            x, y = 200.0 * place + rng.uniform(0, 50), rng.uniform(0, 50)
            box, name = (x, y, x + 60, y + 60), "ab"[rng.integers(2)]
            found.append((name, float(rng.uniform(0.7, 1)), tuple(value + rng.normal(0, 2) for value in box)))
            error = rng.integers(0, 15)
            if error == 0:
                planted.add((path, place))
                continue
            if error == 1:
                planted.add((path, place))
                labels.append((box, "ba"["ab".index(name)]))
            elif error == 2:
                planted.add((path, place))
                labels.append(((x + 20, y + 20, x + 80, y + 80), name))
            else:
                labels.append((box, name))
        found.append(("a", float(rng.uniform(0, 0.25)), (900.0, 200.0, 950.0, 250.0)))  # noise
        records.append(make_record(path, labels))
        detections.append(detections_of(*sorted(found, key=lambda each: -each[1])))
    suspects = find_suspects(detections, records)
    first = {(each.image, int((each.box[0] + 30) // 200)) for each in suspects[: len(planted)]}
    assert len(first & planted) >= 0.9 * len(planted)


def test_no_labels_and_no_detections() -> None:
    assert find_suspects([Detections.empty(("a",))], [make_record(IMAGE, [])]) == []
