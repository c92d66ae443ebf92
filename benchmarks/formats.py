"""Check, train and evaluate on copies of the Grocery photos in several formats, and write benchmarks/formats.md.

    python benchmarks/formats.py DATA [--to pascal_voc coco yolo csv] [--seed 1]

DATA is the folder of the Grocery photos in the tutorial's layout. Every copy must give the same numbers.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare.machine import machine
from safetensors import safe_open

HERE = Path(__file__).parent


def frcnn(*arguments: object) -> str:
    command = [sys.executable, "-m", "frcnn", *map(str, arguments)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def weights_digest(file: Path) -> str:
    """Of the weights alone: the file also names the data's path."""
    digest = hashlib.sha256()
    with safe_open(file, "numpy") as weights:
        for name in sorted(weights.keys()):
            digest.update(name.encode() + weights.get_tensor(name).tobytes())
    return digest.hexdigest()[:12]


def measure(data: Path, folder: Path, seed: int) -> dict[str, Any]:
    checked = json.loads(frcnn("check", data, "--json", "-"))
    levels = [problem["level"] for problem in checked["problems"]]
    run = folder / f"run-{data.name}"
    frcnn("train", data, "--seed", seed, "--deterministic", "--no-plan", "--out", run)
    evaluated = json.loads(frcnn("evaluate", run, "--data", data, "--json", "-"))
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [step for step in steps if "loss" in step][-1]
    return {
        "check": f"{levels.count('error')} errors, {levels.count('warning')} warnings",
        "anchor recall at IoU 0.5": f"{checked['reach']['all']['0.5']:.4f}",
        "last loss": repr(last["loss"]),
        "weights (SHA-256)": weights_digest(run / "model.safetensors"),
        "mean AP": repr(evaluated["map50"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--to", nargs="+", default=["pascal_voc", "coco", "yolo", "csv"])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"folders (as it is)": measure(options.data.resolve(), Path(folder), options.seed)}
        for form in options.to:
            copy = Path(folder) / form
            frcnn("convert", options.data, copy, "--to", form)
            found[form] = measure(copy, Path(folder), options.seed)
            print(form, found[form], flush=True)
    heads = list(next(iter(found.values())))
    rows = "".join(f"| {form} | {' | '.join(values.values())} |\n" for form, values in found.items())
    same = len({tuple(values.values()) for values in found.values()}) == 1
    verdict = "All numbers are the same." if same else "Numbers differ."
    text = f"""# The same photos in several formats

The Grocery photos, converted by `frcnn convert`. Each copy is checked, trained on (`frcnn train COPY
--seed {options.seed} --deterministic --no-plan`) and evaluated. `benchmarks/formats.py` writes this file.
{verdict}

| format | {" | ".join(heads)} |
| --- |{" --- |" * len(heads)}
{rows}
Machine: {machine()}.
"""
    (HERE / "formats.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
