"""`frcnn predict` of a video: pictures become a video, JSON has one line per frame, and counts are a CSV file."""

import argparse
import csv
import json
import math
import sys
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from frcnn.cli.options import open_detector, positive_integer, prediction_rules
from frcnn.cli.output import own_pictures
from frcnn.cli.progress import CountProgress
from frcnn.files import atomic_write
from frcnn.messages import one_line, plural

if TYPE_CHECKING:
    from PIL import Image

    from frcnn.inference.runtimes import Runtime
    from frcnn.tracking.counting import Count, Line, Zone
    from frcnn.tracking.ffmpeg import VideoInfo
    from frcnn.tracking.track_video import FrameDetections

_COUNTS = ("frame", "seconds", "tracker_id", "class", "place", "direction", "x", "y")
_FOLDER_FPS = 25.0
"""Frames per second of the video that is made of a folder."""


def add_video_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("videos", "need the program ffmpeg; see docs/video.md")
    group.add_argument("--track", action="store_true", help="track the objects: each gets a tracker_id")
    group.add_argument("--every", type=positive_integer, metavar="N", help="predict only every Nth frame (default: 1)")
    group.add_argument(
        "--count-line",
        type=_points,
        action="append",
        default=[],
        metavar="X1,Y1,X2,Y2",
        help="count the objects that cross this line, in pixels (repeatable)",
    )
    group.add_argument(
        "--count-zone",
        type=_points,
        action="append",
        default=[],
        metavar="X1,Y1,X2,Y2,X3,Y3,...",
        help="count the objects that enter or leave this polygon (repeatable)",
    )
    group.add_argument("--counts", type=Path, metavar="FILE", help="write each count to this CSV file")
    group.add_argument("--allow-urls", action="store_true", help="open http(s) and rtsp addresses")


def is_video_command(options: argparse.Namespace) -> bool:
    """Whether the arguments name a video, or a folder of frames.

    Raises:
        ValueError: they name something beside it, or options of videos belong to images.
    """
    from frcnn.tracking.ffmpeg import is_address, is_video, shown

    is_asked = bool(options.track or options.every or options.count_line or options.count_zone or options.counts)
    first = options.images[0]
    videos = [text for text in options.images if is_video(text) and not (text.isdecimal() and Path(text).exists())]
    if is_asked and len(options.images) == 1 and Path(first).suffix.lower() == ".gif":
        videos = [first]
    if videos and len(options.images) > 1:
        raise ValueError(f"{shown(videos[0])}: is a video; predict one video per command, without other files")
    if options.allow_urls and not (videos and is_address(first)):
        raise ValueError(f"--allow-urls: {shown(first)} is not the address of a video")
    if is_asked and not videos and not (len(options.images) == 1 and Path(first).is_dir()):
        raise ValueError(f"{first}: --track, --every and counts need one video, or one folder of frames")
    return is_asked or bool(videos)


def predict_video(options: argparse.Namespace) -> int:
    """Detect in the frames of a video, track the objects, and write what was asked for."""
    from frcnn.data.prefetch import prefetch
    from frcnn.tracking.counting import Counter
    from frcnn.tracking.ffmpeg import VideoError, is_live, shown
    from frcnn.tracking.writing import VideoWriter

    (source,), places = options.images, _places(options)
    out = _output(options, source)
    detector = open_detector(options, throughput=not is_live(source))
    rules = prediction_rules(options, detector)
    info = _info(source, options.allow_urls)
    counter, tally, errors = Counter(places), Tally[tuple[str, str, str]](), list[str]()
    frames = found = 0
    status, problem, start = 0, "", time.monotonic()
    with ExitStack() as stack:
        write_line = _json_lines(options.json, stack)
        write_count = _counts_file(options.counts, stack)
        writer = None
        if out is not None:
            partial = stack.enter_context(atomic_write(out))
            fps = info.fps / (options.every or 1) if Path(source).is_dir() else info.fps
            sound = source if info.has_audio else None
            gap = 10 + (options.every or 1) / info.fps  # seconds; longer ones are false times
            writer = stack.enter_context(VideoWriter(partial, fps=fps, sound=sound, max_gap=gap))
        progress = stack.enter_context(CountProgress("detecting", "frame"))

        def draw(frame: "FrameDetections") -> "tuple[FrameDetections, Image.Image | None]":
            return frame, None if writer is None else frame.detections.plot()

        rules |= {"every": options.every or 1, "allow_urls": options.allow_urls}
        rules["on_error"] = lambda error: errors.append(str(error))
        detected = _frames(detector.runtime, source, info, bool(options.track or places), rules)
        results = prefetch(draw, detected, workers=0 if is_live(source) else 1)
        try:
            for (number, detections), picture in results:
                progress(number + 1, info.frames)
                for count in counter(detections, frame=number):
                    tally[count.place, count.class_name, count.direction] += 1
                    write_count(count)
                write_line({"frame": number, "seconds": _rounded(detections.seconds, 4)} | detections.to_dict())
                if writer is not None:
                    assert picture is not None
                    writer.write(picture, frames / fps if detections.seconds is None else detections.seconds)
                frames, found = frames + 1, found + len(detections)
        except VideoError as error:
            if not frames:
                raise
            status, problem = 1, str(error)
        except KeyboardInterrupt:  # the way to stop a camera: the frames so far are written
            if not frames:
                raise
            status = 130
        if not frames:
            raise ValueError(errors[0] if errors else f"{shown(source)}: no frame was read")
    with suppress(OSError):
        text = sys.stderr if options.json == "-" else sys.stdout
        speed = f"{frames / (time.monotonic() - start):.1f} frames per second"
        video = "" if out is None else f"; video in {out}"
        print(f"{plural(frames, 'frame')}, {plural(found, 'detection')}, {speed}{video}", file=text)
        for place in places:
            counts = ", ".join(f"{n} {name} {way}" for (at, name, way), n in sorted(tally.items()) if at == place)
            print(f"{place}: {counts or 'nothing'}", file=text)
        if problem:
            print(f"frcnn: error: {one_line(problem)}", file=sys.stderr)
        if errors:
            skipped = f"frcnn: error: skipped {plural(len(errors), 'frame')}:"
            print(skipped, *map(one_line, errors), sep="\n", file=sys.stderr)
    return status or bool(errors)


