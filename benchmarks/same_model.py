"""Does a change of the code keep the models? Train with a few settings, and print digests to compare.

    python benchmarks/same_model.py GROCERY --alexnet alexnet_features.safetensors > before.json
    python benchmarks/same_model.py GROCERY --alexnet alexnet_features.safetensors | diff before.json -

Run it before and after a change that must not change results, on the same machine: weights, AP, detections and the
detections of the exported ONNX file must be equal. One thread is used, since sums depend on the number of threads. It
takes 4 minutes.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors import safe_open


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grocery", type=Path)
    parser.add_argument("--alexnet", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        toy = Path(folder) / "toy"
        frcnn("data", "toy", toy, "--seed", "1")
        lite0 = ("--base-model", "efficientnet_lite0")
        one_epoch = ("--set", "train.rpn_epochs=1", "--set", "train.roi_epochs=1")
        pyramid = ("--base-model", "efficientnet_lite0-fpn", "--scheme", "alternating", *one_epoch)
        alexnet = ("--base-model", "alexnet", "--epochs", "1", "--weights", options.alexnet)
        few = ("--set", "data.num_train_images=40")
        digests = {
            "grocery": digest(options.grocery, Path(folder) / "1", *lite0, "--epochs", "2", export=True),
            "toy": digest(toy, Path(folder) / "2", *lite0, "--epochs", "1", *few, export=True),
            "pyramid, alternating": digest(options.grocery, Path(folder) / "3", *pyramid, export=False),
            "alexnet": digest(options.grocery, Path(folder) / "4", *alexnet, export=False),
        }
    print(json.dumps(digests, indent=2))


def digest(data: Path, run: Path, *arguments: str | Path, export: bool) -> dict[str, Any]:
    """Train, and describe the result."""
    frcnn("train", data, "--out", run, "--seed", "1", "--device", "cpu", "--precision", "fp32", *arguments)
    with safe_open(run / "model.safetensors", framework="np") as file:
        weights = hashlib.sha256(b"".join(file.get_tensor(name).tobytes() for name in sorted(file.keys())))
    metrics = json.loads((run / "metrics.json").read_text())
    result = {"weights": weights.hexdigest(), "map50": metrics["map50"], "map": metrics["map"]}
    if export:
        frcnn("export", run)
        for name, model in (("detections", run), ("ONNX detections", run / "model.onnx")):
            pictures = run / "pictures"
            found = frcnn(
                "predict", model, data / "testImages", "--threshold", "0.01", "--json", "-", "--out", pictures
            )
            images = [each["detections"] for each in json.loads(found)]
            result[name] = hashlib.sha256(json.dumps(images).encode()).hexdigest()
    return result


def frcnn(*arguments: str | Path) -> str:
    """Run a command; returns what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "frcnn", *map(str, arguments)]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
