"""How many frames a second `frcnn predict VIDEO --track` does, and how much faster than frame by frame; write
benchmarks/video.md.

    python benchmarks/video.py [--frames N] [--rounds 3] [--growth 20000]

The video is the toy data set in motion. Base models that are not trained (their layers have the same work to do), with
their own input size. Frame by frame: decode a frame, detect, track, draw, encode, then the next one; ffmpeg decodes
and encodes in processes of its own in both ways. The ways take turns. Memory is measured with a small model.
"""

import argparse
import contextlib
import io
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import frcnn  # isort: skip  # before the runtimes: it stops their telemetry
import psutil
import torch
from compare.machine import machine
from compare.moving_toy import moving_toy
from untrained import untrained

from frcnn.cli import main as command
from frcnn.config import make_config
from frcnn.data.transforms import prepare_images
from frcnn.detector import Detector
from frcnn.tools.toy.sprites import CLASSES
from frcnn.tracking.ffmpeg import probe
from frcnn.tracking.reading import read_frames
from frcnn.tracking.tracker import Tracker, TrackerSettings
from frcnn.tracking.writing import VideoWriter

HERE = Path(__file__).parent
BASE_MODELS = {"alexnet": 60, "efficientnet_lite0": 240, "resnet50-fpn": 40}
"""Name -> frames, for several seconds of work."""
SMALL = ("detector.image.shorter_side=120", "detector.image.longer_side=160", "base_model.fc_channels=[64]")
RUNTIMES = {"PyTorch": None, "ONNX Runtime": "model.onnx", "OpenVINO": "model.xml"}
FPS = 25
THRESHOLD = 0.5
LOW = 0.05
"""A detector that is not trained reports its most objects with this threshold."""
GROWTH_AT = 2000
"""Frames until everything that is kept is there."""


def write_video(path: Path, frames: int) -> tuple[int, int]:
    """Returns (width, height)."""
    with VideoWriter(path, fps=FPS) as writer:
        for number, (image, _) in enumerate(moving_toy(0, frames=frames)):
            writer.write(image, number / FPS)
    return image.size


@torch.no_grad()
def files(base_model: str, video: Path, folder: Path, *settings: str) -> dict[str, Path]:
    """The files of a model that nobody trained, by runtime."""
    folder.mkdir()
    config = make_config(base_model=base_model, overrides=settings)
    first = next(read_frames(video)).image
    inputs = (torch.from_numpy(array) for array in prepare_images([first], config.detector.resizing))
    detector = Detector(untrained(config, CLASSES, *inputs).eval())
    detector.save(folder / "model.safetensors")
    found = {"PyTorch": folder / "model.safetensors"}
    for runtime, name in RUNTIMES.items():
        if name is not None:
            kind = "onnx" if name.endswith("onnx") else "openvino"
            found[runtime] = detector.export(kind, folder / name, data=frames_of(video, folder)).files[0]
    return found


def frames_of(video: Path, folder: Path) -> Path:
    """A folder with a few frames as images, to compare exported files with."""
    images = folder / "frames"
    images.mkdir(exist_ok=True)
    for frame in read_frames(video, every=50):
        frame.image.save(images / f"{frame.number}.png")
    return images


def frame_by_frame(model: Path, video: Path, out: Path) -> float:
    """Seconds, with the model open."""
    detector, tracker = frcnn.load(model), Tracker(TrackerSettings(threshold=THRESHOLD))
    start = time.perf_counter()
    with VideoWriter(out, fps=probe(video).fps) as writer:
        for frame in read_frames(video):
            detections = tracker(detector.predict(frame.image, threshold=0.1))
            writer.write(detections.plot(), frame.seconds)
    return time.perf_counter() - start


def by_command(model: Path, video: Path, out: Path) -> float:
    """Seconds of the command, less those that it takes to open the model."""
    options = ["--track", "--threshold", str(THRESHOLD), "--out", str(out)]
    start = time.perf_counter()
    frcnn.load(model, throughput=True)
    opened = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert command(["predict", str(model), str(video), *options]) == 0
    return time.perf_counter() - opened - (opened - start)


