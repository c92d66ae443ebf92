"""Does `frcnn annotate --next` choose better images than random order? Write benchmarks/next_images.md.

    python benchmarks/next_images.py DATASETS [--rows NAME ...] [--sets NAME ...] [--seeds 1 2 3]

DATASETS is a folder that holds the data sets by the names of small_sets.py. 20 of the training images count as labeled,
the others as unlabeled. A detector is trained on the 20. Then 20 more are labeled, then 40 more, and each time a new
detector is trained and evaluated on the same test images. A row says how the images are chosen: at random ("random"),
or as `frcnn annotate --next` does ("diverse"). "diverse, then uncertain" is what it did before: it picked three times
as many images by their features, and took those about which the detector was least certain. All rows begin with the
same 20 random images. Trainings have the default settings without a plan, and 600 steps of one image. The metrics are
means over all classes of the test images: a class that none of the labeled images has counts as 0.
"""

import statistics
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from compare.coco_folder import write_coco
from compare.machine import machine
from small_sets import SETS, Result, Results, run_missing

import frcnn
from frcnn.config import make_config
from frcnn.data.dataset import open_dataset
from frcnn.data.records import Record
from frcnn.evaluation.evaluate import evaluate
from frcnn.tools.annotate.next_images import choose_next, image_features
from frcnn.training.crossval import estimate

HERE = Path(__file__).parent
SIZES = (20, 40, 80)
STEPS = 600
ROWS = ("random", "diverse")
REPORTED = (*ROWS, "diverse, then uncertain")
"""The code of the last row was not kept."""


def curve(row: str, data: Path, name: str, seed: int, results: Results) -> Result:
    """COCO AP and mAP50 after each number of labeled images."""
    dataset = open_dataset(data, make_config(overrides=SETS[name]).data)
    images, test = list(dataset.train), dataset.test.of_classes(dataset.classes)
    rng = np.random.default_rng(seed)
    labeled = rng.permutation(len(images))[: SIZES[0]].tolist()
    result: Result = {}
    for size, following in zip(SIZES, (*SIZES[1:], SIZES[-1]), strict=True):
        detector = train(data, name, tuple(labeled), seed)
        own = evaluate(detector.runtime, test.of_classes(detector.classes)).per_class
        result |= {
            f"map_{size}": mean_over(test.learned_counts, {name: each.ap for name, each in own.items()}),
            f"map50_{size}": mean_over(test.learned_counts, {name: each.ap50 for name, each in own.items()}),
        }
        labeled += choose(row, detector, images, labeled, following - size, rng)
    return result


def mean_over(classes: Collection[str], ap: Mapping[str, float]) -> float:
    """The mean AP over these classes; 0 for those that the detector does not know."""
    return round(statistics.fmean(ap.get(name, 0.0) for name in classes), 4)


@cache  # all rows begin with the same images
def train(data: Path, name: str, labeled: tuple[int, ...], seed: int) -> frcnn.Detector:
    images = open_dataset(data, make_config(overrides=SETS[name]).data).train
    with tempfile.TemporaryDirectory() as folder:
        chosen = write_coco([images[index] for index in labeled], Path(folder) / "data")
        run = Path(folder) / "run"
        epochs = STEPS // len(labeled)
        result = frcnn.train(chosen, seed=seed, epochs=epochs, plan=False, out=run, progress=False)
        return result.detector


def choose(
    row: str,
    detector: frcnn.Detector,
    images: Sequence[Record],
    labeled: Sequence[int],
    count: int,
    rng: np.random.Generator,
) -> list[int]:
    """Indices of the images that are labeled next."""
    rest = sorted(set(range(len(images))) - set(labeled))
    if row == "random" or not count:
        picked: list[int] = rng.permutation(rest)[:count].tolist()
        return picked
    seen = [image_features(detector.model, record.image) for record in images]
    chosen = choose_next([seen[index] for index in rest], [seen[index] for index in labeled], count)
    return [rest[index] for index in chosen]


def report(results: Results) -> str:
    lines = [
        "# Choosing the images that are labeled next",
        "",
        "`python benchmarks/next_images.py` writes this file and says what the rows are. Each cell is the mean COCO AP",
        "of the seeds; in parentheses, each seed. Below: the mean difference from random, seed by seed, with its 95 %",
        "interval (of Student's t distribution, over all sets and seeds). Rows that are missing were not run.",
        "",
        "| set | row | " + " | ".join(f"{size} images" for size in SIZES) + " |",
        "| --- | --- |" + " --- |" * len(SIZES),
    ]
    for name in SETS:
        for row in REPORTED:
            runs = results.get(row, {}).get(name, {})
            if runs:
                cells = [[run[f"map_{size}"] for run in runs.values()] for size in SIZES]
                shown = (f"{statistics.fmean(cell):.3f} ({', '.join(f'{v:.3f}' for v in cell)})" for cell in cells)
                lines.append(f"| {name} | {row} | {' | '.join(shown)} |")
    lines += ["", *_differences(results), "", f"Machine: {machine()}", ""]
    return "\n".join(lines)


def _differences(results: Results) -> list[str]:
    lines = []
    for row in REPORTED:
        for size in SIZES[1:]:
            pairs = [
                run[f"map_{size}"] - results["random"][name][seed][f"map_{size}"]
                for name, runs in results.get(row, {}).items()
                for seed, run in runs.items()
                if row != "random" and seed in results.get("random", {}).get(name, {})
            ]
            if len(pairs) > 1:
                lines.append(f"* {row} minus random, {size} images: {estimate(pairs)}, {len(pairs)} pairs")
    return lines


def main() -> None:
    run_missing(__doc__, HERE / "next_images.json", list(ROWS), list(ROWS), curve, report)


if __name__ == "__main__":
    main()
