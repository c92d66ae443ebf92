"""The frames of a video, from a pipe of ffmpeg."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from PIL import Image

from frcnn.messages import clipped, plural
from frcnn.tracking.ffmpeg import VideoError, input_arguments, is_live, program, shown

_TIME_BASE = re.compile(r"Parsed_showinfo.* config in time_base: (\d+)/(\d+)")
_FRAME = re.compile(r"Parsed_showinfo.* pts:\s*(\S+) .* s:(\d+)x(\d+) ")
_ERROR = re.compile(r"^(?:\[[^\]]*\] )*\[(error|fatal)\] (.*)")
_EQUAL_TIMES = "monoton"
"""In what ffmpeg says if two frames have the same time in its output, which has no times."""
_MAX_PIXELS = 1 << 28


class Frame(NamedTuple):
    """One frame of a video."""

    number: int
    """From 0; skipped frames count."""
    seconds: float
    """From the start of the video."""
    image: Image.Image
    """RGB, upright."""


def read_frames(source: str | Path, *, every: int = 1, allow_urls: bool = False) -> Iterator[Frame]:
    """The frames of a video, one after the other; few are held in memory. ffmpeg decodes the next ones meanwhile.

    Rotation is applied, and each frame has its own time, also if the frame rate varies. If the size changes, all frames
    are resized to the size of the first one. If the file is damaged or truncated, all frames that can be read come
    before the error.

    Args:
        source: as for `probe`.
        every: 2: every second frame only, and so on.

    Raises:
        FileNotFoundError, VideoError: as `probe`; a damaged part, after the frames that could be read.
    """
    chosen = "" if every == 1 else f"select='not(mod(n,{every}))',"
    command = [program("ffmpeg"), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]
    command += [*input_arguments(source, allow_urls=allow_urls), "-map", "0:v:0"]
    command += ["-vf", f"{chosen}showinfo=checksum=0", "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with _Decoder(command) as decoder:
        frames = 0
        for seconds, image in decoder.frames():
            yield Frame(frames * every, seconds, image)
            frames += 1
        decoder.require_complete(source, frames)


class _Decoder:
    """A running ffmpeg that writes frames to its standard output, and their times and sizes to standard error."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=1 << 20,
            start_new_session=True,  # Ctrl-C is for frcnn, which ends ffmpeg itself
        )
        self._said: Queue[tuple[float, int, int] | None] = Queue()
        self._errors: deque[str] = deque(maxlen=5)
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> _Decoder:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        tick = 0.0  # seconds; showinfo also prints times in seconds, but only six digits of them
        for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            if frame := _FRAME.search(text):
                self._said.put((tick * _ticks(frame[1]), int(frame[2]), int(frame[3])))
            elif base := _TIME_BASE.search(text):
                tick = int(base[1]) / int(base[2])
            elif (error := _ERROR.match(text)) and _EQUAL_TIMES not in error[2]:
                self._errors.append(error[2])
        self._said.put(None)

    def frames(self) -> Iterator[tuple[float, Image.Image]]:
        assert self._process.stdout is not None
        first: tuple[float, int, int] | None = None
        while (said := self._said.get()) is not None:
            # ffmpeg scales later frames to the size of the first one, after it has told their own.
            start, width, height = first = first or said
            if width * height > _MAX_PIXELS:
                raise VideoError(f"frames of {width} x {height} pixels are too large; at most {_MAX_PIXELS} pixels")
            content = self._process.stdout.read(3 * width * height)
            if len(content) < 3 * width * height:
                return
            yield said[0] - start, Image.frombuffer("RGB", (width, height), content, "raw", "RGB", 0, 1)

    def require_complete(self, source: str | Path, frames: int) -> None:
        """Check that ffmpeg read the video to its end.

        Raises:
            VideoError: ffmpeg has reported an error.
        """
        status = self._process.wait()
        self._listener.join()
        # A stream begins between two whole images, and ffmpeg says so.
        if not status and ((is_live(source) and frames) or not self._errors):
            return
        said = "; ".join(dict.fromkeys(self._errors)).replace(str(source), shown(source))
        if "fps_mode" in said:
            raise VideoError("ffmpeg is too old; frcnn needs ffmpeg 5.1 or newer")
        reason = clipped(said or f"ffmpeg ended with status {status}")
        if frames:
            raise VideoError(
                f"{shown(source)}: damaged or truncated; {plural(frames, 'frame')} could be read ({reason})"
            )
        raise VideoError(f"{shown(source)}: not a video that ffmpeg can read ({reason})")


def _ticks(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # NOPTS
        return 0
