"""`frcnn import`: read a detector of another library."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command, add_set
from frcnn.messages import listed, plural

_LIBRARIES = ("torchvision", "detectron2", "mmdetection")
"""`frcnn.nn.migrate.files.LIBRARIES`, which takes too long to import for --help."""


def register(commands: Commands) -> None:
    about = "read a trained Faster R-CNN of another library; it gives the same detections here"
    example = "frcnn import weights.pth --from torchvision --classes cat,dog --out model.safetensors"
    parser = add_command(commands, "import", run, about, example)
    parser.add_argument("file", type=Path, metavar="FILE", help="weights, e.g. a training checkpoint (.pth, .pkl)")
    parser.add_argument("--from", dest="library", required=True, choices=_LIBRARIES, help="the library that wrote it")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="CFG",
        help="the library's config: detectron2's config.yaml, mmdetection's .py (default: the one in its weights)",
    )
    parser.add_argument(
        "--base-model",
        metavar="NAME",
        help="of torchvision's detector, e.g. fasterrcnn_mobilenet_v3_large_320_fpn (default: found from the layers)",
    )
    parser.add_argument(
        "--classes",
        type=class_names,
        metavar="A,B,...",
        help="names of the classes, in the library's order, or a text file with one on each line (default: those in "
        "the file, else COCO's)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, ends in .safetensors")
    add_set(parser)


def run(options: argparse.Namespace) -> None:
    from frcnn.nn.migrate.files import import_detector
    from frcnn.nn.model_file import save_model

    if options.out.suffix != ".safetensors":
        raise ValueError(f"{options.out}: a model file ends in .safetensors")
    model = import_detector(
        options.file,
        options.library,
        config=options.config,
        name=options.base_model,
        classes=options.classes,
        settings=options.set,
    )
    save_model(model, options.out)
    settings = model.settings
    image, eps = settings.detector.resizing, settings.base_model.batch_norm_eps
    classes = f"{plural(len(model.classes), 'class', 'classes')} ({listed(model.classes, 5)})"
    print(f"{options.out}: {settings.base_model.name}, {classes}")
    print(f"input: shorter side {image.shorter_side} pixels, longer side at most {image.longer_side}")
    if options.library == "torchvision":
        print(
            "assumed: torchvision's defaults where --set does not say otherwise, as the weights hold no other numbers"
        )
        if settings.base_model.coco_detector == "fasterrcnn_resnet50_fpn" and eps is None:
            print(
                "assumed: made with weights=COCO_V1, so that batch norm has the epsilon 0; for weights_backbone alone, "
                "add --set base_model.batch_norm_eps=1e-5"
            )
    print(f"next: frcnn predict {options.out} IMAGE --threshold {settings.detector.results.score_threshold:g}")


def class_names(text: str) -> list[str]:
    """The names in "a,b,c", or the lines of a text file."""
    if text.endswith(".txt"):
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(f"{text} cannot be read ({error})") from None
        return [line.strip() for line in lines if line.strip()]
    return [name.strip() for name in text.split(",")]
