"""Videos from Python and from the command line."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served_folder import served
from tiny import draw_image, trained_run

import frcnn
from frcnn.cli import main
from frcnn.cli.video import _counts_file
from frcnn.inference.results import Detections
from frcnn.tracking import track_video
from frcnn.tracking.counting import Count
from frcnn.tracking.ffmpeg import probe
from frcnn.tracking.reading import Frame, read_frames
from frcnn.tracking.track_video import FrameDetections, detect_frames

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
    options = ["-pix_fmt", "yuv420p", "-crf", "10", "-movflags", "faststart"]
    subprocess.run([*command, *options, str(path)], check=True)
    return path


@pytest.fixture
def _sharp_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that sees the red and the blue pixels."""

    def predict_each(runtime: object, images: Iterator[Image.Image], **rules: object) -> Iterator[Detections]:
        for image in images:
            boxes = []
            for color, others in ((0, (1, 2)), (2, (0, 1))):
                pixels = np.asarray(image).astype(int)
                rows, columns = np.nonzero((pixels[..., color] > 130) & (pixels[..., others].max(axis=2) < 110))
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores = np.array([0.9, 0.8], np.float32)
            yield Detections(np.array(boxes, np.float32), scores, np.array([0, 1]), ("red", "blue"), image=image)

    monkeypatch.setattr(track_video, "predict_each", predict_each)


@pytest.mark.usefixtures("_sharp_eyes")
def test_each_frame_has_its_time_and_its_image(clip: Path) -> None:
    detector = frcnn.load(trained_run())
    found = list(detector.track(clip, threshold=0.2))
    assert [each.seconds for each in found] == pytest.approx([number / 10 for number in range(FRAMES)])
    assert all(each.image is not None and each.image.size == (128, 96) for each in found)
    reds = [each.tracker_id[each.class_name == "red"].tolist() for each in found if each.tracker_id is not None]
    assert reds == [[reds[0][0]]] * FRAMES  # one, which keeps its identity


def test_the_detections_are_those_of_predict(clip: Path) -> None:
    detector = frcnn.load(trained_run())
    for frame, detections in zip(
        read_frames(clip, every=5), detector.track(clip, threshold=0.05, every=5), strict=True
    ):
        alone = detector.predict(frame.image, threshold=0.05)
        assert len(alone)
        assert detections.xyxy.tolist() == alone.xyxy.tolist()


@pytest.mark.usefixtures("_sharp_eyes")
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
    assert header == ["frame", "seconds", "tracker_id", "class", "place", "direction", "x", "y"]
    reds = {each["tracker_id"] for frame in written for each in frame["detections"] if each["class"] == "red"}
    assert len(reds) == 1
    ((frame, seconds, number, *what, _, _),) = rows
    assert (float(seconds), int(number)) == (int(frame) / 10, *reds)
    assert what == ["red", "line 1", "right to left"]
    said = capsys.readouterr().out
    assert f"{FRAMES} frames, " in said
    assert "line 1: 1 red right to left" in said


def test_a_class_name_in_counts_is_no_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    with ExitStack() as stack:
        write = _counts_file(tmp_path / "counts.csv", stack)
        write(Count(0, None, 1, "=1+1", "line 1", "left to right", 2, 3))
    assert (tmp_path / "counts.csv").read_text().splitlines()[1] == "0,,1,'=1+1,line 1,left to right,2,3"


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
        (["b.jpg", "a.mp4"], "a.mp4: is a video; predict one video per command"),
        (["a.mp4", "--out", "a.mp4"], "--out a.mp4: is the video itself and would be overwritten"),
        (["a.mp4", "--out", "results.v2"], "--out results.v2: must be a folder, or a video file such as annotated.mp4"),
        (["a.jpg", "--allow-urls"], "--allow-urls: a.jpg is not the address of a video"),
        (["a.mp4", "--count-line", "1,2,3"], "line 1,2,3: must be x1,y1,x2,y2"),
        (["a.mp4", "--overlap", "0.5"], "overlap: 0.5 is a fraction of a tile"),
        (["a.mp4", "--counts", "a.csv"], "nothing is counted"),
        (["a.jpg", "--track"], "need one video, or one folder of frames"),
        (["rtsp://camera/1"], "frcnn opens addresses only if asked to"),
    ],
)
def test_wrong_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained_run()), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_points_are_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for points in ("1,2,nan,4", "1,2,inf,4", "1,a"):
        with pytest.raises(SystemExit):
            main(["predict", "model", "a.mp4", "--count-line", points])
        assert f"'{points}' must be numbers separated by commas, in pixels" in capsys.readouterr().err


