"""`frcnn annotate`: draw boxes in the browser."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from frcnn.cli.options import (
    MODEL_HELP,
    Commands,
    add_command,
    add_format,
    add_host_and_port,
    add_threshold,
    add_trust,
    data_settings,
    positive_integer,
)
from frcnn.cli.progress import CountProgress
from frcnn.messages import plural


def register(commands: Commands) -> None:
    about = "draw boxes on a page in the browser"
    parser = add_command(commands, "annotate", run, about, "frcnn annotate my_photos --classes milk,butter")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="photos, or a data set in any format")
    parser.add_argument("--classes", metavar="A,B,...", help="class names to start with (the page can add more)")
    parser.add_argument("--model", type=Path, metavar="MODEL", help=f"proposes boxes: {MODEL_HELP}")
    parser.add_argument(
        "--review",
        type=Path,
        metavar="FILE",
        help="review labels that are probably wrong, which `frcnn check FOLDER --crossval --json FILE` finds",
    )
    parser.add_argument(
        "--next",
        type=positive_integer,
        default=0,
        metavar="N",
        help="show the N unlabeled images that differ most from the labeled ones (needs --model, no exported file)",
    )
    add_threshold(parser)
    add_trust(parser)
    add_format(parser, "annotation format")
    add_host_and_port(parser)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(options: argparse.Namespace) -> None:
    from frcnn.config import make_config
    from frcnn.detector import load
    from frcnn.http.address import is_loopback
    from frcnn.tools.annotate.assistant import Assistant
    from frcnn.tools.annotate.editing import Editor
    from frcnn.tools.annotate.private import open_page
    from frcnn.tools.annotate.review import Review
    from frcnn.tools.annotate.server import serve

    if options.next and options.review is not None:
        raise ValueError("--next and --review exclude each other: label images, or review labels; give one")
    if options.next and options.model is None:
        raise ValueError("--next: choosing images needs a detector; add --model RUN_DIR")
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
        if not is_loopback(options.host):
            print(
                f"warning: --host {options.host}: anyone who can reach this computer and has the address can see the "
                f"images, change annotations and start a training; the connection is not encrypted. Leave out --host, "
                f"or connect through SSH (docs/annotate.md)"
            )
        print(f"open {address}\nevery change is saved at once; press Ctrl-C to stop", flush=True)
        if options.open:
            open_page(address, options.folder)

    detector = None if options.model is None else load(options.model, trust=options.trust_file)
    assistant = Assistant(
        editor, detector, threshold=options.threshold, count=options.next, train=partial(_train_command, options)
    )
    if options.next:
        with CountProgress("choosing", "image") as progress:
            assistant.choose_next(progress)
        if not assistant.next_images:
            print("--next: there is no unlabeled image that can be read")
    try:
        with suppress(KeyboardInterrupt):
            serve(editor, assistant, host=options.host, port=options.port, review=review, on_ready=on_ready)
    finally:
        assistant.stop()
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


def _train_command(options: argparse.Namespace) -> tuple[list[str], Path]:
    """The command that trains on the folder, and its run directory."""
    from frcnn.training.run_dir import new_run_dir

    run_dir = new_run_dir(None, f"{options.folder.resolve().name}-annotate")
    format_option = [] if options.format is None else ["--format", options.format]
    return [sys.executable, "-m", "frcnn", "train", str(options.folder), *format_option, "--out", str(run_dir)], run_dir
