"""The arguments of the command line."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frcnn.bench import BASE_MODELS, WHAT
from frcnn.cli import commands

_PUBLIC = {
    "voc2007": "Pascal VOC 2007 (881 MB), and write CNTK's map files for it",
    "voc2012": "Pascal VOC 2012 (1.9 GB), and write CNTK's map files for it",
    "grocery": "the refrigerator photos of CNTK's tutorial",
}
RECIPES = ("default", "grocery-alexnet", "grocery-vgg16", "tutorial")
"""`frcnn.config.recipe_names()`, which needs more than help should wait for."""


def make_parser() -> argparse.ArgumentParser:
    """All commands, their arguments and help."""
    parser = argparse.ArgumentParser(
        prog="frcnn",
        description="Faster R-CNN that trains on a few labelled photos, on an ordinary computer.",
        epilog="example: frcnn demo",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    top = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        where: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str, example: str
    ) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = where.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: {example}",
        )
        added.set_defaults(run=run, command=name)
        return added

    demo = command(top, "demo", commands.demo, "draw a toy data set, train on it, measure and show", "frcnn demo")
    demo.add_argument("--out", type=Path, help="new folder for data and RUN (default: runs/demo, numbered)")

    data = top.add_parser(
        "data", help="make a data set, or download a public one", epilog="example: frcnn data toy my_toy --seed 1"
    )
    sets = data.add_subparsers(title="data sets", required=True, metavar="NAME")
    toy = command(
        sets,
        "toy",
        commands.data_toy,
        "draw refrigerator shelves with 16 classes of groceries",
        "frcnn data toy my_toy",
    )
    toy.add_argument("out", type=Path, metavar="OUT", help="new folder")
    toy.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default: 0)")
    for name, text in _PUBLIC.items():
        public = command(sets, name, commands.data_public, f"download {text}", f"frcnn data {name} {name}")
        public.set_defaults(name=name)
        public.add_argument("out", type=Path, metavar="OUT", help="new folder")
        public.add_argument(
            "--from",
            dest="given",
            type=Path,
            metavar="FOLDER",
            help="where its archives lie already; no connection is opened then",
        )

    check = command(
        top,
        "check",
        commands.check,
        "find what would spoil a training: in images, boxes, classes, splits and anchors",
        "frcnn check my_photos --pictures sheets",
    )
    check.add_argument("data", type=Path, metavar="DATA", help="folder of images and boxes")
    _add_settings(check)
    _add_data_settings(check)
    check.add_argument("--json", metavar="FILE", help="write all of it there ('-' prints it)")
    check.add_argument(
        "--strict", action="store_true", help="exit status 1 if there are warnings (2 if errors, always)"
    )
    check.add_argument("--pictures", type=Path, metavar="DIR", help="draw contact sheets: a sample, and every defect")
    check.add_argument("--fix", type=Path, metavar="OUT", help="write a corrected copy, and a list of what was done")

    annotate = command(
        top,
        "annotate",
        commands.annotate,
        "draw boxes on a page in the browser",
        "frcnn annotate my_photos --classes milk,butter",
    )
    annotate.add_argument("folder", type=Path, metavar="FOLDER", help="photos, or a data set in any format")
    annotate.add_argument("--classes", metavar="A,B,...", help="names to choose from (more can be added on the page)")
    annotate.add_argument("--model", type=Path, metavar="RUN", help="a trained detector that proposes boxes")
    annotate.add_argument(
        "--min-score", type=_fraction, default=0.5, help="leave out proposed boxes under it (default: 0.5)"
    )
    annotate.add_argument("--format", metavar="NAME", help="of the data (default: found by looking)")
    annotate.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1, this machine only)"
    )
    annotate.add_argument(
        "--port", type=int, choices=range(65536), default=8000, metavar="N", help="0: a free one (default: 8000)"
    )
    annotate.add_argument("--open", action="store_true", help="open the page in the browser")

    convert = command(
        top,
        "convert",
        commands.convert,
        "write a data set in another format, or share out its images",
        "frcnn convert my_photos my_coco --to coco --split 0.8,0.1,0.1",
    )
    convert.add_argument("data", type=Path, metavar="SRC", help="folder of images and boxes")
    convert.add_argument("out", type=Path, metavar="DST", help="new folder")
    convert.add_argument(
        "--to", required=True, metavar="FORMAT", help="folders, map_files, pascal_voc, coco, yolo or csv"
    )
    how = convert.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    how.add_argument("--link", action="store_true", help="symbolic links to the images instead of copies")
    _add_data_settings(convert)
    convert.add_argument("--seed", type=int, metavar="N", help="another number draws another split (default: 0)")
    convert.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, e.g. data.val_set=val"
    )

    train = command(
        top,
        "train",
        commands.train,
        "train a detector on a folder of images and boxes, and measure it on its test images",
        "frcnn train my_photos --epochs 20 --set train.lr=0.005",
    )
    train.add_argument("data", type=Path, nargs="?", metavar="DATA", help="folder of images and boxes")
    _add_settings(train)
    _add_data_settings(train)
    train.add_argument(
        "--weights",
        default="auto",
        metavar="FILE|RUN|coco|auto|none",
        help="of the base model or of a whole detector; coco: the one trained on COCO (default: auto, the first source "
        "that has the base model's)",
    )
    train.add_argument("--epochs", type=int, metavar="N", help="passes over the training images")
    train.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train")
    train.add_argument("--seed", type=int, metavar="N", help="of everything random")
    train.add_argument(
        "--scheme", choices=("end_to_end", "alternating"), help="all parts at once, or the paper's four steps"
    )
    train.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="of the layers (default: auto, the fastest safe one)",
    )
    train.add_argument(
        "--deterministic", action="store_true", help="the same seed gives the same weights, bit by bit (on the CPU)"
    )
    train.add_argument("--fast", action="store_true", help="one epoch on a few images: does my set-up work?")
    train.add_argument("--make", action="store_true", help="do not train if the RUN holds a trained model already")
    train.add_argument(
        "--resume",
        action="store_true",
        help="insist on going on with a training that was cut off (the same command does so by itself)",
    )
    train.add_argument("--logger", choices=("none", "tensorboard"), help="where metrics go besides metrics.jsonl")
    train.add_argument("--offline", action="store_true", help="never open a connection")
    train.add_argument("--out", type=Path, metavar="RUN", help="folder (default: runs/DATA-MODEL, numbered)")

    evaluate = command(
        top,
        "evaluate",
        commands.evaluate,
        "measure a trained detector: average precision of each class, and pictures",
        "frcnn evaluate runs/demo/run",
    )
    evaluate.add_argument(
        "run_folder", type=Path, metavar="RUN", help="folder of a training, an exported file, or coco:NAME"
    )
    evaluate.add_argument("--data", type=Path, help="other data than it was trained on")
    evaluate.add_argument("--format", metavar="NAME", help="of that data (default: found by looking)")
    evaluate.add_argument("--split", default="test", choices=("train", "test"), help="which images (default: test)")
    _add_precision(evaluate)
    _add_svd(evaluate)
    evaluate.add_argument("--json", metavar="FILE", help="write the result there ('-' prints it)")

    predict = command(
        top,
        "predict",
        commands.predict,
        "detect objects in images",
        "frcnn predict runs/demo/run photo.jpg holiday/ --json detections.json",
    )
    predict.add_argument(
        "run_folder", type=Path, metavar="RUN", help="folder of a training, an exported file, or coco:NAME"
    )
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE_OR_FOLDER")
    predict.add_argument(
        "--min-score", type=_fraction, default=0.5, help="leave out detections under it (default: 0.5)"
    )
    predict.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="predict photos larger than N pixels by tiles of N x N too, so that small objects are found (e.g. 1024)",
    )
    predict.add_argument(
        "--overlap",
        type=float,
        metavar="X",
        help="least share of a tile that neighbours have in common, 0 to 0.9 (default: 0.2)",
    )
    _add_precision(predict)
    _add_svd(predict)
    predict.add_argument("--out", type=Path, metavar="DIR", help="folder for pictures (default: RUN/predictions)")
    predict.add_argument("--json", metavar="FILE", help="write the detections there ('-' prints them alone)")

    bench = command(
        top,
        "bench",
        commands.bench,
        "measure how fast it is on this machine, beside torchvision's detectors",
        "frcnn bench --what ops predict --base-model alexnet",
    )
    bench.add_argument("--what", nargs="+", choices=WHAT, default=WHAT, help=f"default: {' '.join(WHAT)}")
    bench.add_argument(
        "--base-model", nargs="+", default=BASE_MODELS, metavar="NAME", help=f"default: {' '.join(BASE_MODELS)}"
    )
    bench.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there is one"
    )
    bench.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of our layers; torchvision's compute in fp32 (default: what a RUN takes on this machine)",
    )
    bench.add_argument(
        "--compile",
        nargs="?",
        const="default",
        choices=("default", "reduce-overhead", "max-autotune"),
        metavar="MODE",
        help="torch.compile our layers: default; reduce-overhead: with CUDA graphs; or max-autotune (default: not)",
    )
    bench.add_argument("--rounds", type=int, default=7, help="how often each way is timed (default: 7)")
    bench.add_argument("--json", metavar="FILE", help="write all figures there ('-' prints them alone)")

    export = command(
        top,
        "export",
        commands.export,
        "write a file that runs without frcnn, proven on real photos to be the same model",
        "frcnn export runs/demo/run --to onnx",
    )
    export.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a training, or coco:NAME")
    export.add_argument(
        "--to", choices=("onnx", "torch", "openvino"), default="onnx", help="kind of file (default: onnx)"
    )
    export.add_argument("--out", type=Path, metavar="FILE", help="ends in .onnx, .pt2 or .xml (default: in the RUN)")
    export.add_argument(
        "--image-size",
        type=_image_size,
        metavar="HxW",
        help="the only frame it takes; photos are fitted into it (default: any; photos are resized as in the training)",
    )
    export.add_argument("--batch", type=int, metavar="N", help="the only number of images at once (default: any)")
    export.add_argument(
        "--input",
        dest="images_as",
        choices=("uint8", "float"),
        help="images as (batch, height, width, 3) bytes, or (batch, 3, height, width) numbers 0..255 (default: bytes)",
    )
    export.add_argument("--raw", action="store_true", help="also rpn_rois, cls_pred and bbox_regr, before NMS")
    export.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="int8: quantised, for processors (default: fp32)",
    )
    _add_svd(export)
    export.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="photos that int8 is fitted to (default: the training images)"
    )
    export.add_argument(
        "--max-ap-loss",
        type=_fraction,
        metavar="X",
        help="how much lower the AP may be, except in fp32 (default: 0.01, int8 and --svd: 0.02)",
    )
    export.add_argument("--data", type=Path, help="photos for the proof (default: the RUN's test images)")

    nodes = command(
        top,
        "nodes",
        commands.nodes,
        "list a classifier's nodes, to choose where to cut it into a base model",
        "frcnn nodes torchvision:resnet50",
    )
    nodes.add_argument("name", metavar="NAME", help="a base model, its file, torchvision:NAME or timm:NAME")
    nodes.add_argument(
        "--image-size", type=_image_size, default=(224, 224), metavar="HxW", help="pixels (default: 224x224)"
    )
    nodes.add_argument("--json", metavar="FILE", help="write them there instead ('-' prints them)")

    base_models = command(
        top,
        "base-models",
        commands.base_models,
        "list the base models: size, stride, cost, and where their weights are",
        "frcnn base-models resnet50 resnet50-fpn",
    )
    base_models.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    base_models.add_argument("--json", metavar="FILE", help="write them there instead ('-' prints them)")

    config = command(
        top,
        "config",
        commands.config,
        "print all settings, merged, with a comment for each",
        "frcnn config --base-model vgg16 --set train.epochs=5",
    )
    _add_settings(config)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base-model", metavar="NAME", help="one that `frcnn base-models` lists, or a YAML file of your own"
    )
    parser.add_argument("--recipe", metavar="NAME", help=f"one of {', '.join(RECIPES)}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings, e.g. a RUN's config.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting; may be given several times",
    )


def _add_data_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="folders, map_files, pascal_voc, coco, yolo, csv, labelme or label_studio (default: found by looking)",
    )
    parser.add_argument(
        "--split",
        metavar="TRAIN,VAL,TEST",
        help="shares of the images, e.g. 0.8,0.1,0.1, where the data has no sets of its own",
    )


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="of the layers; auto: bf16 where the processor has it, if the model was trained so (default: fp32)",
    )


def _add_svd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--svd",
        type=int,
        metavar="RANK",
        help="truncated SVD of fully connected layers, e.g. 1024: faster, less exact (default: as they are)",
    )


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def _image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH in pixels, e.g. 480x640")
    return int(height), int(width)


def _version() -> str:
    from frcnn import __version__

    return __version__