def test_gif_images_stay_images(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.gif", "b.gif"):
        Image.open(frames / "0.png").save(tmp_path / name)
    command = ["predict", str(trained_run()), str(tmp_path / "a.gif"), str(tmp_path / "b.gif"), "--out", str(tmp_path)]
    assert main(command) == 0
    assert sorted(each.name for each in tmp_path.glob("*.jpg")) == ["a-detections.jpg", "b-detections.jpg"]


@pytest.mark.usefixtures("_sharp_eyes")
def test_standard_output_has_a_line_per_frame_and_a_zone_counts(clip: Path, tmp_path: Path, capfd) -> None:
    zone = ["--count-zone", "64,0,128,0,128,96,64,96", "--every", "2", "--threshold", "0.1", "--json", "-"]
    assert main(["predict", str(trained_run()), str(clip), *zone, "--out", str(tmp_path)]) == 0
    said = capfd.readouterr()
    assert [json.loads(line)["frame"] for line in said.out.splitlines()] == list(range(0, FRAMES, 2))
    assert "zone 1: 1 red in" in said.err
    assert (tmp_path / "clip-detections.mp4").exists()


def test_the_video_is_never_overwritten(clip: Path, tmp_path: Path) -> None:
    copied = shutil.copy(clip, tmp_path / "clip.mp4")
    content = copied.read_bytes()
    assert main(["predict", str(trained_run()), str(copied), "--out", str(copied)]) == 2
    assert main(["predict", str(trained_run()), str(copied), "--out", str(tmp_path)]) == 0
    assert copied.read_bytes() == content


def test_a_frame_that_cannot_be_read_is_left_out(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(frames, tmp_path / "frames")
    (folder / "3.png").write_bytes(b"damaged")
    lines = tmp_path / "tracks.jsonl"
    options = ["--track", "--json", str(lines), "--out", str(tmp_path / "out.mp4")]
    assert main(["predict", str(trained_run()), str(folder), *options]) == 1
    written = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert written == [number for number in range(FRAMES) if number != 3]
    assert "skipped 1 frame:\n" in (said := capsys.readouterr().err)
    assert "3.png" in said


def test_a_video_that_cannot_be_written_says_why(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("frcnn.tracking.ffmpeg.VIDEO_SUFFIXES", {".xyz", ".mp4"})
    assert main(["predict", str(trained_run()), str(clip), "--out", str(tmp_path / "a.xyz")]) == 2
    assert "ffmpeg cannot write it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_writes_what_was_seen(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **rules: object) -> Iterator[FrameDetections]:
        for number, frame in enumerate(detect_frames(*arguments, **rules)):  # type: ignore[arg-type]
            if number == 8:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(track_video, "detect_frames", interrupted)
    lines, out = tmp_path / "tracks.jsonl", tmp_path / "out.mp4"
    assert main(["predict", str(trained_run()), str(clip), "--json", str(lines), "--out", str(out)]) == 130
    assert 1 <= len(lines.read_text().splitlines()) <= 8
    assert len(list(read_frames(out))) == len(lines.read_text().splitlines())


@pytest.mark.parametrize("is_live", [True, False])
def test_results_of_a_camera_come_before_its_next_frame(
    is_live: bool, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def read_slowly(*arguments: object, **options: object) -> Iterator[Frame]:
        for frame in read_frames(*arguments, **options):  # type: ignore[arg-type]
            read.append(frame.number)
            yield frame

    monkeypatch.setattr(track_video, "read_frames", read_slowly)
    monkeypatch.setattr(track_video, "is_live", lambda source: is_live)
    runtime = frcnn.load(trained_run()).runtime
    ahead = [len(read) - 1 - frame.number for frame in detect_frames(runtime, clip, threshold=0.5)]
    assert len(ahead) == FRAMES
    assert (max(ahead) == 0) == is_live


def test_a_threshold_that_is_none_is_refused(clip: Path) -> None:
    with pytest.raises(ValueError, match="threshold: 50 must be a number from 0 to 1"):
        frcnn.load(trained_run()).track(clip, threshold=50)


def test_an_address_is_tracked(clip: Path) -> None:
    detector = frcnn.load(trained_run())
    with served(clip.parent) as address:
        found = list(detector.track(f"{address}/clip.mp4", every=5, allow_urls=True))
    assert [each.seconds for each in found] == pytest.approx([0, 0.5, 1, 1.5])


def test_without_scipy_frames_are_detected_and_tracking_says_what_to_install(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scipy", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "frcnn.tracking.tracker", raising=False)
    command = ["predict", str(trained_run()), str(clip), "--every", "10", "--out", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--track"]) == 2
    assert "pip install" in (said := capsys.readouterr().err)
    assert "scipy" in said
