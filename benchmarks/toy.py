"""What `frcnn demo` does, with several seeds (of the drawings and of the training), and write benchmarks/toy.md.

python benchmarks/toy.py [--seeds 1 2 3]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from compare.machine import machine

import frcnn
from frcnn.cli import demo
from frcnn.tools.toy import write_toy


def main() -> None:
    frcnn.tune_malloc()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    rows = []
    for seed in parser.parse_args().seeds:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            data = Path(folder) / "data"
            write_toy(data, seed=seed)
            result = frcnn.train(
                data, out=Path(folder) / "run", seed=seed, settings=demo.SETTINGS, offline=True, progress=False
            )
            mean_ap = result.metrics.map50
            rows.append((seed, mean_ap, time.monotonic() - start))
            print(*rows[-1], flush=True)
    lines = [
        "# Toy",
        "",
        "The generated data set (32 training images, 4 without objects, 8 test images, 16 classes) and the",
        "settings of `frcnn demo`. The seed is that of the images and of the training. `benchmarks/toy.py` writes",
        "this file.",
        "",
        "| seed | mAP50 | generate, train and evaluate |",
        "| --- | --- | --- |",
        *(f"| {seed} | {mean_ap:.4f} | {seconds:.0f} s |" for seed, mean_ap, seconds in rows),
        f"| mean | **{statistics.mean(row[1] for row in rows):.4f}** | |",
        "",
        f"Machine: {machine()}.",
        "",
    ]
    (Path(__file__).parent / "toy.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
