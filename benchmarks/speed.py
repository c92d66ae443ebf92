"""How fast frcnn is beside torchvision.

    python benchmarks/speed.py --write                                     # all, into speed.md and speed.json
    python benchmarks/speed.py --what ops predict --base-model alexnet     # a part, printed
    python benchmarks/speed.py --device cuda --compile --json cuda.json    # on an NVIDIA GPU
    python benchmarks/speed.py --guard # compare with speed.json, as `make bench-guard` does

The guard compares ratios, which a slow or busy machine changes little: it fails if any is below TOLERANCE of what it
was. It needs a machine whose processor has the same precisions as the one that speed.json is from.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from compare import BASE_MODELS, WHAT
from compare.machine import machine
from compare.report import Results, table, to_json
from compare.run import run_bench

import frcnn

HERE = Path(__file__).parent
TOLERANCE = 0.7
GUARDED = ("ops", "predict", "train")
GUARDED_MODELS = ("alexnet", "efficientnet_lite0")


def main() -> int:
    frcnn.tune_malloc()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guard", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--base-model", nargs="+", default=BASE_MODELS, metavar="NAME")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument(
        "--compile", nargs="?", const="default", metavar="MODE", help="of torch.compile, for our layers"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.guard:
        return guard(run_bench(GUARDED, GUARDED_MODELS, rounds=options.rounds, log=print))
    results = run_bench(
        options.what,
        options.base_model,
        options.device,
        options.precision,
        rounds=options.rounds,
        compile_mode=options.compile,
        log=print,
    )
    print(f"\n{table(results)}")
    if options.json is not None:
        options.json.write_text(to_json(results))
    if options.write:
        (HERE / "speed.json").write_text(to_json(results))
        (HERE / "speed.md").write_text(report(results, options.rounds))
    return 0


def guard(results: Results) -> int:
    """The exit status: 0 if it is as fast as it was."""
    committed = json.loads((HERE / "speed.json").read_text())
    now = json.loads(to_json(results))
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


def report(results: Results, rounds: int) -> str:
    peaks = "; ".join(
        f"{precision}: convolution {peak.conv:.0f}, matrix product {peak.matmul:.0f}"
        for precision, peak in results.peaks.items()
    )
    return f"""# Speed, beside torchvision

Both detectors have the same architecture, random weights, input, boxes and threads. They run in turn,
in each of {rounds} rounds, after a check that both compute the same (kept indices, features, gradients,
detections, losses, pixels, AP). Times are medians; "frcnn is faster" is the median of the rounds'
ratios. torchvision's detectors run as their users run them: in float32, and in a process of their own,
which does not keep freed memory as frcnn does. They resize and normalize the photo themselves. frcnn
does so in prediction; in training, the thread that reads photos resizes them. Both train the same
layers, on as many anchors and RoIs. "Share of peak" is the rate at which the layers compute, relative
to the fastest 3x3 convolution in the same run. `python benchmarks/speed.py --write` writes this file.

Machine: {machine()}. Peak, GFLOP/s, {peaks}.

{table(results)}
"""


if __name__ == "__main__":
    sys.exit(main())
