"""`frcnn export`: write a file that other runtimes run."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.cli.options import Commands, add_command, add_svd, fraction, image_size
from frcnn.cli.progress import CountProgress
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.export.verify import VerificationRun


def register(commands: Commands) -> None:
    about = "write a file that runs without frcnn, and verify on photos that it gives the same detections"
    parser = add_command(commands, "export", run, about, "frcnn export runs/demo/run --to onnx")
    parser.add_argument("model", type=Path, metavar="MODEL", help="run directory, model file, or coco:NAME")
    parser.add_argument(
        "--to", choices=("onnx", "torch", "openvino"), default="onnx", help="kind of file (default: onnx)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the file, ends in .onnx, .pt2 or .xml (default: in the run directory)"
    )
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="HxW",
        help="fixed input size; images are fitted into it (default: any size; images are resized as in training)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="fixed batch size (default: any)")
    parser.add_argument(
        "--input",
        dest="images_as",
        choices=("uint8", "float"),
        help="images as (batch, height, width, 3) bytes, or (batch, 3, height, width) numbers 0..255 (default: uint8)",
    )
    parser.add_argument("--raw", action="store_true", help="also output rpn_rois, cls_pred and bbox_regr, before NMS")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "bf16", "int8"),
        default="fp32",
        help="precision of the layers; int8: quantized, for CPUs (default: fp32)",
    )
    add_svd(parser)
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="photos that int8 is calibrated on (default: the training images)",
    )
    parser.add_argument(
        "--max-ap-loss",
        type=fraction,
        metavar="X",
        help="how much mAP50 may differ with fp16 and bf16 (default: 0.01), or fall with int8 and --svd (0.02)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="photos for the verification (default: the test images of the run)"
    )


def run(options: argparse.Namespace) -> None:
    from frcnn.export.export import export

    with CountProgress("verifying", "photo") as progress:
        done = export(
            options.model,
            options.to,
            options.out,
            image_size=options.image_size,
            batch=options.batch,
            raw=options.raw,
            precision=options.precision,
            svd=options.svd,
            images_as=options.images_as,
            data=options.data,
            calibrate=options.calibrate,
            max_ap_loss=options.max_ap_loss,
            log=progress.log,
            on_image=progress,
        )
    for one in done.runs:
        print(f"{one.name}: {_comparison(one, 'PyTorch')}")
    if done.quantized is not None:
        print(f"quantized: {_comparison(done.quantized, 'before')}")
    if done.compressed is not None:
        print(f"compressed: {_comparison(done.compressed, 'before')}")
    size = sum(file.stat().st_size for file in done.files) / 1e6
    verdict = "the same detections" if (options.precision, options.svd) == ("fp32", None) else "AP within the limit"
    print(f"{verdict}: {' and '.join(map(str, done.files))} ({size:.1f} MB); verification: {done.verification}")
    trust = " --trust-file" if options.to == "torch" else ""
    print(f"next: frcnn predict {done.files[0]} IMAGE{trust}")


def _comparison(one: "VerificationRun", other: str) -> str:
    text, difference = f"AP {one.ap:.4f} ({other}: {one.other_ap:.4f}), ", one.difference
    if difference.without_match == 0:
        ties = f"{plural(difference.near_ties, 'near tie')} of NMS, " if difference.near_ties else ""
        text = (
            f"{plural(difference.detections, 'detection')}, boxes within {difference.pixels:.5f} px, scores within "
            f"{difference.score:.7f}, {ties}"
        )
    return f"{text}{one.seconds:.3f} s per photo ({other}: {one.other_seconds:.3f} s)"
