"""Videos through the pipes of ffmpeg."""

import os
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from served_folder import served

from frcnn.tracking.ffmpeg import VideoError, is_video, probe
from frcnn.tracking.reading import Frame, read_frames
from frcnn.tracking.writing import VideoWriter


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *arguments], check=True)


def gray(value: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """30 frames, each a little brighter than the one before, with sound."""
    path = tmp_path / "clip.mp4"
    source = "color=black:size=64x48:rate=10:duration=3,geq=lum='16+7*N':cb=128:cr=128"
    sound = ("-f", "lavfi", "-i", "sine=duration=3", "-c:a", "aac")
    ffmpeg("-f", "lavfi", "-i", source, *sound, "-pix_fmt", "yuv420p", "-crf", "5", path)
    return path


def brightness(image: Image.Image) -> float:
    return float(np.asarray(image).mean())


def test_all_frames_in_order_with_their_times(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert [each.number for each in frames] == list(range(30))
    assert [each.seconds for each in frames] == pytest.approx([number / 10 for number in range(30)])
    assert all(np.diff([brightness(each.image) for each in frames]) > 4)
    assert {each.image.size for each in frames} == {(64, 48)}
    assert probe(clip) == (10, 30, True)


def test_every_third_frame(clip: Path) -> None:
    frames, third = list(read_frames(clip)), list(read_frames(clip, every=3))
    assert [each.number for each in third] == list(range(0, 30, 3))
    assert [each.seconds for each in third] == pytest.approx([each.seconds for each in frames[::3]])
    np.testing.assert_array_equal(np.asarray(third[2].image), np.asarray(frames[6].image))


def test_rotation_is_applied(tmp_path: Path) -> None:
    picture = gray(0)
    picture.paste((255, 255, 255), (0, 0, 24, 16))  # its upper left corner is bright
    with VideoWriter(tmp_path / "a.mp4", fps=5) as writer:
        writer.write(picture, 0)
    source, copy = ("-i", tmp_path / "a.mp4"), ("-c", "copy", tmp_path / "turned.mp4")
    options = subprocess.run(["ffmpeg", "-h", "full"], capture_output=True, text=True, check=True).stdout
    if "-display_rotation" in options:
        ffmpeg("-display_rotation", "90", *source, *copy)
    else:  # before 6.0
        ffmpeg(*source, "-metadata:s:v:0", "rotate=90", *copy)
    (frame,) = read_frames(tmp_path / "turned.mp4")
    assert frame.image.size == (48, 64)
    assert brightness(frame.image.crop((0, 48, 8, 64))) > 200  # turned to the left: the lower left corner
    assert brightness(frame.image.crop((0, 0, 8, 16))) < 50


def test_times_of_a_varying_frame_rate(clip: Path, tmp_path: Path) -> None:
    slower = "setpts='if(lt(N,10),N,10+(N-10)*3)/10/TB'"  # three times as slow from the tenth frame on
    ffmpeg("-i", clip, "-an", "-vf", slower, "-vsync", "passthrough", tmp_path / "varying.mkv")
    times = [each.seconds for each in read_frames(tmp_path / "varying.mkv")]
    assert times == pytest.approx([*np.arange(10) / 10, *(1 + 0.3 * np.arange(20))], abs=0.002)


def test_times_late_in_a_long_video_are_exact(clip: Path, tmp_path: Path) -> None:
    late = "setpts='if(lt(N,2),N,250000+N)/25/TB'"  # after 10,000 seconds
    exact = ("-vsync", "passthrough", "-enc_time_base", "1/1000")
    ffmpeg("-i", clip, "-an", "-vf", late, *exact, tmp_path / "long.mkv")
    times = [each.seconds for each in read_frames(tmp_path / "long.mkv")]
    assert times == pytest.approx([0, 0.04, *(10_000 + np.arange(2, 30) / 25)], abs=0.002)


def test_frames_with_equal_times_are_no_damage(clip: Path, tmp_path: Path) -> None:
    pairs = ("-vf", "setpts=floor(N/2)/10/TB", "-vsync", "passthrough")
    ffmpeg("-i", clip, "-an", *pairs, tmp_path / "pairs.mkv")
    times = [each.seconds for each in read_frames(tmp_path / "pairs.mkv")]
    assert times == pytest.approx(np.repeat(np.arange(15) / 10, 2), abs=0.002)


def test_a_truncated_file_gives_its_frames_and_then_an_error(clip: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "faststart", tmp_path / "whole.mp4")
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 6 // 10])
    seen: list[Frame] = []
    with pytest.raises(VideoError, match=r"cut\.mp4: damaged or truncated; \d+ frames could be read"):
        seen.extend(read_frames(tmp_path / "cut.mp4"))
    assert 3 < len(seen) < 30


def test_frames_whose_size_changes_get_the_size_of_the_first(tmp_path: Path) -> None:
    for name, size in (("a.ts", (64, 48)), ("b.ts", (32, 24))):
        with VideoWriter(tmp_path / name, fps=5) as writer:
            for number in range(5):
                writer.write(gray(50 + 20 * number, size), number / 5)
    (tmp_path / "both.ts").write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("a.ts", "b.ts")))
    frames = list(read_frames(tmp_path / "both.ts"))
    assert len(frames) in (9, 10)  # both begin at the same time, so ffmpeg may leave one out
    assert {each.image.size for each in frames} == {(64, 48)}
    assert all(np.ptp(np.asarray(each.image)) < 10 for each in frames)  # none is torn


def test_a_frame_rate_that_cannot_be_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").touch()
    said = '{"streams": [{"codec_type": "video", "avg_frame_rate": "0/0", "r_frame_rate": "90000/1"}], "format": {}}'
    (tmp_path / "ffprobe").write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "ffprobe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert probe(tmp_path / "a.mp4") == (25, None, False)


