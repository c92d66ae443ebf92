"""Detection and tracking in a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from frcnn.data.tiles import OVERLAP
from frcnn.inference.inputs import is_folder, list_images
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime
from frcnn.tracking.ffmpeg import is_live, probe
from frcnn.tracking.reading import read_frames

if TYPE_CHECKING:  # needs scipy
    from frcnn.tracking.tracker import TrackerSettings


class FrameDetections(NamedTuple):
    """What is in a frame."""

    number: int
    """Of the frame, from 0; skipped frames count."""
    detections: Detections


def detect_frames(
    runtime: Runtime,
    video: str | Path,
    *,
    threshold: float,
    every: int = 1,
    tile: int | None = None,
    overlap: float = OVERLAP,
    allow_urls: bool = False,
    on_error: Callable[[Exception], None] | None = None,
) -> Iterator[FrameDetections]:
    """Detect in the frames of a video, in order. ffmpeg decodes the next frames meanwhile. Results of a video have
    `image` and `seconds`. Several frames are predicted at a time; of a camera or an address, one.

    Args:
        video: a file, the number of a camera, an address, or a folder of frames in natural order.
        every: 2: every second frame only, and so on.
        on_error: called with the error of an image of a folder that cannot be read; it is left out. None: the error is
            raised.

    The other arguments are those of `Detector.predict`.

    Raises:
        VideoError: the file is damaged; after the frames that can be read.
    """
    if every < 1:
        raise ValueError(f"every: {every} must be 1 or more")
    waiting: deque[tuple[int, float | None]] = deque()  # number and time of the frames that are being predicted

    def images() -> Iterator[Image.Image | Path]:
        if is_folder(video):
            for number, path in enumerate(list_images(video)):
                if number % every == 0:
                    waiting.append((number, None))
                    yield Path(str(path))
            return
        for frame in read_frames(video, every=every, allow_urls=allow_urls):
            waiting.append((frame.number, frame.seconds))
            yield frame.image

    def skip(error: Exception) -> None:
        waiting.popleft()
        if on_error is None:
            raise error
        on_error(error)

    # The next frame of a camera may come late: do not wait for it.
    groups = ([image] for image in images()) if is_live(video) else iter([images()])
    for group in groups:
        for detections in predict_each(runtime, group, threshold=threshold, tile=tile, overlap=overlap, on_error=skip):
            number, seconds = waiting.popleft()
            yield FrameDetections(number, replace(detections, seconds=seconds))


def track_frames(
    runtime: Runtime,
    video: str | Path,
    settings: TrackerSettings,
    *,
    fps: float | None = None,
    every: int = 1,
    tile: int | None = None,
    overlap: float = OVERLAP,
    allow_urls: bool = False,
    on_error: Callable[[Exception], None] | None = None,
) -> Iterator[FrameDetections]:
    """`detect_frames`, with the object that each detection is: `tracker_id`.

    Args:
        fps: frames per second; None: as the video says.
    """
    from frcnn.tracking.tracker import Tracker

    if fps is None and not is_folder(video):
        fps = probe(video, allow_urls=allow_urls).fps
    tracker, before = Tracker(settings), None
    for frame in detect_frames(
        runtime,
        video,
        threshold=min(settings.low_threshold, settings.threshold),
        every=every,
        tile=tile,
        overlap=overlap,
        allow_urls=allow_urls,
        on_error=on_error,
    ):
        # Of a video with a varying frame rate, the time counts, not the number of frames.
        seconds = frame.detections.seconds
        now = float(frame.number) if seconds is None or fps is None else seconds * fps
        frames = float(every) if before is None else max(1e-3, now - before)
        before = now
        yield FrameDetections(frame.number, tracker(frame.detections, frames=frames))
