"""Detection in many images: one process, shards, and Ray.

    python benchmarks/scale.py --write                          # 100,000 images, into scale.md
    python benchmarks/scale.py --images 2000 --run RUN_DIR      # a few, printed

Makes the images (JPEG, 128 x 96 pixels), and deletes them afterwards. Needs the extra `ray`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from compare.machine import machine
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
IMAGES, SIZE = 100_000, (96, 128)
ALONE = 20_000
"""Images of one process: its rate does not depend on their number, and 100,000 take 40 minutes."""
WAYS = ("one process", "shards", "Ray")
MILLION, BILLION = 10**6, 10**9
RAY = """
import json, sys, time
start = time.monotonic()
import frcnn.ray as frcnn_ray
frcnn_ray.start()
begin = time.monotonic()
done = frcnn_ray.predict(sys.argv[2], sys.argv[1], output=sys.argv[3], concurrency=int(sys.argv[4]))
print(json.dumps({"images": done.images, "errors": done.errors, "seconds": time.monotonic() - begin}))
"""


@dataclass
class Figures:
    """Of one way."""

    way: str
    processes: int
    images: int
    seconds: float
    """From the start of the first process to the end of the last one, with the start of Python and of Ray."""
    start: float
    """Seconds of a job of one image: what does not grow with the number of images."""
    driver: int
    """Largest memory of the process that was started, bytes (proportional set size)."""
    workers: int
    """Largest memory of all other processes together, bytes."""

    @property
    def rate(self) -> float:
        """Images per second, without the start."""
        return self.images / (self.seconds - self.start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N")
    parser.add_argument(
        "--run", type=Path, metavar="RUN_DIR", help="the model (default: toy data, trained on the spot)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="of shards and Ray")
    parser.add_argument("--what", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--folder", type=Path, help="where the images are made (default: the system's)")
    parser.add_argument("--price", type=float, default=0.05, help="of a core for an hour, dollars")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.images < 1000:
        parser.error("--images: with fewer than 1,000, the start outweighs the work")
    with tempfile.TemporaryDirectory(prefix="frcnn-scale-", dir=options.folder) as name:
        folder = Path(name)
        run = options.run.resolve() if options.run else train(folder / "run")
        print(f"making {options.images} images", flush=True)
        make_images(folder / "one", 1)
        make_images(folder / "images", options.images)
        size = sum(file.stat().st_size for file in (folder / "images").rglob("*.jpg")) / options.images
        figures = []
        for way in options.what:
            processes, count, images = options.processes, options.images, folder / "images"
            if way == "one process":
                processes, count = 1, min(ALONE, options.images)
                images = list_first(images, count, folder / "first.txt")
            start, *_ = measure(way, run, folder / "one", folder / "out", processes, 1)
            seconds, driver, workers = measure(way, run, images, folder / "out", processes, count)
            figures.append(Figures(way, processes, count, seconds, start, driver, workers))
            print(row(figures[-1]), flush=True)
    model = options.run or "EfficientNet-Lite0, trained on toy images, with inputs of this size"
    text = report(figures, options.price, str(model), size)
    print(f"\n{text}")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in figures], indent=2) + "\n")
    if options.write:
        (HERE / "scale.md").write_text(text)
    return 0


def train(run: Path) -> Path:
    """A detector with the default base model, trained on toy images; its input is as large as the images."""
    data = run.with_name("data")
    sides = {"shorter_side": min(SIZE), "longer_side": max(SIZE)}
    settings = [text for key, side in sides.items() for text in ("--set", f"detector.image.{key}={side}")]
    for command in (
        ["data", "toy", data],
        ["train", data, "--out", run, "--no-plan", "--offline", "--epochs", "1", *settings],
    ):
        subprocess.run([sys.executable, "-m", "frcnn", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return run


def make_images(folder: Path, count: int) -> None:
    """Rectangles on noise, 1,000 images a folder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        file = folder / f"{number // 1000:04d}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(generator.integers(0, 60, (*SIZE, 3), dtype=np.uint8))
        x, y, width, height = generator.integers((0, 0, 20, 20), (80, 60, 48, 36)).tolist()
        ImageDraw.Draw(image).rectangle((x, y, x + width, y + height), fill=(220, 40, 30))
        image.save(file, quality=90)


def list_first(images: Path, count: int, file: Path) -> Path:
    """A text file with the paths of the first images."""
    paths = sorted(images.rglob("*.jpg"), key=lambda path: int(path.stem))[:count]
    file.write_text("".join(f"{path}\n" for path in paths))
    return file


def measure(way: str, run: Path, images: Path, out: Path, processes: int, count: int) -> tuple[float, int, int]:
    """Seconds, and the bytes of the driver and of the workers."""
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
    start = time.monotonic()
    with memory_watched() as watch:
        if way == "Ray":
            command = [sys.executable, "-c", RAY, str(run), str(images), str(out), str(processes)]
            watch.driver = started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            codes = [started.wait()]
        else:
            command = [sys.executable, "-m", "frcnn", "predict", str(run), str(images), "--parts", str(out), "--shard"]
            shards = [
                subprocess.Popen([*command, f"{index}/{processes}"], stdout=subprocess.DEVNULL, env=environment)
                for index in range(processes)
            ]
            codes = [shard.wait() for shard in shards]
    seconds = time.monotonic() - start
    if any(codes):
        raise RuntimeError(f"{way}: exit status {codes}")
    found = count_rows(way, out)
    if found != count:
        raise RuntimeError(f"{way}: {found} rows for {count} images")
    return seconds, watch.most_of_driver, watch.most_of_workers


