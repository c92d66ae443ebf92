"""How fast frcnn is beside torchvision: `frcnn bench` with all it measures, into benchmarks/speed.md and speed.json.

    python benchmarks/speed.py            # measures and writes both, about a quarter of an hour
    python benchmarks/speed.py --guard    # measures a part, and compares with speed.json (`make bench-guard`)

The guard compares ratios, which a slow or busy machine changes little: it fails if any is below TOLERANCE of what it
was. It needs a machine whose processor has the same precisions as the one that speed.json is from.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import frcnn
from frcnn.bench.machine import machine
from frcnn.bench.report import Found, table, to_json
from frcnn.bench.run import run_bench

HERE = Path(__file__).parent
TOLERANCE = 0.7
GUARDED = ("ops", "predict", "train")
GUARDED_MODELS = ("alexnet", "efficientnet_lite0")


def main() -> int:
    frcnn.keep_memory()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.guard:
        return guard(run_bench(GUARDED, GUARDED_MODELS, rounds=options.rounds, log=print))
    found = run_bench(rounds=options.rounds, log=print)
    (HERE / "speed.json").write_text(to_json(found))
    (HERE / "speed.md").write_text(report(found, options.rounds))
    return 0


def guard(found: Found) -> int:
    """The exit status: 0 if it is as fast as it was."""
    committed = json.loads((HERE / "speed.json").read_text())
    now = json.loads(to_json(found))
    if processor(committed["machine"]) != processor(now["machine"]):
        print(f"speed.json is from another kind of machine: {committed['machine']}; this one: {now['machine']}")
        return 2
    before, after = ratios(committed), ratios(now)
    slower = [work for work, ratio in after.items() if work in before and ratio < TOLERANCE * before[work]]
    for work in after:
        was = f"{before[work]:.2f}" if work in before else "new"
        print(f"{'SLOWER  ' if work in slower else '        '}{work}: {after[work]:.2f} times as fast ({was})")
    return 1 if slower else 0


def processor(words: str) -> str:
    """With or without bfloat16: what decides in which precision layers compute."""
    return words.partition(" native")[0].rpartition("(")[2]


def ratios(measured: Mapping[str, list[dict[str, object]]]) -> dict[str, float]:
    return {f"{row['work']}, against {way}": ratio for row in measured["rows"] for way, ratio in row["ratios"].items()}


def report(found: Found, rounds: int) -> str:
    peaks = "; ".join(
        f"{precision}: convolution {peak.conv:.0f}, matrix product {peak.matmul:.0f}"
        for precision, peak in found.peaks.items()
    )
    return f"""# Speed, beside torchvision

The same architecture, weights (random), input, boxes and threads, in one run, way by way in each of {rounds} rounds,
after a check that both compute the same (kept indices, features, gradients, detections, losses, pixels, AP). Times are
medians; "frcnn is faster" is the median of the rounds' ratios. torchvision's detectors are as its users run them, in
float32 and in a process of their own (ours keeps the memory that it frees), and resize and normalise the photo
themselves; so does ours in prediction, while in training ours leaves resizing to the thread that reads. Both train the
same layers, on as many anchors and RoIs. "Share of peak" is what the layers compute a second, of the fastest 3x3
convolution seen in the same run. Made by `python benchmarks/speed.py`; `frcnn bench` measures the same on your machine.

Machine: {machine()}. Peak, GFLOP/s, {peaks}.

{table(found)}
"""


if __name__ == "__main__":
    sys.exit(main())