def _frames(
    runtime: "Runtime", source: str, info: "VideoInfo", is_tracked: bool, rules: dict[str, Any]
) -> "Iterator[FrameDetections]":
    from frcnn.tracking.track_video import detect_frames, track_frames

    if not is_tracked:
        return detect_frames(runtime, source, **rules)
    from frcnn.tracking.tracker import TrackerSettings

    settings = TrackerSettings(threshold=rules.pop("threshold"))
    return track_frames(runtime, source, settings, fps=None if Path(source).is_dir() else info.fps, **rules)


def _info(source: str, allow_urls: bool) -> "VideoInfo":
    from frcnn.inference.inputs import list_images
    from frcnn.tracking.ffmpeg import VideoInfo, is_address, is_camera, probe

    if Path(source).is_dir():
        return VideoInfo(_FOLDER_FPS, sum(1 for _ in list_images(source)), False)
    info = probe(source, allow_urls=allow_urls)
    # The sound of a stream would have to be recorded, not read again.
    return info._replace(has_audio=False) if is_camera(source) or is_address(source) else info


def _places(options: argparse.Namespace) -> "dict[str, Line | Zone]":
    """Name -> line or zone to count at."""
    from frcnn.tracking.counting import Line, Zone

    places: dict[str, Line | Zone] = {f"line {n}": Line(points) for n, points in enumerate(options.count_line, 1)}
    places |= {f"zone {n}": Zone(points) for n, points in enumerate(options.count_zone, 1)}
    if options.counts and not places:
        raise ValueError(f"--counts {options.counts}: nothing is counted; add --count-line or --count-zone")
    return places


def _output(options: argparse.Namespace, source: str) -> Path | None:
    """The video to write; None: none."""
    from frcnn.tracking.ffmpeg import VIDEO_SUFFIXES

    path: Path | None = options.out
    if path is None:
        path = own_pictures(options.model, required=options.json is None)
    if path is None:
        return None
    if path.is_dir() or not path.suffix:
        path /= f"{_name(source)}-detections.mp4"
    if path.suffix.lower() not in {*VIDEO_SUFFIXES, ".gif"}:
        raise ValueError(f"--out {path}: must be a folder, or a video file such as annotated.mp4")
    if path.resolve() == Path(source).resolve():
        raise ValueError(f"--out {path}: is the video itself and would be overwritten; choose another file")
    return path


def _name(source: str) -> str:
    from frcnn.tracking.ffmpeg import is_address, is_camera

    if is_camera(source):
        return f"camera-{source}"
    if is_address(source):
        where = urlsplit(source)
        return Path(where.path).stem or where.hostname or "video"
    return Path(source).resolve().stem


def _json_lines(file: str | None, stack: ExitStack) -> Callable[[dict[str, Any]], None]:
    if file is None:
        return lambda content: None
    opened = sys.stdout
    if file != "-":
        partial = stack.enter_context(atomic_write(Path(file)))
        opened = stack.enter_context(partial.open("w", encoding="utf-8"))
    # Whoever reads standard output may wait for each frame of a camera.
    return lambda content: print(json.dumps(content, ensure_ascii=False), file=opened, flush=file == "-")


def _counts_file(file: Path | None, stack: ExitStack) -> "Callable[[Count], None]":
    from frcnn.data.formats.csv_columns import class_cell

    if file is None:
        return lambda count: None
    partial = stack.enter_context(atomic_write(file))
    writer = csv.writer(stack.enter_context(partial.open("w", newline="", encoding="utf-8")))
    writer.writerow(_COUNTS)

    def write(count: "Count") -> None:
        what = (count.tracker_id, class_cell(count.class_name), count.place, count.direction)
        writer.writerow((count.frame, _rounded(count.seconds, 3), *what, round(count.x, 1), round(count.y, 1)))

    return write


def _rounded(seconds: float | None, digits: int) -> float | None:
    return None if seconds is None else round(seconds, digits)


def _points(text: str) -> list[float]:
    try:
        points = [float(value) for value in text.split(",")]
    except ValueError:
        points = [math.nan]
    if not all(map(math.isfinite, points)):
        raise argparse.ArgumentTypeError(f"'{text}' must be numbers separated by commas, in pixels")
    return points