def count_rows(way: str, out: Path) -> int:
    if way == "Ray":
        from pyarrow.dataset import dataset

        return int(dataset(out, format="parquet").count_rows())
    merged = subprocess.run([sys.executable, "-m", "frcnn", "merge", out], check=True, capture_output=True, text=True)
    return int(merged.stdout.split(": ")[-1].split()[0])


class MemoryWatch:
    """The largest memory of this program's children, every five seconds. To look twice a second took an eighth of a
    core with Ray's processes."""

    def __init__(self) -> None:
        self.driver: subprocess.Popen[bytes] | None = None
        self.most_of_driver = self.most_of_workers = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._is_over.wait(5):
            driver = workers = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    used = process.memory_full_info().pss
                    if self.driver is not None and process.pid == self.driver.pid:
                        driver += used
                    else:
                        workers += used
            self.most_of_driver = max(self.most_of_driver, driver)
            self.most_of_workers = max(self.most_of_workers, workers)


@contextmanager
def memory_watched() -> Iterator[MemoryWatch]:
    watch = MemoryWatch()
    watch._thread.start()
    try:
        yield watch
    finally:
        watch._is_over.set()
        watch._thread.join()


def row(figures: Figures) -> str:
    driver = f"{figures.driver / MILLION:,.0f} MB" if figures.driver else "-"
    return (
        f"| {figures.way} | {figures.processes} | {figures.images:,} | {figures.seconds:,.0f} s "
        f"| {figures.start:.1f} s | {figures.rate:.1f} | {driver} | {figures.workers / MILLION:,.0f} MB |"
    )


def report(figures: Sequence[Figures], price: float, model: str, size: float) -> str:
    """The text of scale.md.

    Args:
        price: dollars, of a core for an hour.
        size: bytes of an image, on average.
    """
    by_way = {each.way: each for each in figures}
    lines = [
        "# Many images",
        "",
        f"Written by `python benchmarks/scale.py --write`. {max(each.images for each in figures):,} JPEG images of "
        f"{SIZE[1]} x {SIZE[0]} pixels, made for the measurement; model: {model}. Machine: {machine()}.",
        "",
        "| way | processes | images | time | of this, start | images per second after the start | driver | workers |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(row, figures),
        "",
        "The start is the time of a job of one image: Python, PyTorch, the model, and for Ray its cluster. Memory is "
        "the proportional set size (shared pages count once), at its largest. Shards have no driver. The output of "
        "each way had a row for each image.",
    ]
    if "shards" in by_way and "Ray" in by_way:
        shards, ray = by_way["shards"], by_way["Ray"]
        whole = ray.seconds / shards.seconds - 1
        after = shards.rate / ray.rate - 1
        lines += [
            "",
            f"Beside shards with as many processes, Ray takes {whole:+.1%} of time in total, and {after:+.1%} after "
            f"the start.",
        ]
    if "shards" in by_way:
        lines += ["", "## A billion images", "", projection(by_way["shards"], by_way.get("Ray"), price, size)]
    return "\n".join(lines) + "\n"


def projection(shards: Figures, ray: Figures | None, price: float, size: float) -> str:
    per_core = shards.rate / shards.processes
    core_hours = BILLION / per_core / 3600
    cores, machines = 3200, 100
    gigabytes = per_core * cores * size / BILLION
    sentences = [
        f"A projection, not a measurement. One core does {per_core:.1f} images per second, so a billion images take "
        f"{core_hours:,.0f} core hours: {core_hours / cores:,.0f} hours on {machines} machines of {cores // machines} "
        f"cores. At {price:.2f} dollars for a core hour these are {core_hours * price:,.0f} dollars.",
        f"It assumes images as small as these; that all cores of a machine together are as fast as the ones measured; "
        f"that storage delivers {per_core * cores:,.0f} images per second (some {gigabytes:.1f} GB per "
        f"second, for files of {size / 1000:.1f} kB); and that no machine waits at the end.",
        "The time per image grows with the input size ([speed.md](speed.md)): put in the rate that "
        "`frcnn predict --parts` prints for your own images.",
        f"Every shard lists all images: {cores:,} shards list a folder {cores:,} times. Use one list of images for "
        f"each machine, or Parquet files of images with Ray.",
        f"Memory: {shards.workers / shards.processes / MILLION:,.0f} MB for a process, and up to 40 bytes for each "
        f"image of its shard.",
    ]
    if ray is not None:
        sentences.append(f"With Ray, the rate after the start is {ray.rate / shards.rate:.0%} of that of shards.")
    return " ".join(sentences)


if __name__ == "__main__":
    sys.exit(main())
