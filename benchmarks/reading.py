"""How long it takes to find and read the annotations of 5,000 images, in each of the usual formats.

Run: python benchmarks/reading.py

The images are links to one small image, because reading annotations opens no image, but for YOLO's, whose boxes are
fractions of the image's size. Times are medians of three runs, each in this process. Results: benchmarks/reading.md.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from compare.machine import machine
from PIL import Image

from frcnn.config import DataSettings
from frcnn.data.dataset import read_annotations
from frcnn.data.discover import discover
from frcnn.data.records import Record, make_record
from frcnn.tools.convert import write_dataset

IMAGES, OBJECTS, RUNS = 5000, 3, 3
OUT = Path(__file__).with_suffix(".md")


def labelme(folder: Path, records: list[Record]) -> None:
    folder.mkdir()
    for record in records:
        (folder / record.image.name).symlink_to(record.image)
        shapes = [
            {"label": name, "points": [box[:2], box[2:]], "shape_type": "rectangle"}
            for name, box in zip(record.class_names, record.boxes.tolist(), strict=True)
        ]
        content = {"shapes": shapes, "imagePath": record.image.name, "imageHeight": 480, "imageWidth": 640}
        (folder / f"{record.image.stem}.json").write_text(json.dumps(content))


def seconds(folder: Path) -> tuple[float, int]:
    start = time.perf_counter()
    discovery = discover(folder, DataSettings())
    records = read_annotations(discovery, DataSettings(), lambda problem: None, ("train",))["train"]
    return time.perf_counter() - start, sum(records.class_counts.values())


def main() -> None:
    rng = np.random.default_rng(0)
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        Image.new("RGB", (640, 480)).save(folder / "photo.jpg")
        (folder / "images").mkdir()
        records = []
        for number in range(IMAGES):
            image = folder / "images" / f"{number:05d}.jpg"
            image.symlink_to(folder / "photo.jpg")
            corners = rng.integers(1, 200, (OBJECTS, 2))
            boxes = np.concatenate((corners, corners + rng.integers(10, 250, (OBJECTS, 2))), axis=1)
            records.append(make_record(image, [(box.tolist(), f"class {box[0] % 5}") for box in boxes], (480, 640)))
        labelme(folder / "labelme", records)
        for form in ("pascal_voc", "coco", "yolo", "csv"):
            write_dataset({"train": records}, folder / form, form, link=True)
        for form in ("pascal_voc", "coco", "yolo", "csv", "labelme"):
            runs = [seconds(folder / form) for _ in range(RUNS)]
            assert {count for _, count in runs} == {IMAGES * OBJECTS}
            lines.append(f"| {form} | {statistics.median(each for each, _ in runs):.2f} |")
            print(lines[-1], flush=True)
    OUT.write_text(
        "# Reading annotations\n\n"
        f"{IMAGES} images with {OBJECTS} objects each: find the format, and read all boxes. Medians of {RUNS} runs.\n"
        "`python benchmarks/reading.py` writes this file.\n\n"
        "| format | seconds |\n| --- | --- |\n" + "\n".join(lines) + f"\n\nMachine: {machine()}.\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
