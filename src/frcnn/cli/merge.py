"""`frcnn merge`: join the parts that `frcnn predict --parts` has written."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command
from frcnn.cli.progress import CountProgress
from frcnn.messages import one_line, plural


def register(commands: Commands) -> None:
    about = "check and join the detections of many images that `frcnn predict --parts` has written"
    parser = add_command(commands, "merge", run, about, "frcnn merge parts --out detections.jsonl")
    parser.add_argument("parts", type=Path, metavar="DIR", help="folder of the parts of all shards")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write, .jsonl or .parquet (default: only check the parts)"
    )
    parser.add_argument("--incomplete", action="store_true", help="accept shards that are missing or not finished")


def run(options: argparse.Namespace) -> None:
    from frcnn.inference.parts.merge import merge_parts
    from frcnn.inference.parts.rows import Row

    images = 0
    with CountProgress("merging", "image") as progress:

        def on_row(row: Row) -> None:
            nonlocal images
            images += 1
            progress(images, None)
            if "error" in row:
                progress.log(f"{one_line(row['image'])}: {one_line(row['error'])}")

        done = merge_parts(options.parts, options.out, incomplete=options.incomplete, on_row=on_row)
    where = options.parts if options.out is None else options.out
    print(f"{where}: {plural(done.images, 'image')} of {plural(done.shards, 'shard')}, {done.errors} with an error")
