"""`frcnn predict` of a video: pictures become a video, JSON one line a frame, and counts a CSV file."""

import argparse
import csv
import json
import sys
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from frcnn.cli.options import open_detector, positive_integer
from frcnn.cli.progress import CountProgress
from frcnn.files import atomic_write, remove_links
from frcnn.messages import one_line, plural

if TYPE_CHECKING:
    from frcnn.inference.results import Detections
    from frcnn.tracking.counting import Count

_COUNTS = ("seconds", "tracker_id", "class", "place", "direction", "x", "y")


def add_video_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("videos", "need the program ffmpeg")
    group.add_argument(
        "--track", action="store_true", help="follow the objects from frame to frame: each gets a number"
    )
    group.add_argument(
        "--every", type=positive_integer, metavar="N", help="predict only each Nth frame (default: 1, all frames)"
    )
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
    group.add_argument(
        "--counts", type=Path, metavar="FILE", help="write the counts to FILE as CSV (default: they are printed)"
    )
    group.add_argument("--allow-urls", action="store_true", help="open http(s) and rtsp addresses")


def is_video_command(options: argparse.Namespace) -> bool:
    """Whether the arguments name a video, or frames to follow."""
    from frcnn.tracking.video import is_video

    if any(is_video(text) and not (text.isdecimal() and Path(text).exists()) for text in options.images):
        if len(options.images) > 1:
            raise ValueError(f"{options.images[0]}: with a video, name nothing else; predict videos one by one")
        return Path(options.images[0]).suffix.lower() != ".gif" or _asks_for_video(options)
    if _asks_for_video(options) and not (len(options.images) == 1 and Path(options.images[0]).is_dir()):
        raise ValueError(f"{options.images[0]}: --track, --every and counts need one video, or one folder of frames")
    return _asks_for_video(options)


def _asks_for_video(options: argparse.Namespace) -> bool:
    return bool(options.track or options.every or options.count_line or options.count_zone or options.counts)


def predict_video(options: argparse.Namespace) -> int:
    """Detect in the frames of a video, follow the objects, and write what was asked for."""
    from frcnn.data.prefetch import prefetch
    from frcnn.tracking.counting import Counter, Line, Zone
    from frcnn.tracking.video import VideoError, VideoInfo, VideoWriter, probe

    detector, (source,) = open_detector(options), options.images
    is_folder = Path(source).is_dir()
    info = VideoInfo(25, None, False) if is_folder else probe(source, allow_urls=options.allow_urls)
    every = options.every or 1
    places: dict[str, Line | Zone] = {f"line {n}": Line(points) for n, points in enumerate(options.count_line, 1)}
    places |= {f"zone {n}": Zone(points) for n, points in enumerate(options.count_zone, 1)}
    if options.counts and not places:
        raise ValueError(f"--counts {options.counts}: nothing is counted; add --count-line or --count-zone")
    counter, counts = Counter(places), list["Count"]()
    is_tracked = options.track or bool(places)
    out = _output(options, source)
    frames = found = 0
    status, problem, start = 0, "", time.monotonic()
    with ExitStack() as stack:
        lines = _json_lines(options.json, stack)
        sound = source if out and info.has_audio and not source.isdecimal() and "://" not in source else None
        partial = None if out is None else stack.enter_context(atomic_write(out))
        fps = info.fps / every if is_folder else info.fps
        writer = None if partial is None else stack.enter_context(VideoWriter(partial, fps=fps, sound=sound))
        progress = stack.enter_context(CountProgress("detecting", "frame"))

        def draw(detections: "Detections") -> "tuple[Detections, Any]":
            return detections, detections.plot() if writer is not None else None

        results = prefetch(draw, _detections(options, detector, source, every, is_tracked), workers=1)
        try:
            for detections, picture in results:
                frames, found = frames + 1, found + len(detections)
                progress(frames * every, info.frames or frames * every)
                counts += counter(detections)
                if lines is not None:
                    lines(_frame(detections, (frames - 1) * every))
                if writer is not None:
                    seconds = (frames - 1) / fps if detections.seconds is None else detections.seconds
                    writer.write(picture, seconds)
        except VideoError as error:
            if not frames:
                raise
            status, problem = 1, str(error)
        except KeyboardInterrupt:  # the way to stop a camera: what was seen is written
            status = 130
        if writer is not None and not frames:
            raise VideoError(f"{source}: no frame was read")
    seconds = time.monotonic() - start
    with suppress(OSError):
        text = sys.stderr if options.json == "-" else sys.stdout
        print(
            f"{plural(frames, 'frame')}, {plural(found, 'detection')}, {frames / seconds:.1f} frames per second"
            f"{'' if out is None else f'; video in {out}'}",
            file=text,
        )
        _report(counts, places, options.counts, text)
        if problem:
            print(f"frcnn: error: {one_line(problem)}", file=sys.stderr)
    return status


def _detections(
    options: argparse.Namespace, detector: Any, source: str, every: int, is_tracked: bool
) -> "Iterator[Detections]":
    from frcnn.tracking.follow_video import detect_frames, follow_video
    from frcnn.tracking.tracker import TrackerSettings

    own = detector.runtime.result_settings.predict_threshold
    threshold = own if options.threshold is None else options.threshold
    rules = {
        "every": every,
        "tile": options.tile,
        "overlap": 0.2 if options.overlap is None else options.overlap,
        "allow_urls": options.allow_urls,
    }
    if is_tracked:
        return follow_video(detector.runtime, source, TrackerSettings(threshold=threshold), **rules)
    return detect_frames(detector.runtime, source, threshold=threshold, **rules)


def _output(options: argparse.Namespace, source: str) -> Path | None:
    """The video to write; None: none."""
    if options.out is not None:
        path: Path = options.out
        return path if path.suffix else path / f"{_name(source)}.mp4"
    if options.model.is_dir():
        remove_links(options.model, "predictions")
        return Path(options.model) / "predictions" / f"{_name(source)}.mp4"
    return None


def _name(source: str) -> str:
    return f"camera-{source}" if source.isdecimal() else Path(source.partition("?")[0]).stem or "video"


def _json_lines(file: str | None, stack: ExitStack) -> Callable[[dict[str, Any]], None] | None:
    if file is None:
        return None
    opened: TextIO = sys.stdout
    if file != "-":
        partial = stack.enter_context(atomic_write(Path(file)))
        opened = stack.enter_context(partial.open("w", encoding="utf-8"))
    return lambda content: print(json.dumps(content), file=opened)


def _frame(detections: "Detections", number: int) -> dict[str, Any]:
    content = detections.to_dict()
    seconds = None if detections.seconds is None else round(detections.seconds, 4)
    return {"frame": number, "seconds": seconds} | content


def _report(counts: "list[Count]", places: dict[str, Any], file: Path | None, text: TextIO) -> None:
    from frcnn.data.formats.csv_columns import class_cell

    if file is not None:
        with atomic_write(file) as partial, partial.open("w", newline="", encoding="utf-8") as opened:
            writer = csv.writer(opened)
            writer.writerow(_COUNTS)
            for each in counts:
                seconds = None if each.seconds is None else round(each.seconds, 3)
                what = (each.tracker_id, class_cell(each.class_name), each.place, each.direction)
                writer.writerow((seconds, *what, round(each.x, 1), round(each.y, 1)))
    for place in places:
        tally = Tally((each.direction, each.class_name) for each in counts if each.place == place)
        listed = ", ".join(f"{number} {name} {direction}" for (direction, name), number in sorted(tally.items()))
        print(f"{place}: {listed or 'nothing'}", file=text)


def _points(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' must be numbers separated by commas, in pixels") from None
