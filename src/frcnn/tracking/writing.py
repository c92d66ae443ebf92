"""Pictures become a video, through a pipe to ffmpeg."""

from __future__ import annotations

import subprocess
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from PIL import Image, ImageOps

from frcnn.tracking.ffmpeg import VideoError, input_arguments, last_line, program

_WAITING = 2
"""Pictures that wait for ffmpeg."""


class VideoWriter:
    """Writes pictures as a video, with the suffix's format and the codec that ffmpeg prefers for it. A thread passes
    the pictures on.

    The video has a constant frame rate. A picture is shown from its time until that of the next one, so that a video
    with a varying frame rate keeps its speed. Pictures that come faster than the frame rate are left out. All get the
    size of the first one, with black borders where the shape differs.

    Args:
        path: the file, e.g. "annotated.mp4".
        fps: frames per second.
        sound: a video file whose sound is added; None: no sound.
        max_gap: seconds for which a picture is shown at most, so that a false time does not write days of video.

    Raises:
        VideoError: ffmpeg is not installed.
    """

    def __init__(self, path: Path, *, fps: float, sound: str | Path | None = None, max_gap: float = 10) -> None:
        self._ffmpeg, self._path, self._fps = program("ffmpeg"), path, fps
        self._max_gap = max(1, round(max_gap * fps))
        self._sound = None if path.suffix.lower() == ".gif" else sound
        self._errors = TemporaryFile()  # noqa: SIM115  # __exit__ closes it
        self._process: subprocess.Popen[bytes] | None = None
        self._size: tuple[int, int] | None = None
        self._last: tuple[Image.Image, int] | None = None
        """The newest picture, and the number of the frame from which it is shown."""
        self._thread = ThreadPoolExecutor(1, "video")  # an interrupt of the main thread tears no picture
        self._waiting: deque[Future[None]] = deque()

    def write(self, picture: Image.Image, seconds: float) -> None:
        """Add a picture. It is shown from this time on.

        Raises:
            OSError: ffmpeg cannot write this file.
        """
        self._size = self._size or picture.size
        if picture.size != self._size:
            picture = ImageOps.pad(picture, self._size)
        while len(self._waiting) >= _WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._add, picture, round(seconds * self._fps)))

    def _add(self, picture: Image.Image, number: int) -> None:
        if self._last is not None:
            last, since = self._last
            if number <= since:
                number = since
            else:
                self._send(last, min(number - since, self._max_gap))
        self._last = picture, number

    def _send(self, picture: Image.Image, count: int) -> None:
        self._process = self._process or self._start(picture.size)
        assert self._process.stdin is not None
        content = picture.convert("RGB").tobytes()
        try:
            for _ in range(count):
                self._process.stdin.write(content)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def _start(self, size: tuple[int, int]) -> subprocess.Popen[bytes]:
        width, height = size
        command = [self._ffmpeg, "-hide_banner", "-nostats", "-loglevel", "error", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._fps:.6f}"]
        command += ["-i", "pipe:0"]
        if self._sound is not None:
            command += [*input_arguments(self._sound, allow_urls=False), "-map", "0:v", "-map", "1:a?"]
            if Path(self._sound).suffix.lower() == self._path.suffix.lower():  # else a format may not hold it
                command += ["-c:a", "copy"]
        if self._path.suffix.lower() != ".gif":
            command += ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,format=yuv420p"]  # which needs even sides
        return subprocess.Popen(
            [*command, f"file:{self._path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for frcnn, which then finishes the file
        )

    def _failure(self) -> OSError:
        self._errors.seek(0)
        return OSError(f"{self._path}: ffmpeg cannot write it ({last_line(self._errors.read(), self._path)})")

    def close(self) -> None:
        """Write the last picture and finish the file.

        Raises:
            OSError: as `write`.
            VideoError: there was no picture.
        """
        for waiting in self._waiting:
            waiting.result()
        if self._last is None:
            raise VideoError(f"{self._path}: there is no frame to write")
        self._thread.submit(self._send, self._last[0], 1).result()
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait():
            raise self._failure()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._kill()
            self._thread.shutdown()  # it may have started ffmpeg just now
            self._kill()
            self._errors.close()

    def _kill(self) -> None:
        """End ffmpeg, if it still runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # what is still to be sent
                self._process.stdin.close()
