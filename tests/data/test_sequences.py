"""Annotations of videos, which number their frames: MOT challenge and UA-DETRAC."""

from pathlib import Path

import pytest
from data.layouts import put
from data.reading import read_folder
from PIL import Image

from frcnn.data.problems import ProblemKind


def put_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(folder / name)


def found(folder: Path, split: str = "all") -> tuple[dict[str, list[tuple[str, list[float], bool]]], list[ProblemKind]]:
    splits, problems = read_folder(folder)
    objects = {
        record.image.relative_to(folder).as_posix(): list(
            zip(record.class_names, record.boxes.tolist(), record.ignore.tolist(), strict=True)
        )
        for record in splits[split]
    }
    return objects, [problem.kind for problem in problems]


def test_classes_and_flags_of_mot_challenge(tmp_path: Path) -> None:
    put_images(tmp_path, "train/A/img1/000001.jpg", "train/A/img1/000002.jpg", "train/A/img1/000003.jpg")
    lines = ["1,1,10,20,30,40,1,1,1", "2,1,11,20,30,40,1,1,0.5", "1,2,1,2,3,4,0,12,0.2"]
    put(tmp_path / "train/A/gt/gt.txt", "\n".join(lines) + "\n")
    put(tmp_path / "train/A/det/det.txt", "1,-1,1,2,3,4,0.9,-1,-1,-1\n")
    put_images(tmp_path, "test/B/img1/000001.jpg")
    put(tmp_path / "test/B/det/det.txt", "1,-1,1,2,3,4,0.9,-1,-1,-1\n")
    objects, kinds = found(tmp_path, "train")
    assert objects == {
        "train/A/img1/000001.jpg": [("pedestrian", [10, 20, 40, 60], False), ("reflection", [1, 2, 4, 6], True)],
        "train/A/img1/000002.jpg": [("pedestrian", [11, 20, 41, 60], False)],
        "train/A/img1/000003.jpg": [],
    }
    assert not kinds


@pytest.mark.parametrize(("columns", "name"), [("-1,-1,-1", "object"), ("4,0,1", "car"), ("-7.5,3.25,0.5", "object")])
def test_ten_columns(columns: str, name: str, tmp_path: Path) -> None:
    """MOT15 has a place in the world, or -1; VisDrone's videos have a class."""
    put_images(tmp_path, "sequences/uav_1_v/0000001.jpg")
    put(tmp_path / "annotations/uav_1_v.txt", f"1,1,10,20,30,40,1,{columns}\n1,2,5,5,9,9,0,{columns}\n")
    objects, _ = found(tmp_path)
    assert objects == {"sequences/uav_1_v/0000001.jpg": [(name, [10, 20, 40, 60], False), (name, [5, 5, 14, 14], True)]}


def test_names_of_frames_may_count_from_zero(tmp_path: Path) -> None:
    put_images(tmp_path, "img1/frame_000000.png", "img1/frame_000001.png")
    put(tmp_path / "gt/labels.txt", "cat\ndog\n")
    put(tmp_path / "gt/gt.txt", "1,1,10,20,30,40,1,1,1.0\n2,1,11,20,30,40,1,2,1.0\n")
    objects, _ = found(tmp_path)
    assert [one[0][0] for one in objects.values()] == ["cat", "dog"]


def test_what_is_wrong_in_a_sequence_is_reported(tmp_path: Path) -> None:
    put_images(tmp_path, "A/img1/1.png", "A/img1/2.png")
    put(tmp_path / "A/gt/gt.txt", "1,1,10,20,30,40,1,1,1\n1,2,a\n7,1,10,20,30,40,1,1,1\n")
    put(tmp_path / "B/gt/gt.txt", "1,1,10,20,30,40,1,1,1\n")  # without images
    with pytest.raises(ValueError, match="no annotation file has a known format"):
        read_folder(tmp_path)
    put(tmp_path / "A/gt/gt.txt", "1,1,10,20,30,40,1,1,1\n7,1,10,20,30,40,1,1,1\n")
    objects, kinds = found(tmp_path)
    assert list(objects) == ["A/img1/1.png", "A/img1/2.png"]
    assert kinds == [ProblemKind.MISSING_IMAGE]


@pytest.mark.parametrize("line", ["1,1,10,20,30,40,0.87,-1,-1,-1", "1,-1,10,20,30,40,1,-1,-1,-1"])
def test_detections_are_no_annotations(line: str, tmp_path: Path) -> None:
    put_images(tmp_path, "A/1.png")
    put(tmp_path / "results/A.txt", f"{line}\n")
    with pytest.raises(ValueError, match="no annotation file has a known format"):
        read_folder(tmp_path)


@pytest.mark.parametrize("line", ["0,0.1,0.1,0.5,0.1,0.5,0.6,0.1,0.6", "0, 10, 8, 50, 8, 50, 48, 10, 48"])
def test_four_corners_with_commas_are_of_yolo(line: str, tmp_path: Path) -> None:
    put_images(tmp_path, "a.png")
    put(tmp_path / "a.txt", f"{line}\n")
    objects, _ = found(tmp_path)
    assert objects == {"a.png": [("0", [10, 8, 50, 48], False)]}


DETRAC = """<?xml version="1.0" encoding="utf-8"?>
<sequence name="MVI_1"><ignored_region><box left="1" top="2" width="30" height="10"/></ignored_region>
<frame density="1" num="1"><target_list><target id="1"><box left="10" top="20" width="30" height="40"/>
<attribute vehicle_type="car"/></target><target id="2"><box left="x"/><attribute vehicle_type="van"/></target>
</target_list></frame><frame density="0" num="9"><target_list/></frame></sequence>
"""


def test_ua_detrac(tmp_path: Path) -> None:
    put_images(tmp_path, "images/MVI_1/img00001.jpg", "images/MVI_2/img00001.jpg")
    put(tmp_path / "xml/MVI_1.xml", DETRAC)
    objects, kinds = found(tmp_path)
    assert objects == {
        "images/MVI_1/img00001.jpg": [("car", [10, 20, 40, 60], False), ("ignored region", [1, 2, 31, 12], True)]
    }
    assert kinds == [ProblemKind.INVALID_OBJECT, ProblemKind.MISSING_IMAGE]
