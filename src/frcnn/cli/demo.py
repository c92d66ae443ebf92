"""`frcnn demo`: draw toy data, train, evaluate, draw detections."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command
from frcnn.cli.output import print_evaluation, save_pictures

SETTINGS = {"train.epochs": 10, "train.seed": 1}


def register(commands: Commands) -> None:
    parser = add_command(
        commands, "demo", run, "draw a toy data set, train on it, evaluate, draw detections", "frcnn demo"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="new folder for the data and the run directory (default: runs/demo, then runs/demo-2, ...)",
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.cli.training_log import TrainingLog
    from frcnn.tools.toy import write_toy
    from frcnn.training.run_dir import new_run_dir
    from frcnn.training.train import train

    out = new_run_dir(options.out, "demo")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: exists and is not overwritten; choose another folder with --out")
    print(f"drawing the toy data set in {out / 'data'}")
    write_toy(out / "data", seed=1)
    data, run_dir, log = out / "data", out / "run", TrainingLog()
    result = train(data, out=run_dir, settings=SETTINGS, offline=True, progress=False, callbacks=[log])
    if result.metrics is not None:
        print_evaluation(result.metrics)
        save_pictures(result.detector.model, result.metrics, run_dir)
    print(f"next: frcnn predict {run_dir} PHOTO.jpg; frcnn train YOUR_DATA")
