"""Detecting and following the objects of a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from frcnn.files import expand_home
from frcnn.inference.inputs import is_folder, list_images
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime
from frcnn.tracking.tracker import Tracker, TrackerSettings
from frcnn.tracking.video import probe, read_frames


def detect_frames(
    runtime: Runtime,
    video: str | Path,
    *,
    threshold: float,
    every: int = 1,
    tile: int | None = None,
    overlap: float = 0.2,
    allow_urls: bool = False,
) -> Iterator[Detections]:
    """Detect in the frames of a video, in order. ffmpeg decodes the next frames meanwhile. Results of a video have
    `image` and `seconds`.

    Args:
        video: a file, the number of a camera, an address, or a folder of frames in natural order.
        every: 2: every second frame, and so on.

    Raises:
        VideoError: the file is damaged; after the frames that can be read.
    """
    times: deque[float | None] = deque()  # of the frames that are being predicted

    def images() -> Iterator[Image.Image | Path]:
        if is_folder(video):
            for number, path in enumerate(list_images(video)):
                if number % every == 0:
                    times.append(None)
                    yield Path(str(path))
            return
        source = video if str(video).isdecimal() else str(expand_home(video))
        for frame in read_frames(source, every=every, allow_urls=allow_urls):
            times.append(frame.seconds)
            yield frame.image

    for detections in predict_each(runtime, images(), threshold=threshold, tile=tile, overlap=overlap):
        yield replace(detections, seconds=times.popleft())


def follow_video(
    runtime: Runtime, video: str | Path, settings: TrackerSettings, *, every: int = 1, **options: object
) -> Iterator[Detections]:
    """`detect_frames`, and which detection is which object: `tracker_id`."""
    fps = None if is_folder(video) else probe(video, allow_urls=bool(options.get("allow_urls"))).fps
    low = min(settings.low_threshold, settings.threshold)
    tracker, before = Tracker(settings), None
    for detections in detect_frames(runtime, video, threshold=low, every=every, **options):  # type: ignore[arg-type]
        frames = float(every)
        if fps is not None and detections.seconds is not None and before is not None:
            frames = max(1e-3, (detections.seconds - before) * fps)
        before = detections.seconds
        yield tracker(detections, frames=frames)
