"""`frcnn train`: train a detector, and evaluate it on the test images."""

import argparse
from pathlib import Path

from frcnn.cli.options import (
    Commands,
    add_command,
    add_data_settings,
    add_no_plan,
    add_settings,
    data_settings,
    time_span,
)
from frcnn.cli.output import interrupted_with, print_evaluation, save_pictures, write_run_report
from frcnn.run_files import LAST_FILE, MODEL_FILE

_VALUES = ("budget", "epochs", "batch_size", "lr", "device", "seed", "scheme", "precision", "logger")
_SWITCHES = ("deterministic", "smoke_test", "skip_existing")
"""Options that are settings of `train`."""


def register(commands: Commands) -> None:
    about = "train a detector on a folder of images and boxes, and evaluate it on the test images"
    example = "frcnn train my_photos --budget 30m"
    parser = add_command(commands, "train", run, about, example)
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA", help="folder of images and boxes")
    add_settings(parser)
    add_data_settings(parser)
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="SOURCE",
        help="start from: a weights file, a run directory, none (random), or coco (the detector trained on COCO); "
        "auto uses the first source that has the base model's ImageNet weights (default: auto)",
    )
    add_no_plan(parser)
    parser.add_argument(
        "--budget",
        type=time_span,
        metavar="TIME",
        help="train as many epochs as fit into this time, e.g. 10m, instead of --epochs; at most three times as many",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per forward pass, in each process")
    parser.add_argument("--lr", type=float, metavar="X", help="learning rate for a step of one image")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), help="where to train (default: auto)")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers")
    parser.add_argument(
        "--scheme",
        choices=("end_to_end", "alternating"),
        help="train all parts together, or in the four steps of the paper (default: end_to_end)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="precision of the layers; auto: bf16 if the hardware has it, else fp32 (default: auto; fp32 for base "
        "models with depthwise convolutions)",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="the same seed gives bit-identical weights (only on the CPU)"
    )
    parser.add_argument("--smoke-test", action="store_true", help="one epoch on a few images: does the setup work?")
    parser.add_argument(
        "--skip-existing", action="store_true", help="do not train if the run directory holds a trained model already"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="fail if there is no interrupted training to resume (the same command resumes without this option too)",
    )
    parser.add_argument(
        "--logger", choices=("none", "tensorboard"), help="write metrics there too, besides metrics.jsonl"
    )
    parser.add_argument("--offline", action="store_true", help="never open a network connection")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="RUN_DIR",
        help="run directory (default: runs/DATA-BASEMODEL, then runs/DATA-BASEMODEL-2, ...)",
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.cli.training_log import TrainingLog
    from frcnn.config import parse_overrides
    from frcnn.training.train import train

    settings = parse_overrides(data_settings(options))
    settings |= {f"train.{name}": getattr(options, name) for name in _VALUES if getattr(options, name) is not None}
    settings |= {f"train.{name}": True for name in _SWITCHES if getattr(options, name)}
    with interrupted_with("run the same command again to continue"):
        result = train(
            options.data,
            out=options.out,
            base_model=options.base_model,
            recipe=options.recipe,
            weights=options.weights,
            settings=settings,
            config=options.config,
            plan=not options.no_plan,
            offline=options.offline,
            resume=options.resume,
            callbacks=[TrainingLog()],
            progress=False,
        )
    run_dir = result.run_dir
    if not result.trained:
        reason = "there is nothing to resume" if options.resume else "training is skipped"
        print(f"{run_dir} holds a trained model already; {reason}")
    if result.best is not None:
        print(f"{MODEL_FILE} has the weights of epoch {result.best.epoch}, the best; {LAST_FILE} those of the last")
    print(f"model in {run_dir}; next: frcnn predict {run_dir} IMAGE")
    if result.metrics is None:
        print(
            f"the data has no test images, so there is no evaluation; `frcnn predict {run_dir} IMAGE` draws detections"
        )
        return
    print_evaluation(result.metrics)
    with interrupted_with(f"the model is trained; `frcnn evaluate {run_dir}` draws pictures and a report"):
        save_pictures(result.detector.model, result.metrics, run_dir)
        write_run_report(result.detector, result.metrics, run_dir)
