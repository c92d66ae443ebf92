"""`frcnn crossval`: train and evaluate on each part of the training images, and average the results."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.cli.options import Commands, add_command, add_format, add_json, add_no_plan, add_settings
from frcnn.cli.output import text_beside_json, write_json
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.training.crossval import FoldResult


def register(commands: Commands) -> None:
    about = "train and evaluate once for each part of the training images, and average the results"
    example = "frcnn crossval my_photos --folds 4 --set train.lr=0.005 --baseline runs/my_photos-crossval"
    parser = add_command(commands, "crossval", run, about, example)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    parser.add_argument("--folds", type=int, default=4, metavar="N", help="number of parts (default: 4)")
    parser.add_argument(
        "--seeds", metavar="N,N", help="one training per fold and seed, e.g. 1,2,3 (default: train.seed)"
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="DIR", help="an earlier cross-validation of the same data, to compare with"
    )
    add_settings(parser)
    add_no_plan(parser)
    add_format(parser, "annotation format")
    parser.add_argument("--force", action="store_true", help="continue even if much of the data is left out")
    parser.add_argument("--offline", action="store_true", help="never open a network connection")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the run directories (default: runs/DATA-crossval, then runs/DATA-crossval-2, ...)",
    )
    add_json(parser, "the result")


def run(options: argparse.Namespace) -> None:
    from frcnn.cli.options import data_settings
    from frcnn.config import parse_overrides
    from frcnn.training.crossval import METRICS, crossval, load_crossval

    baseline = None if options.baseline is None else load_crossval(options.baseline)
    trainings = options.folds * len(_seeds(options.seeds) or (1,))

    def show(result: "FoldResult") -> None:
        print(
            f"fold {result.fold} of {options.folds}, seed {result.seed}: Mean AP {result.map50:.4f}, COCO AP "
            f"{result.map:.4f} on {plural(result.images, 'image')}",
            flush=True,
        )

    with text_beside_json(options.json):
        print(f"{plural(trainings, 'training')}; the same command resumes an interrupted one", flush=True)
        result = crossval(
            options.data,
            folds=options.folds,
            seeds=_seeds(options.seeds),
            out=options.out,
            baseline=baseline,
            base_model=options.base_model,
            recipe=options.recipe,
            settings=parse_overrides(data_settings(options)),
            config=options.config,
            plan=not options.no_plan,
            offline=options.offline,
            on_fold=show,
        )
        print(f"\n{result}\nrun directories in {result.folder}")
        if baseline is not None:
            print(f"difference to {options.baseline}, fold by fold:")
            for metric, name in METRICS.items():
                difference = result.minus(baseline, metric)
                clear = "clear" if difference.low > 0 or difference.high < 0 else "not clear: 0 is in the interval"
                print(f"  {name} {difference.mean:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}), {clear}")
    if options.json is not None:
        write_json(options.json, result.to_json())


def _seeds(text: str | None) -> tuple[int, ...] | None:
    """E.g. (1, 2) from "1,2"."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ValueError(f"--seeds {text}: write whole numbers, e.g. 1,2,3") from None
