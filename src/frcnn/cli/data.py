"""`frcnn data`: draw a toy data set, or download a public one."""

import argparse
from pathlib import Path

from frcnn.cli.options import PLAIN, Commands, add_command
from frcnn.cli.progress import DownloadProgress

_PUBLIC = {
    "voc2007": "Pascal VOC 2007 (881 MB), and write CNTK's map files for it",
    "voc2012": "Pascal VOC 2012 (1.9 GB), and write CNTK's map files for it",
    "grocery": "the refrigerator photos of CNTK's tutorial",
}


def register(commands: Commands) -> None:
    about = "draw a toy data set, or download a public one"
    parser: argparse.ArgumentParser = commands.add_parser(
        "data",
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog="example: frcnn data toy my_toy --seed 1",
        **PLAIN,
    )
    sets = parser.add_subparsers(title="data sets", required=True, metavar="NAME")
    about = "draw refrigerator shelves with 16 classes of groceries"
    toy = add_command(sets, "toy", draw_toy, about, "frcnn data toy my_toy")
    toy.add_argument("out", type=Path, metavar="OUT", help="new folder")
    toy.add_argument("--seed", type=int, default=0, metavar="N", help="another seed draws other pictures (default: 0)")
    for name, about in _PUBLIC.items():
        public = add_command(sets, name, download, f"download {about}", f"frcnn data {name} {name}")
        public.set_defaults(name=name)
        public.add_argument("out", type=Path, metavar="OUT", help="new folder")
        public.add_argument(
            "--from",
            dest="given",
            type=Path,
            metavar="FOLDER",
            help="folder that holds the archives already; then no connection is opened",
        )


def draw_toy(options: argparse.Namespace) -> None:
    from frcnn.tools.toy import write_toy

    write_toy(options.out, seed=options.seed)
    print(f"toy data set in {options.out}; next: frcnn train {options.out}")


def download(options: argparse.Namespace) -> None:
    from frcnn.tools.download import PUBLIC_SETS, fetch

    public = PUBLIC_SETS[options.name]
    print(f"{public.about}; license: {public.license}")
    with DownloadProgress() as progress:
        fetch(options.name, options.out, given=options.given, on_bytes=progress, log=progress.log)
    print(f"{options.name} in {options.out}; next: frcnn train {options.out}")
