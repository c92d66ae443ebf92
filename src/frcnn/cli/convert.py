"""`frcnn convert`: write a data set in another format, or split it."""

import argparse
from pathlib import Path

from frcnn.cli.options import Commands, add_command, add_data_settings, add_follow_links, add_set, data_settings
from frcnn.cli.progress import CountProgress
from frcnn.messages import plural


def register(commands: Commands) -> None:
    about = "write a data set in another format, or split it"
    example = "frcnn convert my_photos my_coco --to coco --split 0.8,0.1,0.1"
    parser = add_command(commands, "convert", run, about, example)
    parser.add_argument("data", type=Path, metavar="SRC", help="folder of images and boxes")
    parser.add_argument("out", type=Path, metavar="DST", help="new folder")
    parser.add_argument(
        "--to", required=True, metavar="FORMAT", help="folders, map_files, pascal_voc, coco, yolo or csv"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images (the default)")
    how.add_argument("--link", action="store_true", help="make symbolic links to the images instead of copies")
    add_follow_links(parser, "SRC")
    add_data_settings(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="another seed gives another random split (default: 0)")
    add_set(parser)


def run(options: argparse.Namespace) -> None:
    from frcnn.config import make_config
    from frcnn.tools.convert import convert_dataset

    settings = data_settings(options)
    if options.seed is not None:
        settings.append(f"data.split_seed={options.seed}")
    rules = make_config(overrides=settings).data
    if options.seed is not None and not (rules.split or rules.fold or rules.val_fraction):
        raise ValueError(f"--seed {options.seed}: no split is drawn; add --split TRAIN,VAL,TEST, or leave out --seed")
    with CountProgress("writing", "image") as progress:
        done = convert_dataset(
            options.data,
            options.out,
            options.to,
            rules,
            link=options.link,
            follow_links=options.follow_links,
            on_image=progress,
        )
    for note in done.notes:
        print(note)
    images = ", ".join(f"{count} {name}" for name, count in done.images.items())
    print(f"{options.out}: {images} images, {plural(done.objects, 'object')}, format {options.to}")
