"""How many photos a second `frcnn predict` does, and with how much memory, and write benchmarks/predict.md.

    python benchmarks/predict.py RUN_DIR PHOTOS [--rounds 3] [--count 200]

RUN_DIR is of a training; PHOTOS is a folder with some of its photos, which are repeated by links. Every round does as
many photos one by one (read, resize, detect, draw, write, then the next one) as by the command.
"""

import argparse
import contextlib
import io
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from compare.machine import machine
from PIL import Image

import frcnn
from frcnn.cli import main as command
from frcnn.data.images import images_among

HERE = Path(__file__).parent
MEGAPIXELS_12 = (3000, 4000)
HUGE = (12000, 9000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    photos = images_among(options.photos.rglob("*"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            speed("as they are", options.run, links(photos, folder / "plain", options.count), options.rounds),
            speed(
                "enlarged to 12 megapixels",
                options.run,
                links(enlarged(photos[:5], folder / "large"), folder / "12", options.count // 5),
                options.rounds,
            ),
        ]
        one, huge = photos[0], enlarged(photos[:1], folder / "huge", HUGE)[0]
        memories = {
            "1 photo, as it is": memory(options.run, one),
            f"{options.count // 5} photos": memory(options.run, links(photos, folder / "few", options.count // 5)),
            f"{options.count} photos": memory(options.run, folder / "plain"),
            f"1 photo of {HUGE[0]} x {HUGE[1]} pixels, `--tile 1024`": memory(options.run, huge, "--tile", "1024"),
        }
    text = report(photos, rows, memories, options.rounds)
    (HERE / "predict.md").write_text(text, encoding="utf-8")
    print(text)


def links(photos: list[Path], folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, photo in zip(range(count), itertools.cycle(photos), strict=False):
        (folder / f"{number}{photo.suffix}").symlink_to(photo.resolve())
    return folder


def enlarged(photos: list[Path], folder: Path, size: tuple[int, int] = MEGAPIXELS_12) -> list[Path]:
    folder.mkdir()
    for number, photo in enumerate(photos):
        with Image.open(photo) as image:
            image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return images_among(folder.iterdir())


def speed(what: str, run: Path, folder: Path, rounds: int) -> str:
    """A row of the table. The first photos of all warm up."""
    photos = images_among(folder.iterdir())
    detector = frcnn.load(run)
    one_by_one(detector, photos[:2], folder)
    measured = [
        (
            timed(lambda: one_by_one(detector, photos, folder)),
            timed(lambda: by_command(run, folder)),
        )
        for _ in range(rounds)
    ]
    (wall, busy), (piped_wall, piped_busy) = (
        [statistics.median(values) / len(photos) for values in zip(*way, strict=True)]
        for way in zip(*measured, strict=True)
    )
    times = [one[0] / other[0] for one, other in measured]
    return (
        f"| {what} | {1 / wall:.2f} | {1 / piped_wall:.2f} | **{statistics.median(times):.2f}** "
        f"({min(times):.2f} to {max(times):.2f}) | {1000 * busy:.0f} ms | {1000 * piped_busy:.0f} ms |"
    )


def one_by_one(detector: frcnn.Detector, photos: list[Path], folder: Path) -> None:
    for photo in photos:
        detector.predict(photo).save(folder.parent / f"{photo.stem}-one.jpg")


def by_command(run: Path, folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        status = command(["predict", str(run), str(folder), "--out", str(folder.parent / "pictures")])
    assert status == 0


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of all cores."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy


def memory(run: Path, photos: Path, *arguments: str) -> float:
    """Megabytes at the peak of a process of its own."""
    code = (  # not getrusage's, which begins with that of the process that started it
        "import re, sys; from pathlib import Path; from frcnn.cli import main; status = main(sys.argv[1:]);"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024); sys.exit(status)"
    )
    with tempfile.TemporaryDirectory() as out:
        told = [sys.executable, "-W", "error", "-c", code, "predict", run, photos, "--out", out, *arguments]
        done = subprocess.run(told, capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return float(done.stdout.splitlines()[-1])


def report(photos: list[Path], rows: list[str], memories: dict[str, float], rounds: int) -> str:
    table = "\n".join(rows)
    peaks = "\n".join(f"| {what} | {megabytes:.0f} MB |" for what, megabytes in memories.items())
    with Image.open(photos[0]) as image:
        width, height = image.size
    return f"""# Predicting

{len(photos)} JPEG photos, {width} pixels wide and {height} high, repeated by links. Pictures with the
detections are written. "One by one" reads, resizes, detects, draws and writes each photo before the
next. `frcnn predict` does these at the same time, and loads the model in each round. Medians of
{rounds} rounds; both predict the same photos in each round. `benchmarks/predict.py` writes this file.

| photos | one by one, photos per second | `frcnn predict` | times | one by one, CPU per photo | `frcnn predict` |
| --- | --- | --- | --- | --- | --- |
{table}

| photos | `frcnn predict`, peak memory |
| --- | --- |
{peaks}

Machine: {machine()}.
"""


if __name__ == "__main__":
    main()
