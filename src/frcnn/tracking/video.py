"""Reading and writing videos by the program ffmpeg, through pipes. frcnn ships no codecs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import IO, NamedTuple

from PIL import Image

from frcnn.files import require_regular
from frcnn.messages import clipped

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"}
    | {".3gp", ".gif"}
)
"""Suffixes that frcnn takes for videos, in lower case. GIF counts only where a video is asked for."""
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,flv,live_flv,asf,ogg,gif,apng"
"""Formats of files that ffmpeg may open. Playlists are not among them, because they can name any other file."""
_ADDRESS = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)
_FRAME = re.compile(r"Parsed_showinfo.* pts_time:\s*(\S+) .* s:(\d+)x(\d+) ")
_ERROR = re.compile(r"^(?:\[[^\]]*\] )*\[(error|fatal)\] (.*)")
_DEFAULT_FPS = 25.0
_MAX_PIXELS = 1 << 28


class VideoInfo(NamedTuple):
    """What a video says of itself."""

    fps: float
    """Frames per second, on average."""
    frames: int | None
    """How many there are, about; None: unknown, as for a camera."""
    has_audio: bool


class Frame(NamedTuple):
    """One frame of a video."""

    number: int
    """From 0; skipped frames count."""
    seconds: float
    """From the start of the video."""
    image: Image.Image
    """RGB, upright."""


class VideoError(ValueError):
    """A video cannot be read or written."""


def is_video(source: str | Path) -> bool:
    """Whether this is a video rather than an image: by its suffix, or a camera's number, or an address of a stream."""
    text = str(source)
    return text.isdecimal() or text.lower().startswith(("rtsp://", "rtsps://")) or _suffix(text) in VIDEO_SUFFIXES


def _suffix(source: str) -> str:
    return Path(source.partition("?")[0] if _ADDRESS.match(source) else source).suffix.lower()


def probe(source: str | Path, *, allow_urls: bool = False) -> VideoInfo:
    """What a video says of itself, without decoding it.

    Args:
        source: a file; the number of a camera, e.g. "0"; or, with `allow_urls`, an http(s) or rtsp address.

    Raises:
        FileNotFoundError: no such file.
        VideoError: it is no video, or ffmpeg is not installed.
    """
    arguments = ["-v", "error", "-print_format", "json", "-show_streams", "-show_format", *_input(source, allow_urls)]
    done = subprocess.run([_program("ffprobe"), *arguments], capture_output=True, check=False, stdin=subprocess.DEVNULL)
    try:
        streams = json.loads(done.stdout)["streams"]
        duration = float(json.loads(done.stdout)["format"].get("duration", "nan"))
    except (ValueError, KeyError):
        streams, duration = [], float("nan")
    videos = [each for each in streams if each.get("codec_type") == "video"]
    if not videos:
        raise VideoError(f"{source}: not a video that ffmpeg can read ({_last_line(done.stderr)})")
    fps = _rate(videos[0].get("avg_frame_rate")) or _rate(videos[0].get("r_frame_rate")) or _DEFAULT_FPS
    count = videos[0].get("nb_frames", "")
    frames = int(count) if count.isdecimal() and int(count) else round(duration * fps) if duration > 0 else None
    return VideoInfo(fps, frames, any(each.get("codec_type") == "audio" for each in streams))


