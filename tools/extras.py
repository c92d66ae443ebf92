"""Print what each extra of frcnn adds to an installation: packages, and megabytes on the disk, as a table.

`make extras` runs it in an environment that has them all.
"""

from collections.abc import Iterable
from importlib.metadata import Distribution

from licenses import DEVELOPMENT, closure, requirements


def size(package: Distribution) -> int:
    """Bytes of a package's files, without compiled bytecode."""
    files = [package.locate_file(file) for file in package.files or [] if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())


def row(name: str, packages: Iterable[Distribution]) -> str:
    sizes = [size(each) for each in packages]
    megabytes = sum(sizes) / 1e6
    return f"| {name} | {len(sizes)} | {f'{megabytes:,.0f}' if megabytes >= 1 else 'under 1'} |"


def main() -> None:
    groups = requirements()
    core = closure(groups["core"])
    print("| extra | packages | MB |")
    print("| --- | --- | --- |")
    print(row("none", core.values()))
    for extra in groups:
        if extra not in ("core", DEVELOPMENT):
            added = [each for name, each in closure(groups[extra]).items() if name not in core]
            print(row(f"`{extra}`", added))


if __name__ == "__main__":
    main()
