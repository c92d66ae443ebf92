"""`frcnn annotate`: draw boxes in the browser."""

import argparse
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from frcnn.cli.options import MODEL_HELP, Commands, add_command, add_format, add_threshold, add_trust, data_settings
from frcnn.cli.progress import CountProgress
from frcnn.messages import plural

if TYPE_CHECKING:
    from frcnn.inference.results import Detections


def register(commands: Commands) -> None:
    about = "draw boxes on a page in the browser"
    parser = add_command(commands, "annotate", run, about, "frcnn annotate my_photos --classes milk,butter")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="photos, or a data set in any format")
    parser.add_argument("--classes", metavar="A,B,...", help="class names to start with (the page can add more)")
    parser.add_argument("--model", type=Path, metavar="MODEL", help=f"proposes boxes: {MODEL_HELP}")
    parser.add_argument(
        "--review",
        type=Path,
        metavar="JSON",
        help="go through labels that are probably wrong, as `frcnn check FOLDER --model MODEL --json JSON` lists them",
    )
    add_threshold(parser)
    add_trust(parser)
    add_format(parser, "annotation format")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument(
        "--port", type=int, choices=range(65536), default=8000, metavar="N", help="0: any free port (default: 8000)"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(options: argparse.Namespace) -> None:
    from frcnn.config import make_config
    from frcnn.tools.annotate.editing import Editor
    from frcnn.tools.annotate.review import Review
    from frcnn.tools.annotate.server import serve

    with CountProgress("reading", "image") as progress:
        editor = Editor(
            options.folder,
            make_config(overrides=data_settings(options)).data,
            class_names=[name.strip() for name in (options.classes or "").split(",") if name.strip()],
            on_image=progress,
        )
    for reason in editor.broken.values():
        print(f"cannot be edited here: {reason}")
    for note in _not_shown(options.folder, {image for _, image in editor.images}):
        print(note)
    done = sum(count is not None for count in editor.counts)
    print(f"{options.folder}: format {editor.format}, {done} of {plural(len(editor.images), 'image')} annotated")
    review = None if options.review is None else Review(options.review, editor)
    if review is not None:
        print("\n".join(filter(None, (review.not_shown, review.counts()))))

    def on_ready(address: str) -> None:
        print(f"open {address}\nevery change is saved at once; press Ctrl-C to stop", flush=True)
        if options.open:
            webbrowser.open(address)

    propose = None if options.model is None else _proposer(options)
    with suppress(KeyboardInterrupt):
        serve(editor, host=options.host, port=options.port, propose=propose, review=review, on_ready=on_ready)
    if review is not None:
        print(review.counts())
    print(f"stopped; next: frcnn check {options.folder}")


def _not_shown(folder: Path, shown: set[Path]) -> Iterator[str]:
    from frcnn.data.images import IMAGE_SUFFIXES

    files = [file for file in folder.rglob("*") if not file.name.startswith(".") and file not in shown]
    for suffixes, advice in (
        (IMAGE_SUFFIXES, "in no split, or in subfolders; you can annotate those one by one"),
        ({".heic", ".heif", ".avif"}, "convert to JPEG"),
    ):
        hidden = sorted(file for file in files if file.suffix.lower() in suffixes)
        if hidden:
            yield f"not shown: {plural(len(hidden), 'image')}, e.g. {hidden[0]}; {advice}"


def _proposer(options: argparse.Namespace) -> Callable[[Path], "Detections"]:
    from frcnn.detector import load

    detector = load(options.model, trust=options.trust_file)
    return lambda image: detector.predict(image, threshold=options.threshold)
