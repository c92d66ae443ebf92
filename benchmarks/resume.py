"""Kill trainings at random moments, let them go on, and compare with undisturbed ones; writes benchmarks/resume.md.

    python benchmarks/resume.py [--kills 20] [--seed 1]

Every training is the command `frcnn train` on the toy data set, with a checkpoint after every step. Half of the kills
(SIGKILL) wait until a checkpoint is being written, the others for a random time after the first step.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare.machine import machine
from safetensors.torch import load_file

from frcnn.tools.toy import write_toy

HERE = Path(__file__).parent
SMALL = (
    "base_model.fc_channels=[64]",
    "detector.image.shorter_side=160",
    "detector.image.longer_side=160",
    "data.num_train_images=12",
    "data.num_test_images=2",
    "train.checkpoint_seconds=0",
    "train.ema_decay=0.9",
    "base_model.dropout=0.5",
    "detector.draw.save=false",
)
CASES = {
    "end to end, with validation": ("train.epochs=16", "train.validate_every=4", "data.val_fraction=0.2"),
    "alternating": ("train.scheme=alternating", "train.rpn_epochs=3", "train.roi_epochs=3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "toy"
        write_toy(data, seed=1)
        for name, settings in CASES.items():
            undisturbed, disturbed = (Path(folder) / f"{name}-{kind}" for kind in ("whole", "killed"))
            assert start(data, undisturbed, settings).wait() == 0
            kills = {"while writing": 0, "at random": 0}
            while sum(kills.values()) < options.kills:
                kind = chance.choice(list(kills))
                if not kill(start(data, disturbed, settings), disturbed, kind, chance):
                    break
                kills[kind] += 1
                print(name, kills, steps_done(disturbed), "steps", flush=True)
            assert sum(kills.values()) == options.kills, "training ended before it was killed so often"
            assert start(data, disturbed, settings).wait() == 0
            same = digest(undisturbed) == digest(disturbed) and metrics(undisturbed) == metrics(disturbed)
            left = [file.name for file in disturbed.iterdir() if file.name.startswith(".")]
            rows.append((name, kills, steps_done(undisturbed), same, left))
            print(rows[-1], flush=True)
    (HERE / "resume.md").write_text(report(rows, options.seed))
    sys.exit(0 if all(same and not left for *_, same, left in rows) else 1)


def start(data: Path, out: Path, settings: tuple[str, ...]) -> subprocess.Popen[bytes]:
    options = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    command = [sys.executable, "-m", "frcnn", "train", str(data), "--out", str(out), "--offline", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes], run: Path, kind: str, chance: random.Random) -> bool:
    """Kill the process after it has taken at least one step; False if it ended before."""
    before = steps_done(run)
    moment: float | None = None
    skipped = chance.randrange(6)  # checkpoints to let pass
    while process.poll() is None:
        now = steps_done(run)
        if now > before:
            if moment is None:
                moment = time.monotonic() + chance.uniform(0, 1.5)
            writing = any(run.glob(".partial-*-checkpoint.pt")) and now > before + skipped
            if writing if kind == "while writing" else time.monotonic() > moment:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
        time.sleep(0.0005)
    return False


def steps_done(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b'"event": "step"') if file.is_file() else 0


def digest(run: Path) -> str:
    """Of all weights, bit by bit; the file itself describes them in an order that is not always the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(run / "model.safetensors").items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def metrics(run: Path) -> list[dict]:
    """Without what the clock and the memory say."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("seconds", "memory")} for line in lines]


def report(rows: list[tuple], seed: int) -> str:
    lines = [
        "# Exact resume",
        "",
        "Trainings are killed with SIGKILL at random moments and started again with the same command, with a",
        "checkpoint after every step. They are compared with uninterrupted trainings: all weights, and every",
        f"loss, learning rate and validation in metrics.jsonl. `python benchmarks/resume.py --seed {seed}` writes",
        "this file.",
        "",
        "| scheme | steps | kills while a checkpoint was written | kills at random | weights and metrics | left over |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, kills, steps, same, left in rows:
        equal = "bit-equal" if same else "**different**"
        lines.append(
            f"| {name} | {steps} | {kills['while writing']} | {kills['at random']} | {equal} | "
            f"{', '.join(left) or 'nothing'} |"
        )
    return "\n".join([*lines, "", f"Machine: {machine()}.", ""])


if __name__ == "__main__":
    main()