def measure(model: Path, video: Path, frames: int, rounds: int) -> tuple[float, float, list[float]]:
    """Frames per second frame by frame, and by the command; how many times faster, in each round."""
    seconds: dict[str, list[float]] = {"frame by frame": [], "command": []}
    for number in range(rounds):
        ways = [("frame by frame", frame_by_frame), ("command", by_command)]
        for name, way in ways if number % 2 else reversed(ways):
            seconds[name].append(way(model, video, video.parent / f"{name}.mp4"))
    times = [one / other for one, other in zip(*seconds.values(), strict=True)]
    slow, fast = (frames / statistics.median(values) for values in seconds.values())
    return slow, fast, times


def growth(model: Path, video: Path, frames: int) -> str:
    """A sentence about the memory, with a video that repeats this one."""
    long, times = video.parent / "long.mp4", math.ceil(frames / (probe(video).frames or 1))
    repeat = ["ffmpeg", "-loglevel", "error", "-stream_loop", str(times - 1), "-i", video, "-c", "copy", long]
    subprocess.run(repeat, check=True)
    outputs = {"--out": "out.mp4", "--json": "out.jsonl", "--counts": "counts.csv"}
    told = ["predict", model, long, "--track", "--threshold", LOW, "--count-line", "300,0,300,900"]
    told += [each for option, file in outputs.items() for each in (option, video.parent / file)]
    seen: list[tuple[int, float]] = []  # frames, and megabytes of the process
    with subprocess.Popen(
        [sys.executable, "-m", "frcnn", *map(str, told)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # one every ten seconds
            number = int(re.findall(r"frame ([\d,]+)", line)[0].replace(",", ""))
            seen.append((number, psutil.Process(process.pid).memory_info().rss / 1e6))
    assert process.returncode == 0
    first = next(each for each in seen if each[0] >= min(GROWTH_AT, frames // 2))
    (early, before), (late, after) = first, seen[-1]
    return (
        f"Memory of `frcnn predict --track --out --json --counts`: {before:.0f} MB after {early:,} frames, "
        f"{after:.0f} MB after {late:,} ({after / before - 1:+.1%})."
    )


def main() -> None:
    frcnn.tune_malloc()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, metavar="N", help="frames of the video (default: by base model)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base-models", nargs="+", choices=BASE_MODELS, default=BASE_MODELS, metavar="NAME")
    parser.add_argument("--growth", type=int, default=20_000, help="frames while the memory is watched")
    options = parser.parse_args()
    rows = [
        "| base model | runtime | frames | frame by frame, frames per second | `frcnn predict --track` | times |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        video = Path(name) / "video.mp4"
        for base_model in options.base_models:
            frames = options.frames or BASE_MODELS[base_model]
            width, height = write_video(video, frames)
            for runtime, model in files(base_model, video, Path(name) / base_model).items():
                slow, fast, times = measure(model, video, frames, options.rounds)
                rows.append(
                    f"| {base_model} | {runtime} | {frames} | {slow:.1f} | {fast:.1f} "
                    f"| **{statistics.median(times):.2f}** ({min(times):.2f} to {max(times):.2f}) |"
                )
                print(rows[-1], flush=True)
        small = files("alexnet", video, Path(name) / "small", *SMALL)["ONNX Runtime"]
        memory = growth(small, video, options.growth)
    text = f"""# Videos

A video of {width} x {height} pixels (the toy data set in motion); objects are tracked, and a video with boxes is
written. Frame by frame: decode, detect, track, draw and encode a frame, then the next one. `frcnn predict` does these
at the same time, and detects in several frames at a time. In both ways, ffmpeg decodes and encodes in processes of its
own. The time to open the model does not count. Models that are not trained, in their own input size. Medians of
{options.rounds} rounds. `benchmarks/video.py` writes this file.

{chr(10).join(rows)}

{memory} Measured with a small model in ONNX Runtime that reports
up to 100 objects in each frame.

Machine: {machine()}.
"""
    (HERE / "video.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
