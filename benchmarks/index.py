"""Open the annotations of a million images, and write benchmarks/index.md.

    python benchmarks/index.py [--images 1000 10000 100000 1000000]

Writes COCO annotations with one object an image into a temporary folder (the images are empty files), opens them in a
process of its own as training does before it looks at the images, and reads all records once with two and with eight
threads.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from compare.machine import machine

from frcnn.config import DataSettings
from frcnn.data.dataset import read_annotations
from frcnn.data.discover import discover

HERE = Path(__file__).parent
CLASSES = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open is not None:
        print(json.dumps(measure(options.open)))
        return
    rows = []
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            size = write(Path(folder), count)
            command = [sys.executable, __file__, "--open", folder]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"images": count, "megabytes": size / 1e6, **found})
        print(rows[-1], flush=True)
    (HERE / "index.md").write_text(report(rows))


def write(folder: Path, count: int) -> int:
    """As COCO writes it, one object an image; returns its bytes."""
    chance = random.Random(0)
    (folder / "annotations").mkdir()
    (folder / "images").mkdir()
    file = folder / "annotations" / "instances_train.json"
    with file.open("w") as out:
        out.write('{"images": [')
        for number in range(count):
            (folder / "images" / f"{number:012}.jpg").touch()
            image = {"id": number, "file_name": f"{number:012}.jpg", "width": 640, "height": 480, "license": 3}
            out.write((", " if number else "") + json.dumps(image))
        out.write('], "annotations": [')
        for number in range(count):
            box = [round(chance.uniform(0, 300), 2) for _ in range(4)]
            annotation = {"id": number, "image_id": number, "category_id": chance.randrange(CLASSES), "bbox": box}
            annotation |= {"area": round(box[2] * box[3], 2), "iscrowd": 0, "segmentation": []}
            out.write((", " if number else "") + json.dumps(annotation))
        categories = [{"id": number, "name": f"class {number}"} for number in range(CLASSES)]
        out.write(f'], "categories": {json.dumps(categories)}}}')
    return file.stat().st_size


def measure(folder: Path) -> dict[str, float]:
    process = psutil.Process()
    before = process.memory_info().rss
    start = time.perf_counter()
    discovery = discover(folder, DataSettings())
    records = read_annotations(discovery, DataSettings(), lambda problem: None, ("train",))["train"]
    seconds = time.perf_counter() - start
    kept = process.memory_info().rss - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    grown = {}
    for workers in (2, 8):
        with ThreadPoolExecutor(workers) as pool:
            assert sum(
                pool.map(lambda place: len(records[place].class_names), range(len(records)), chunksize=1000)
            ) == len(records)
        grown[f"rss_{workers}"] = process.memory_info().rss
    return {"seconds": seconds, "peak": peak, "kept": kept, **grown}


def report(rows: list[dict[str, float]]) -> str:
    lines = [
        "# A million images",
        "",
        "COCO annotations with one object per image, opened as training does before it reads the images. Workers",
        "are threads that share the records: the memory of the whole process is given after two and eight of them",
        "have read all records. `benchmarks/index.py` writes this file.",
        "",
        "| images | file | seconds to open | peak memory | of it, the records | with 2 workers | with 8 workers |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        peak, kept, two, eight = (f"{row[name] / 1e6:,.0f} MB" for name in ("peak", "kept", "rss_2", "rss_8"))
        lines.append(
            f"| {row['images']:,} | {row['megabytes']:,.1f} MB | {row['seconds']:.2f} | {peak} | {kept} | {two} | "
            f"{eight} |"
        )
    return "\n".join([*lines, "", f"Machine: {machine()}.", ""])


if __name__ == "__main__":
    main()