@pytest.mark.parametrize("content", [b"", b"text", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", bytes(5000)])
def test_what_is_no_video_is_an_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(VideoError, match=r"a\.mp4: not a video that ffmpeg can read \(.+\)"):
            read(path)


def test_a_playlist_cannot_name_other_files(clip: Path, tmp_path: Path) -> None:
    for name, text in (
        ("a.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", f"ffconcat version 1.0\nfile {clip}\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(VideoError):
            list(read_frames(tmp_path / name))


def test_a_file_that_is_not_there_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.mp4: no such video"):
        probe(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(OSError, match="is a pipe, a device or a folder"):
        probe(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("address", ["http://me:secret@127.0.0.1:9/a.mp4", "rtsp://me:secret@127.0.0.1:9/a"])
def test_addresses_are_opened_only_if_asked_and_passwords_are_not_shown(address: str) -> None:
    with pytest.raises(ValueError, match=r"frcnn opens addresses only if asked to; pass allow_urls=True") as refused:
        probe(address)
    with pytest.raises(VideoError) as failed:
        probe(address, allow_urls=True)
    with pytest.raises(VideoError) as failed_too:
        list(read_frames(address, allow_urls=True))
    assert "secret" not in f"{refused.value}{failed.value}{failed_too.value}"


def test_an_address(clip: Path) -> None:
    with served(clip.parent) as address:
        assert probe(f"{address}/clip.mp4", allow_urls=True) == (10, 30, True)
        assert len(list(read_frames(f"{address}/clip.mp4", allow_urls=True))) == 30


def test_without_ffmpeg_the_error_says_how_to_install_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VideoError, match=r"ffprobe is not installed, .*apt-get install ffmpeg"):
        probe(clip)
    with pytest.raises(VideoError, match="ffmpeg is not installed"):
        next(read_frames(clip))


def test_a_reader_that_is_given_up_ends_ffmpeg(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=640x480:rate=30:duration=20", tmp_path / "long.mp4")
    frames = read_frames(tmp_path / "long.mp4")
    next(frames)
    assert [each for each in psutil.Process().children() if each.name() == "ffmpeg"]
    frames.close()  # type: ignore[attr-defined]  # a generator
    assert not [each for each in psutil.Process().children() if each.name() == "ffmpeg"]


# ------------------------------------------------------------------------------------------------------------- writing


def test_what_is_written_can_be_read(clip: Path, tmp_path: Path) -> None:
    before = list(read_frames(clip))
    with VideoWriter(tmp_path / "out.mp4", fps=10, sound=clip) as writer:
        for frame in before:
            writer.write(frame.image, frame.seconds)
    after = list(read_frames(tmp_path / "out.mp4"))
    assert probe(tmp_path / "out.mp4") == (10, 30, True)
    differences = [brightness(one.image) - brightness(other.image) for one, other in zip(before, after, strict=True)]
    assert max(map(abs, differences)) < 2


def test_a_varying_frame_rate_keeps_its_speed(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=10) as writer:
        for value, seconds in ((0, 0.0), (100, 0.5), (200, 0.6), (250, 1.0)):
            writer.write(gray(value), seconds)
    seen = [round(brightness(each.image), -1) for each in read_frames(tmp_path / "out.mp4")]
    assert seen == [0] * 5 + [100] + [200] * 4 + [250]


def test_frames_that_come_too_fast_are_left_out_and_long_gaps_are_short(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=10) as writer:
        for number in range(20):
            writer.write(gray(10 * number), number / 40)  # 40 a second
        writer.write(gray(0), 1e6)
    seen = [round(brightness(each.image), -1) for each in read_frames(tmp_path / "out.mp4")]
    assert seen[:5] == pytest.approx([20, 60, 100, 140, 180], abs=20)
    assert len(seen) == pytest.approx(105, abs=2)


def test_long_gaps_that_are_wanted_keep_their_length(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=2, max_gap=22) as writer:
        for number in range(3):
            writer.write(gray(100 * number), 12 * number)
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 24 * 2 + 1


def test_pictures_of_other_sizes_are_padded(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=5) as writer:
        writer.write(gray(200), 0)
        writer.write(gray(200, (24, 48)), 0.2)
    first, second = (np.asarray(each.image).mean(axis=(0, 2)) for each in read_frames(tmp_path / "out.mp4"))
    assert first.min() > 190
    assert second[[0, -1]].max() < 20 < 190 < second[32]


def test_odd_sizes_and_other_formats_with_sound(clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.webm", "a.avi", "a.gif"):
        with VideoWriter(tmp_path / name, fps=5, sound=clip) as writer:
            for number in range(3):
                writer.write(gray(80 * number, (65, 49)), number / 5)
        assert len(list(read_frames(tmp_path / name))) == 3
        assert probe(tmp_path / name).has_audio == (name != "a.gif")


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.xyz: ffmpeg cannot write it \(.+\)"):
        write_gray(tmp_path / "a.xyz", 100)
    with pytest.raises(VideoError, match="there is no frame to write"):
        write_gray(tmp_path / "a.mp4", 0)


def write_gray(path: Path, count: int) -> None:
    with VideoWriter(path, fps=5) as writer:
        for number in range(count):
            writer.write(gray(number, (640, 480)), number / 5)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.mp4", True),
        ("A.MOV", True),
        ("0", True),
        ("rtsp://camera/1", True),
        ("https://a.example/b.mp4?c=d", True),
        ("http://camera/mjpg", True),
        ("https://a.example/b.m3u8", True),
        ("a.jpg", False),
        ("photos", False),
        ("https://a.example/b.jpg", False),
    ],
)
def test_is_video(name: str, is_one: bool) -> None:
    assert is_video(name) == is_one