def read_frames(source: str | Path, *, every: int = 1, allow_urls: bool = False) -> Iterator[Frame]:
    """The frames of a video, one after the other; few are held in memory. ffmpeg decodes the next ones meanwhile.

    Rotation is applied, and each frame has its own time, also if the frame rate varies. If the file is damaged or
    truncated, all frames that can be read come before the error.

    Args:
        every: 2 gives every second frame, and so on.

    Raises:
        FileNotFoundError, VideoError: as `probe`; a damaged part, after the frames that could be read.
    """
    if every < 1:
        raise ValueError(f"every: {every} must be at least 1")
    chosen = "" if every == 1 else f"select='not(mod(n,{every}))',"
    command = [_program("ffmpeg"), "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info"]
    command += [*_input(source, allow_urls), "-map", "0:v:0", "-vf", f"{chosen}showinfo=checksum=0"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with _Decoder(command) as decoder:
        number = 0
        for seconds, image in decoder.frames():
            yield Frame(number, seconds, image)
            number += every
        decoder.require_complete(source, number // every)


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
        for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            if frame := _FRAME.search(text):
                self._said.put((_number(frame[1]), int(frame[2]), int(frame[3])))
            elif error := _ERROR.match(text):
                self._errors.append(error[2])
        self._said.put(None)

    def frames(self) -> Iterator[tuple[float, Image.Image]]:
        assert self._process.stdout is not None
        first = None
        while (said := self._said.get()) is not None:
            seconds, width, height = said
            if width * height > _MAX_PIXELS:
                raise VideoError(f"frames of {width} x {height} pixels are too large; at most {_MAX_PIXELS} pixels")
            content = self._process.stdout.read(3 * width * height)
            if len(content) < 3 * width * height:
                return
            first = seconds if first is None else first
            yield seconds - first, Image.frombuffer("RGB", (width, height), content, "raw", "RGB", 0, 1)

    def require_complete(self, source: str | Path, frames: int) -> None:
        """Raises:
        VideoError: ffmpeg has reported an error.
        """
        status = self._process.wait()
        self._listener.join()
        if status or self._errors:
            reason = clipped("; ".join(dict.fromkeys(self._errors)) or f"ffmpeg ended with status {status}")
            if frames:
                raise VideoError(f"{source}: damaged or truncated; {frames} frames could be read ({reason})")
            raise VideoError(f"{source}: not a video that ffmpeg can read ({reason})")


class VideoWriter:
    """Writes pictures as a video, with the suffix's format and the codec that ffmpeg prefers for it.

    The video has a constant frame rate. A picture is shown from its time until that of the next one, so that a video
    with a varying frame rate keeps its speed.

    Args:
        path: the file, e.g. "annotated.mp4".
        fps: frames per second.
        sound: a video file whose sound is copied; None: no sound.
    """

    def __init__(self, path: Path, *, fps: float, sound: str | Path | None = None) -> None:
        self._path, self._fps, self._sound = path, fps, sound
        self._process: subprocess.Popen[bytes] | None = None
        self._before: tuple[Image.Image, int] | None = None

    def write(self, picture: Image.Image, seconds: float) -> None:
        """Add a picture. All have the size of the first one.

        Raises:
            VideoError: ffmpeg cannot write this file.
        """
        at = round(seconds * self._fps)
        if self._before is not None:
            last, since = self._before
            self._send(last, max(1, at - since))
            at = max(at, since + 1)
        self._before = (picture, at)

    def _send(self, picture: Image.Image, count: int) -> None:
        if self._process is None:
            self._start(picture.size)
        assert self._process is not None
        assert self._process.stdin is not None
        content = picture.convert("RGB").tobytes()
        try:
            for _ in range(count):
                self._process.stdin.write(content)
        except BrokenPipeError:
            self._fail()

    def _start(self, size: tuple[int, int]) -> None:
        width, height = size
        sound = (
            [] if self._sound is None else [*_input(self._sound, False), "-map", "0:v", "-map", "1:a?", "-c:a", "copy"]
        )
        even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # yuv420p needs it
        pixels = ["-vf", f"{even},format=yuv420p"] if self._path.suffix.lower() != ".gif" else []
        command = [_program("ffmpeg"), "-hide_banner", "-nostats", "-loglevel", "error", "-y"]
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._fps:.6f}"]
        command += ["-i", "pipe:0", *sound, "-c:a", "copy", *pixels, f"file:{self._path}"]
        self._errors: IO[bytes] = _temporary()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for frcnn, which then finishes the file
        )

    def close(self) -> None:
        """Write the last picture and finish the file.

        Raises:
            VideoError: as `write`, or there was no picture.
        """
        if self._before is not None:
            self._send(self._before[0], 1)
            self._before = None
        if self._process is None:
            raise VideoError(f"{self._path}: there is no frame to write")
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait():
            self._fail()
        self._errors.close()

    def _fail(self) -> None:
        assert self._process is not None
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()
        self._give_up()
        raise VideoError(f"{self._path}: ffmpeg cannot write it ({_last_line(said)})")

    def _give_up(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):  # what is still to be sent
            self._process.stdin.close()
        self._errors.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._process is not None:
            self._give_up()


def _temporary() -> IO[bytes]:
    from tempfile import TemporaryFile

    return TemporaryFile()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise VideoError(
            f"{name} is not installed, and frcnn needs it for videos: `apt-get install ffmpeg`, `brew install ffmpeg` "
            f"or `winget install ffmpeg`; or pass a folder with the frames as images"
        )
    return path


def _input(source: str | Path, allow_urls: bool) -> list[str]:
    """ffmpeg's arguments for an input, with the protocols and formats that this input may use."""
    text = str(source)
    if text.isdecimal():
        return _camera(text)
    if _ADDRESS.match(text):
        if not allow_urls:
            raise ValueError(f"{text}: frcnn opens addresses only if asked to; pass allow_urls=True (--allow-urls)")
        return ["-protocol_whitelist", "http,https,tls,tcp,udp,rtp,rtsp,rtsps,crypto,srtp", "-i", text]
    path = Path(text)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such video")
    require_regular(path)
    return ["-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-i", f"file:{path}"]


def _camera(number: str) -> list[str]:
    if sys.platform.startswith("linux"):
        if not Path(f"/dev/video{number}").exists():
            raise FileNotFoundError(f"{number}: there is no camera /dev/video{number}")
        return ["-f", "v4l2", "-i", f"/dev/video{number}"]
    if sys.platform == "darwin":
        return ["-f", "avfoundation", "-framerate", "30", "-i", number]
    raise VideoError("cameras are supported on Linux and macOS; record a video, or use an rtsp address")


def _rate(text: object) -> float:
    try:
        return float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError):
        return 0.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # NOPTS
        return 0.0


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return clipped(lines[-1]) if lines else "no reason given"
