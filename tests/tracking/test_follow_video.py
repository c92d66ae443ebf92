"""Videos from Python and from the command line."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from tiny import draw_image, trained_run

import frcnn
from frcnn.cli import main
from frcnn.tracking.video import probe, read_frames

FRAMES = 20


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red rectangle that moves to the right, and a blue one that stands."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(FRAMES):
        red = (4 + 3 * number, 8, 44 + 3 * number, 52)
        draw_image([("red", red), ("blue", (20, 60, 60, 92))], seed=number).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def clip(frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-framerate", "10", "-i", str(frames / "%d.png")]
    subprocess.run([*command, "-pix_fmt", "yuv420p", "-crf", "10", str(path)], check=True)
    return path


def test_each_frame_has_its_time_and_its_image(clip: Path) -> None:
    detector = frcnn.load(trained_run())
    found = list(detector.track(clip, threshold=0.2))
    assert [each.seconds for each in found] == pytest.approx([number / 10 for number in range(FRAMES)])
    assert all(each.image is not None and each.image.size == (128, 96) for each in found)
    assert all(each.tracker_id is not None and len(each.tracker_id) == len(each) for each in found)


def test_the_detections_are_those_of_predict(clip: Path) -> None:
    detector = frcnn.load(trained_run())
    for frame, detections in zip(
        read_frames(clip, every=5), detector.track(clip, threshold=0.05, every=5), strict=True
    ):
        alone = detector.predict(frame.image, threshold=0.05)
        assert detections.xyxy.tolist() == alone.xyxy.tolist()


def test_the_command_writes_a_video_json_lines_and_counts(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lines, counts = (tmp_path / name for name in ("out.mp4", "tracks.jsonl", "counts.csv"))
    arguments = ["--track", "--threshold", "0.1", "--out", str(out), "--json", str(lines), "--counts", str(counts)]
    assert main(["predict", str(trained_run()), str(clip), *arguments, "--count-line", "64,0,64,96"]) == 0
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [each["frame"] for each in written] == list(range(FRAMES))
    assert all("tracker_id" in each for frame in written for each in frame["detections"])
    assert probe(out)[:2] == (10, FRAMES)
    header, *rows = csv.reader(counts.read_text().splitlines())
    assert header == ["seconds", "tracker_id", "class", "place", "direction", "x", "y"]
    assert all(row[3] == "line 1" for row in rows)
    said = capsys.readouterr().out
    assert f"{FRAMES} frames, " in said
    assert "line 1: " in said


def test_a_folder_of_frames(frames: Path, tmp_path: Path) -> None:
    lines = tmp_path / "tracks.jsonl"
    options = ["--track", "--every", "3", "--json", str(lines), "--out", str(tmp_path / "out.mp4")]
    assert main(["predict", str(trained_run()), str(frames), *options]) == 0
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [each["frame"] for each in written] == list(range(0, FRAMES, 3))
    assert [Path(each["image"]).name for each in written[:2]] == ["0.png", "3.png"]


def test_a_truncated_video_gives_what_can_be_read(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut, lines = tmp_path / "whole.mp4", tmp_path / "cut.mp4", tmp_path / "tracks.jsonl"
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-i", str(clip), "-c", "copy", "-movflags", "faststart", str(whole)],
        check=True,
    )
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    options = ["--json", str(lines), "--out", str(tmp_path / "out.mp4")]
    assert main(["predict", str(trained_run()), str(cut), *options]) == 1
    assert 0 < len(lines.read_text().splitlines()) < FRAMES
    assert "cut.mp4: damaged or truncated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "none.mp4: no such video"),
        (["a.mp4", "b.jpg"], "with a video, name nothing else"),
        (["a.jpg", "--track"], "need one video, or one folder of frames"),
        (["rtsp://camera/1"], "frcnn opens addresses only if asked to"),
    ],
)
def test_wrong_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained_run()), *arguments]) == 2
    assert message in capsys.readouterr().err
