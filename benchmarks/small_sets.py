"""Train on small data sets with default settings, beside torchvision's detector, and write benchmarks/small_sets.md.

    python benchmarks/small_sets.py DATASETS [--rows NAME ...] [--sets NAME ...] [--seeds 1 2 3]

DATASETS is a folder that holds the data sets by the names below. A row is a way to train: "frcnn" is `frcnn train DATA`
as it is, "frcnn --no-plan" the same with the default settings; the others are torchvision's detector with a feature
pyramid around the same pretrained layers, trained by torchvision's reference recipe (see torchvision_baseline.py), for
as many epochs as the recipe has, or for as long as frcnn trained.

Seconds are those of all cores together (CPU time), which other work on the machine hardly changes. Those of frcnn
include the evaluation.

Data without test images is split 80/20: stratified, near-duplicates together, seed 0. Results are kept in
small_sets.json beside this file. A result that is there is not computed again.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from torchvision_baseline import EPOCHS, detect, train

import frcnn
from frcnn.config import make_config
from frcnn.data.dataset import Dataset, open_dataset
from frcnn.evaluation.metrics import compute_metrics
from frcnn.files import write_text

HERE = Path(__file__).parent
SPLIT = {"data.split": [0.8, 0, 0.2]}
SETS: dict[str, dict[str, Any]] = {
    "grocery": {},
    "bccd": {},
    "raccoon": SPLIT,
    "circuit": SPLIT,
    "screws": {},
    "hituav": {},
    "riceleaf": {},
    "catvott": SPLIT,
}
"""Data set -> the settings that choose its splits."""
Result = dict[str, float]
Results = dict[str, dict[str, dict[str, Result]]]
"""Row -> set -> seed -> result."""


def train_frcnn(data: Path, settings: dict[str, Any], seed: int, results: dict[str, Result]) -> Result:
    return _train_frcnn(data, settings, seed, plan=True)


def train_frcnn_without_plan(data: Path, settings: dict[str, Any], seed: int, results: dict[str, Result]) -> Result:
    return _train_frcnn(data, settings, seed, plan=False)


def _train_frcnn(data: Path, settings: dict[str, Any], seed: int, *, plan: bool) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        run = Path(folder) / "run"
        result = frcnn.train(data, seed=seed, settings=settings, plan=plan, out=run, progress=False)
        seconds = time.process_time() - start
    assert result.metrics is not None
    return _result(result.metrics, seconds)


def train_torchvision(data: Path, settings: dict[str, Any], seed: int, results: dict[str, Result]) -> Result:
    return _train_torchvision(data, settings, seed, None)


def train_torchvision_as_long(data: Path, settings: dict[str, Any], seed: int, results: dict[str, Result]) -> Result:
    """The recipe, its epochs scaled so that it takes as long as frcnn took. Old results do not say how long that was;
    frcnn then trains again."""
    frcnn_result = results.get("frcnn", {})
    if "seconds" not in frcnn_result:
        frcnn_result = train_frcnn(data, settings, seed, results)
    return _train_torchvision(data, settings, seed, frcnn_result["seconds"])


def _train_torchvision(data: Path, settings: dict[str, Any], seed: int, seconds: float | None) -> Result:
    dataset = open_dataset(data, make_config(overrides=settings).data)
    start = time.process_time()
    model = train(dataset, seed, EPOCHS, pyramid=True, seconds=seconds)
    taken = time.process_time() - start
    detections = [detect(model, record, dataset.classes) for record in dataset.test]
    return _result(compute_metrics(detections, _known(dataset), dataset.classes), taken)


def _known(dataset: Dataset) -> list[Any]:
    return list(dataset.test.of_classes(dataset.classes))


def _result(metrics: frcnn.Metrics, seconds: float) -> Result:
    return {"map50": round(metrics.map50, 4), "map": round(metrics.map, 4), "seconds": round(seconds, 1)}


ROWS: dict[str, Callable[[Path, dict[str, Any], int, dict[str, Result]], Result]] = {
    "frcnn": train_frcnn,
    "frcnn --no-plan": train_frcnn_without_plan,
    "torchvision": train_torchvision,
    "torchvision, as long as frcnn": train_torchvision_as_long,
}


def main() -> None:
    def run(row: str, data: Path, name: str, seed: int, results: Results) -> Result:
        others = {each: seeds[name][str(seed)] for each, seeds in results.items() if str(seed) in seeds.get(name, {})}
        return ROWS[row](data, SETS[name], seed, others)

    run_missing(__doc__, HERE / "small_sets.json", list(ROWS), ["frcnn"], run, report)


def run_missing(
    about: str | None,
    store: Path,
    rows: list[str],
    default_rows: list[str],
    run: Callable[[str, Path, str, int, Results], Result],
    report: Callable[[Results], str],
) -> None:
    """Read the command line, run what is not in the store yet, and write the report beside it after each run.

    Args:
        run: of a row, the folder of a set, its name, a seed and all results so far.
    """
    frcnn.tune_malloc()  # as the commands do
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--rows", nargs="+", choices=rows, default=default_rows)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.sets:
            for row in options.rows:
                results = _read(store)
                if str(seed) in results.get(row, {}).get(name, {}):
                    continue
                result = run(row, options.datasets / name, name, seed, results)
                print(name, row, seed, result, flush=True)
                with FileLock(store.with_suffix(".lock")):
                    results = _read(store)  # again: another process may have written to it
                    results.setdefault(row, {}).setdefault(name, {})[str(seed)] = result
                    write_text(store, json.dumps(results, indent=1) + "\n")
                    write_text(store.with_suffix(".md"), report(results))


def _read(store: Path) -> Results:
    return json.loads(store.read_text()) if store.is_file() else {}


# About the committed results: change this text with them.
MACHINES = """
Machines: two cores of an Intel Xeon or of an AMD EPYC, both with native bfloat16, no GPU, Python 3.11.7, torch 2.15.0.
On the EPYC ran circuit, riceleaf, the row "frcnn --no-plan" of raccoon, and torchvision on bccd. These trainings had
one thread each, and two ran at once; the others had two threads. With two threads, CPU time counts the time in which
one waits for the other: with one, `frcnn` on raccoon takes about 1450 CPU seconds. On bccd, the time for torchvision
was computed from a training of frcnn with fewer epochs. On circuit, torchvision's training took 16 GB of memory. On
riceleaf, torchvision ran for 1,075 CPU seconds of the Xeon, which is about half as fast, and learned nearly nothing
(COCO AP 0.000); this is not comparable, so it is not in the table.
"""


def report(results: Results) -> str:
    lines = [
        "# Small data sets with default settings",
        "",
        "`python benchmarks/small_sets.py` writes this file and says what the rows are. Each cell is the mean of the",
        "seeds; in parentheses, each seed. CPU seconds are medians. Missing sets, rows and seeds were not run.",
        "",
        "The rules of the plan were chosen on other sets. riceleaf was not used: only the default settings had been",
        "measured on it.",
        "",
    ]
    for name in SETS:
        rows = [(row, results[row][name]) for row in ROWS if results.get(row, {}).get(name)]
        if not rows:
            continue
        lines += [f"## {name}", "", "| row | mAP50 | COCO AP | CPU seconds |", "| --- | --- | --- | --- |"]
        for row, runs in rows:
            cells = [_cell([run[metric] for run in runs.values()]) for metric in ("map50", "map")]
            times = [run["seconds"] for run in runs.values() if "seconds" in run]
            seconds = f"{statistics.median(times):.0f}" if times else "-"
            lines.append(f"| {row} | {cells[0]} | {cells[1]} | {seconds} |")
        lines.append("")
    gains = [
        run["map"] - without[seed]["map"]
        for name, runs in results.get("frcnn", {}).items()
        for without in [results.get("frcnn --no-plan", {}).get(name, {})]
        for seed, run in runs.items()
        if seed in without
    ]
    if gains:
        lines += [
            f'COCO AP of "frcnn" minus that of "frcnn --no-plan": {min(gains):.3f} to {max(gains):.3f}, on average '
            f"{statistics.fmean(gains):.3f}.",
            "",
        ]
    return "\n".join(lines).rstrip("\n") + "\n" + MACHINES


def _cell(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


if __name__ == "__main__":
    main()
