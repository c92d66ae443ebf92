"""The programs ffmpeg and ffprobe: what they may open, and what they say of a video. frcnn ships no codecs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.files import expand_home, require_regular
from frcnn.messages import clipped

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv"}
    | {".3gp"}
)
"""Suffixes that frcnn takes for videos, in lower case. A GIF is a video only where one is asked for."""
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,h264,hevc,flv,live_flv,asf,ogg,gif,apng"
"""Formats of files that ffmpeg may open. Playlists are not among them, because they can name any other file."""
_ADDRESS = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)
_SECRET = re.compile(r"(?<=://)[^/@]*@")
"""User name and password of an address."""
_TIMEOUT = 15_000_000
"""Microseconds without data from an address, which then is dead."""
_DEFAULT_FPS = 25.0
_MAX_FPS = 240.0
"""Streams that do not know their rate report the ticks of their clock, e.g. 90,000."""


class VideoError(ValueError):
    """A video cannot be read."""


class VideoInfo(NamedTuple):
    """What a video says of itself."""

    fps: float
    """Frames per second, on average."""
    frames: int | None
    """How many there are, about; None: unknown, as for a camera."""
    has_audio: bool


def is_camera(source: str | Path) -> bool:
    """Whether this is the number of a camera, e.g. "0"."""
    return str(source).isdecimal()


def is_address(source: str | Path) -> bool:
    """Whether this is an http(s) or rtsp address."""
    return _ADDRESS.match(str(source)) is not None


def is_live(source: str | Path) -> bool:
    """Whether frames come when they happen: a camera or an address."""
    return is_camera(source) or is_address(source)


def is_video(source: str | Path) -> bool:
    """Whether this is a video rather than an image: by its suffix, a camera's number, or an address of no image."""
    if is_address(source):
        return Path(str(source).partition("?")[0]).suffix.lower() not in IMAGE_SUFFIXES
    return is_camera(source) or Path(source).suffix.lower() in VIDEO_SUFFIXES


def shown(source: str | Path) -> str:
    """The source for messages and names of files: without user name and password."""
    return _SECRET.sub("", str(source)) if is_address(source) else str(source)


def program(name: str) -> str:
    """The path of ffmpeg or ffprobe.

    Raises:
        VideoError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise VideoError(
            f"{name} is not installed, and frcnn needs it for videos: `apt-get install ffmpeg`, `brew install ffmpeg` "
            f"(macOS) or `winget install ffmpeg` (Windows)"
        )
    return path


def input_arguments(source: str | Path, *, allow_urls: bool) -> list[str]:
    """Arguments of ffmpeg and ffprobe for an input, with the protocols and formats that this input may use.

    Raises:
        FileNotFoundError: no such file or camera.
        ValueError: an address without `allow_urls`.
    """
    if is_camera(source):
        return _camera(str(source))
    if is_address(source):
        if not allow_urls:
            raise ValueError(
                f"{shown(source)}: frcnn opens addresses only if asked to; pass allow_urls=True (--allow-urls)"
            )
        timeout = "-timeout" if str(source).lower().startswith("rtsp") else "-rw_timeout"
        protocols = "http,https,tls,tcp,udp,rtp,rtsp,rtsps,crypto,srtp"
        return ["-protocol_whitelist", protocols, timeout, str(_TIMEOUT), "-i", str(source)]
    path = expand_home(Path(source))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such video")
    require_regular(path)
    return ["-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-i", f"file:{path}"]


def probe(source: str | Path, *, allow_urls: bool = False) -> VideoInfo:
    """What a video says of itself, without decoding it.

    Args:
        source: a file; the number of a camera, e.g. "0"; or, with `allow_urls`, an http(s) or rtsp address.

    Raises:
        FileNotFoundError: no such file.
        VideoError: it is no video, or ffmpeg is not installed.
    """
    inputs = input_arguments(source, allow_urls=allow_urls)
    command = [program("ffprobe"), "-v", "error", "-print_format", "json", "-show_streams", "-show_format", *inputs]
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    try:
        found = json.loads(done.stdout)
        streams, duration = found["streams"], float(found["format"].get("duration", "nan"))
    except (ValueError, KeyError):
        streams, duration = [], float("nan")
    videos = [each for each in streams if each.get("codec_type") == "video"]
    if not videos:
        raise VideoError(f"{shown(source)}: not a video that ffmpeg can read ({last_line(done.stderr, source)})")
    fps = _rate(videos[0].get("avg_frame_rate")) or _rate(videos[0].get("r_frame_rate")) or _DEFAULT_FPS
    count = videos[0].get("nb_frames", "")
    frames = int(count) if count.isdecimal() and int(count) else round(duration * fps) if duration > 0 else None
    return VideoInfo(fps, frames, any(each.get("codec_type") == "audio" for each in streams))


def last_line(said: bytes, source: str | Path) -> str:
    """The end of what ffmpeg wrote about a source."""
    lines = said.decode(errors="replace").replace(str(source), shown(source)).strip().splitlines()
    return clipped(lines[-1]) if lines else "no reason given"


def _camera(number: str) -> list[str]:
    if sys.platform.startswith("linux"):
        if not Path(f"/dev/video{number}").exists():
            raise FileNotFoundError(f"{number}: there is no camera /dev/video{number}")
        return ["-f", "v4l2", "-i", f"/dev/video{number}"]
    if sys.platform == "darwin":
        return ["-f", "avfoundation", "-framerate", "30", "-i", number]
    raise VideoError("cameras are supported on Linux and macOS; record a video, or use an rtsp address")


def _rate(text: object) -> float:
    """Frames per second of a fraction; 0: there is none that can be true."""
    try:
        rate = float(Fraction(str(text)))
    except (ValueError, ZeroDivisionError):
        return 0.0
    return rate if 0 < rate <= _MAX_FPS else 0.0
