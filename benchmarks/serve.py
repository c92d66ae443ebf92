"""How many requests `frcnn serve` answers, how fast, and in how much memory; write benchmarks/serve.md.

    python benchmarks/serve.py RUN_DIR PHOTOS [--requests 5000] [--growth 20000]

RUN_DIR is a run directory, PHOTOS a folder; its photos are resized to 640 pixels. A second model is small (160 x 120
pixels, the toy data set with `--smoke-test`): with it, the service itself takes a large part of the time, and many
requests fit into some minutes. Clients and services are processes of
one machine, so they share its cores: a separate process sends all requests, over connections that stay open. Two
services are measured in turn, in rounds, and the medians over the rounds are given. Needs `pip install fastapi`.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from compare.load import Load
from compare.machine import machine
from PIL import Image, ImageOps

import frcnn
from frcnn.tools.toy import write_toy

HERE = Path(__file__).parent
RESULTS = HERE / "serve.json"
CLIENTS = (1, 8, 64)
REQUESTS = 150
"""In a row of the model that is measured; more if there are many clients."""
ROUNDS = 3
REQUESTS_OF_CLIENT = 4
"""At least, in a round: with fewer, most of a round is its start and its end."""
WARM = 100
"""Requests before these, at most."""
SIDE = 640
MAX_GROWTH = 0.03


def load(address: str, photos: Path, clients: int, requests: int, *, form: bool = False) -> Load:
    """The load of a process that does nothing but send."""
    command = [sys.executable, str(HERE / "compare" / "load.py"), address, str(photos), str(clients), str(requests)]
    done = subprocess.run([*command, *["form"] * form], check=True, stdout=subprocess.PIPE, text=True)
    return Load(*json.loads(done.stdout))


# ------------------------------------------------------------------------------------------------------------ services


class Row(NamedTuple):
    """Of the table."""

    model: str
    service: str
    clients: int
    per_second: float
    p50: float
    """Milliseconds, as the others."""
    p95: float
    p99: float


class Service(NamedTuple):
    address: str
    process: psutil.Process

    def megabytes(self) -> float:
        """Resident memory of all its processes."""
        return sum(each.memory_info().rss for each in (self.process, *self.process.children(recursive=True))) / 1e6


@contextmanager
def served(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[Service]:
    """A service, once its output has its address."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, *command], stdout=log, stderr=log, text=True, env=os.environ | (environment or {})
        ) as process,
    ):
        try:
            address = None
            while address is None:
                time.sleep(0.2)
                log.seek(0)
                text = log.read()
                assert process.poll() is None, text
                found = re.search(r"http://[\d.]+:\d+", text)
                address = found and found.group()
            yield Service(address, psutil.Process(process.pid))
        finally:
            process.terminate()


@contextmanager
def ours(model: Path, *options: str) -> Iterator[Service]:
    with served(["-m", "frcnn", "serve", str(model), "--port", "0", *options]) as service:
        yield service


@contextmanager
def simplest(model: Path) -> Iterator[Service]:
    """FastAPI, with uvicorn's defaults."""
    command = ["-m", "uvicorn", "--factory", "compare.fastapi_app:make_app", "--port", "0", "--app-dir", str(HERE)]
    with served(command, {"FRCNN_MODEL": str(model)}) as service:
        yield service


# -------------------------------------------------------------------------------------------------------------- tables


def in_rounds(services: dict[str, Service], photos: Path, clients: int, requests: int) -> dict[str, Load]:
    """Medians over the rounds; the services take turns. Some requests before are not counted: PyTorch and ONNX Runtime
    are slower with a size of input that is new to them."""
    found: dict[str, list[Load]] = {name: [] for name in services}
    for number in range(ROUNDS + 1):
        names = list(services) if number % 2 else list(reversed(services))
        for name in names:
            form, count = name.startswith("FastAPI"), requests // ROUNDS if number else min(WARM, 5 * clients)
            measured = load(services[name].address, photos, clients, count, form=form)
            found[name] += [measured] * bool(number)
    return {name: Load(*map(statistics.median, zip(*loads, strict=True))) for name, loads in found.items()}


def measure(kind: str, model: Path, requests: int, photos: Path) -> list[Row]:
    """The rows of a model."""
    rows = []
    with ExitStack() as stack:
        services = {
            "`frcnn serve`": stack.enter_context(ours(model)),
            "`frcnn serve --max-batch 1`": stack.enter_context(ours(model, "--max-batch", "1")),
            "FastAPI, one function": stack.enter_context(simplest(model)),
        }
        for clients in CLIENTS:
            least = clients * ROUNDS * REQUESTS_OF_CLIENT
            for name, each in in_rounds(services, photos, clients, max(least, requests)).items():
                rows.append(Row(kind, name, clients, *each))
                print(rows[-1], flush=True)
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| model | service | clients | requests per second | p50 | p95 | p99 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        times = " | ".join(f"{value:.0f} ms" for value in (row.p50, row.p95, row.p99))
        lines.append(f"| {row.model} | {row.service} | {row.clients} | {row.per_second:.1f} | {times} |")
    return lines


