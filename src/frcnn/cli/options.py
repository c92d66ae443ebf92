"""Options that several commands share, and what they mean as settings."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from frcnn.detector import Detector

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace], int | None]
"""Runs a command with its options; returns the exit status (None: 0)."""

PLAIN: dict[str, Any] = {"color": False} if sys.version_info >= (3, 14) else {}
"""No colors in help: control characters are escaped, see `EscapingStream`."""
DEFAULT_PRECISION = "fp32"
"""Of `frcnn predict` and `frcnn evaluate` without --precision."""
MODEL_HELP = "run directory, model file, exported file, or coco:NAME"


def add_command(commands: Commands, name: str, run: Run, about: str, example: str) -> argparse.ArgumentParser:
    """Add a command with its help; its options will hold `command` (its name), `parser`, and `run`, which runs it."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=f"example: {example}", **PLAIN
    )
    parser.set_defaults(run=run, command=name, parser=parser)
    return parser


def add_settings(parser: argparse.ArgumentParser, *, recipe: bool = True) -> None:
    """Where settings come from: --base-model, --recipe, --config and --set."""
    parser.add_argument("--base-model", metavar="NAME", help="a name that `frcnn base-models` lists, or your YAML file")
    if recipe:
        table = Path(__file__).parents[1] / "config" / "recipes.yaml"  # frcnn.config takes longer than help should
        recipes = ", ".join(sorted(re.findall(r"^([\w-]+):$", table.read_text(encoding="utf-8"), re.MULTILINE)))
        parser.add_argument("--recipe", metavar="NAME", help=f"settings that belong together: {recipes}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file, e.g. config.yaml of a run directory")
    add_set(parser)


def add_no_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-plan",
        action="store_true",
        help="use the default settings; do not choose settings that fit the data (`frcnn plan` shows those)",
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, e.g. train.lr=0.005 (repeatable); `frcnn config` lists all settings",
    )


_FORMATS = (
    *("folders", "map_files", "cvat", "imglab", "pascal_voc", "ua_detrac", "kitti", "mot", "cub"),
    *(
        "text_boxes",
        "coco",
        "label_studio",
        "createml",
        "vott",
        "via",
        "supervisely",
        "labelme",
        "json",
        "yolo",
        "csv_lists",
        "csv",
        "text_lists",
    ),
)
"""The names of `frcnn.data.formats.FORMATS`, which takes too long to import for --help."""


def add_data_settings(parser: argparse.ArgumentParser, *, strict: bool = True) -> None:
    """How the data is read: --format, --split, --strict and --force."""
    add_format(parser, "annotation format")
    parser.add_argument(
        "--split",
        metavar="TRAIN,VAL,TEST",
        help="fractions of the images, e.g. 0.8,0.1,0.1; only for data that is not split already",
    )
    if strict:
        parser.add_argument(
            "--strict", action="store_true", help="stop at anything in the data that would be repaired or left out"
        )
    parser.add_argument("--force", action="store_true", help="continue even if much of the data is left out")


def add_format(parser: argparse.ArgumentParser, of_what: str) -> None:
    parser.add_argument(
        "--format",
        metavar="NAME",
        help=f"{of_what}: {', '.join(_FORMATS)} (default: auto-detected)",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", metavar="FILE", help=f"write {what} to FILE as JSON ('-': to standard output)")


def add_follow_links(parser: argparse.ArgumentParser, folder: str, when: str = "") -> None:
    parser.add_argument(
        "--follow-links",
        action="store_true",
        help=f"{when}also copy images outside of {folder} that an annotation or a link points to; they may be private",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="precision of the layers; auto: bf16 if the CPU or GPU has it and the model was trained with precision "
        f"auto or bf16 (default: {DEFAULT_PRECISION})",
    )


def add_svd(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--svd",
        type=int,
        metavar="RANK",
        help="compress fully connected layers to this rank, e.g. 1024: faster, less accurate (default: not compressed)",
    )


def add_evaluated_data(parser: argparse.ArgumentParser) -> None:
    """What a detector is evaluated on: --data, --format and --split."""
    parser.add_argument("--data", type=Path, metavar="DATA", help="data set (default: the one it was trained on)")
    add_format(parser, "annotation format of --data")
    about = "which images (default: test, or all images of --data without splits)"
    parser.add_argument("--split", choices=("train", "val", "test"), help=about)


def add_threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=fraction,
        metavar="X",
        help="confidence threshold, 0 to 1 (default: the one stored in the model, usually 0.5)",
    )


def data_settings(options: argparse.Namespace) -> list[str]:
    """--set, --format, --split, --strict and --force as "key=value" settings."""
    settings = list(getattr(options, "set", []))
    if options.format is not None:
        settings.append(f"data.format={options.format}")
    if getattr(options, "split", None) is not None:
        settings.append(f"data.split=[{options.split}]")
    settings += [f"data.{name}=true" for name in ("strict", "force") if getattr(options, name, False)]
    return settings


def add_host_and_port(parser: argparse.ArgumentParser, note: str = "") -> None:
    """--host and --port, with a note about other addresses."""
    parser.add_argument(
        "--host",
        type=host,
        default="127.0.0.1",
        metavar="ADDRESS",
        help=f"where to listen (default: 127.0.0.1, this machine only){note}",
    )
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0: any free port (default: 8000)")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-file",
        action="store_true",
        help="open a .pt2 file, which can run any code; only if you trust its source",
    )


def open_detector(options: argparse.Namespace, *, throughput: bool = False) -> "Detector":
    """The detector of --model, --svd and --precision.

    Args:
        throughput: as for `frcnn.load`.

    Raises:
        ValueError: --svd or --precision with an exported file.
    """
    from frcnn.detector import load
    from frcnn.inference.runtimes import is_exported

    if is_exported(options.model):
        for name in ("svd", "precision"):
            if getattr(options, name) is not None:
                option = f"--{name} {getattr(options, name)}"
                raise ValueError(
                    f"{option}: {options.model} is exported and cannot change; export the model again with {option}"
                )
        return load(options.model, trust=options.trust_file, throughput=throughput)
    detector = load(options.model)
    if options.svd is not None:
        detector = detector.compress(options.svd)
    return detector.in_precision(options.precision or DEFAULT_PRECISION)


def require_tile(options: argparse.Namespace, detector: "Detector") -> None:
    """Refuse --overlap where nothing is cut into tiles."""
    if options.overlap is not None and not (options.tile or detector.runtime.resizing.tile):
        raise ValueError(f"overlap: {options.overlap} is a fraction of a tile; set the tile too, e.g. --tile 1024")


def prediction_rules(options: argparse.Namespace, detector: "Detector") -> dict[str, Any]:
    """threshold, tile and overlap as `predict_each` takes them: those of the options, else the defaults.

    Raises:
        ValueError: --overlap where nothing is cut into tiles.
    """
    from frcnn.data.tiles import OVERLAP

    require_tile(options, detector)
    own = detector.runtime.result_settings.predict_threshold
    return {
        "threshold": own if options.threshold is None else options.threshold,
        "tile": options.tile,
        "overlap": OVERLAP if options.overlap is None else options.overlap,
    }


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def port(text: str) -> int:
    """A port to listen on; 0: any."""
    if not (text.isascii() and text.isdecimal() and int(text[:10]) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number from 0 to 65535")
    return int(text)


def positive_integer(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not (text.isascii() and text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return int(text)


def time_span(text: str) -> float:
    """Seconds, from e.g. "5ms", "90s", "10m" or "1.5h"; a number alone is in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smh]?)", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' must be a time above 0, such as 90s, 10m or 1.5h")
    return float(match[1]) * {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]]


def host(text: str) -> str:
    """An address to listen on."""
    if not text.strip():  # the system would listen on every address
        raise argparse.ArgumentTypeError("is empty; name an address, e.g. 127.0.0.1, or 0.0.0.0 for your whole network")
    return text


def image_size(text: str) -> tuple[int, int]:
    """(height, width), pixels, from "480x640"."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH in pixels, e.g. 480x640")
    return int(height), int(width)