def small_model(folder: Path) -> Path:
    data, run = folder / "toy", folder / "small"
    write_toy(data, seed=1)
    size = ("detector.image.shorter_side=120", "detector.image.longer_side=160", "base_model.fc_channels=[64]")
    options = [part for setting in size for part in ("--set", setting)]
    command = ["-m", "frcnn", "train", str(data), "--out", str(run), "--smoke-test", "--offline", *options]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    frcnn.load(run).export("onnx", folder / "small.onnx")
    return folder / "small.onnx"


def growth(model: Path, photos: Path, requests: int) -> tuple[str, bool]:
    """A sentence about the memory, and whether it is flat in the second half."""
    points = sorted({max(1, requests // share) for share in (20, 4, 2, 1)})
    megabytes, before = [], 0
    with ours(model) as service:
        for point in points:
            load(service.address, photos, 8, point - before)
            megabytes.append(service.megabytes())
            before = point
    listed = ", ".join(f"{each:.0f} MB after {point:,}" for each, point in zip(megabytes, points, strict=True))
    grown = megabytes[-1] / megabytes[-2] - 1
    flat = grown <= MAX_GROWTH
    text = (
        f"Memory of the service (resident, all its processes): {listed} requests. It grows until the memory allocator "
        f"has met the largest requests; in the second half by {grown:+.1%}, which is "
        f"{'flat' if flat else 'NOT flat'} within {MAX_GROWTH:.0%}."
    )
    return text, flat


def resized(photos: Path, folder: Path) -> str:
    """Copies of at most SIDE pixels. Returns what they are, in words."""
    sizes, total = set(), 0
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))[:20]
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        image.thumbnail((SIDE, SIDE))
        image.save(folder / f"{number:02}.jpg", quality=90)
        sizes.add(f"{image.width} x {image.height}")
        total += (folder / f"{number:02}.jpg").stat().st_size
    if not files:
        raise SystemExit(f"{photos}: no photos")
    return f"{len(files)} JPEG photos of {' and '.join(sorted(sizes))} pixels, {total / len(files) / 1000:.0f} kB each"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN_DIR")
    parser.add_argument("photos", metavar="PHOTOS", type=Path)
    parser.add_argument("--requests", type=int, default=5000, help="in each row of the small model")
    parser.add_argument("--growth", type=int, default=20_000, help="requests while the memory is watched")
    parser.add_argument("--only", metavar="NAME", help="measure this model, or memory, and keep the other results")
    options = parser.parse_args()
    try:
        import fastapi
    except ModuleNotFoundError:
        raise SystemExit("the comparison needs FastAPI: pip install fastapi") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        about = resized(options.photos, folder / "photos")
        file = folder / "model.onnx"
        frcnn.load(options.run).export("onnx", file)
        small = small_model(folder)
        models = {
            "small, ONNX Runtime": (small, options.requests),
            "ONNX Runtime": (file, REQUESTS),
            "PyTorch": (Path(options.run), REQUESTS),
        }
        stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
        rows = {name: [Row(*row) for row in stored["rows"] if row[0] == name] for name in models}
        for name, (model, requests) in models.items():
            if options.only in (None, name):
                rows[name] = measure(name, model, requests, folder / "photos")
        if options.only in (None, "memory"):
            stored["memory"] = growth(small, folder / "photos", options.growth)
    memory, flat = stored["memory"]
    stored["rows"] = [row for each in rows.values() for row in each]
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n")
    text = f"""# The service under load

{about}, over loopback. All clients are one process on the same machine, each with a connection that stays open; that
process takes a part of the cores. Figures are medians over {ROUNDS} rounds in which the services take turns. "FastAPI,
one function" is [compare/fastapi_app.py](compare/fastapi_app.py) (FastAPI {fastapi.__version__}) with uvicorn's
defaults: the same model, and the service that one writes first. The rows "small" have {options.requests:,} requests
each; their model (a toy detector, 160 x 120 pixels) is fast, so the service itself takes a larger part of the time.
`benchmarks/serve.py` writes this file.

{chr(10).join(table(stored["rows"]))}

{memory} Measured with 8 clients and the small model.

Machine: {machine()}.
"""
    with suppress(UnicodeEncodeError):
        print(text)
    (HERE / "serve.md").write_text(text, encoding="utf-8")
    if not flat:
        raise SystemExit(memory)


if __name__ == "__main__":
    main()
