"""Build a release in dist/: sdist, wheel, SBOM and SHA256SUMS. The first check that fails ends it.

    make dist                               # files that are not committed are an error
    make dist RELEASE=--allow-changes       # they are included: to try it

The sdist and the wheel are built twice, and must have the same bytes. The sdist has every file of the repository, the
wheel only the package. The wheel is installed in an environment of its own, and its command must work.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
MAX_WHEEL = 750_000
"""Bytes. More would be a file that does not belong there."""
INFO_FILES = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
"""What the wheel has beside the package."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build sdist, wheel, SBOM and SHA256SUMS in dist/, and check them.")
    parser.add_argument("--allow-changes", action="store_true", help="include files that are not committed")
    options = parser.parse_args()
    changes = git("status", "--porcelain")
    if changes and not options.allow_changes:
        sys.exit(f"a release is built from a commit, and these files differ from it:\n{changes}")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = project["version"]
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    files = sorted(name for name in set(listed) if (ROOT / name).is_file())
    if "Repository" not in project.get("urls", {}):
        print("[project.urls] has no Repository: in the package's README, links to files become plain text")

    with tempfile.TemporaryDirectory(prefix="frcnn-release-") as name:
        scratch = Path(name)
        sdist, wheel = build(scratch / "one", files, project, mask=0o022, zone="UTC", options=[])
        both = ["--sdist", "--wheel"]
        again = build(scratch / "other name", files, project, mask=0o077, zone="Asia/Kolkata", options=both)
        must_equal([sdist, wheel], again)
        check_sdist(sdist, files)
        check_wheel(wheel, files, version)
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        python = install(wheel, version, scratch / "environment")
        sbom = write_sbom(python, wheel, list(project["optional-dependencies"]), scratch / f"frcnn-{version}.cdx.json")
        publish([sdist, wheel, sbom], ROOT / "dist")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def run(*command: str | Path, **options: Any) -> str:
    """Run a program; what it prints is shown only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\nended with status {done.returncode}")
    return done.stdout


def build(
    folder: Path, files: Iterable[str], project: dict[str, Any], *, mask: int, zone: str, options: list[str]
) -> tuple[Path, Path]:
    """Copy the files, and build from the copy.

    Args:
        folder: a new one.
        mask: the umask of all that is written.
        zone: the time zone, which must not matter.
        options: of `uv build`: none builds the wheel from the sdist, "--sdist" and "--wheel" both from the files.

    Returns:
        The sdist and the wheel.
    """
    source = folder / "source"
    with umask(mask):
        for name in files:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
        readme = source / "README.md"
        url = project.get("urls", {}).get("Repository")
        readme.write_text(index_readme(readme.read_text(encoding="utf-8"), url, project["version"]), encoding="utf-8")
        environment = os.environ | {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct"), "TZ": zone}
        where = ["--python", sys.executable, "--out-dir", folder / "dist"]
        run(find_uv_bin(), "build", *options, *where, "--build-constraints", CONSTRAINTS, source, env=environment)
    return next((folder / "dist").glob("*.tar.gz")), next((folder / "dist").glob("*.whl"))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def index_readme(text: str, repository: str | None, version: str) -> str:
    """The README for a package index, where relative links lead nowhere.

    Args:
        text: Markdown.
        repository: the address of the repository; links then lead to its files at the version's tag. Without it, the
            texts of links remain, and images are left out.
    """

    def absolute(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        if target.startswith(("http://", "https://", "mailto:", "#")):
            return match[0]
        if repository is None:
            return "" if mark else label
        return f"{mark}[{label}]({repository.rstrip('/')}/{'raw' if mark else 'blob'}/v{version}/{target})"

    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    for index in range(0, len(parts), 2):  # the others are code
        images_done = re.sub(r"(!)\[([^\]]*)\]\(([^)\s]+)\)", absolute, parts[index])
        parts[index] = re.sub(r"(?<!!)()\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\(([^)\s]+)\)", absolute, images_done)
    return "".join(parts).lstrip("\n")


def must_equal(files: Iterable[Path], others: Iterable[Path]) -> None:
    for file, other in zip(files, others, strict=True):
        if file.name != other.name or file.read_bytes() != other.read_bytes():
            sys.exit(f"two builds differ: {file.name}, {other.name}")


def same_names(what: str, found: Iterable[str], expected: Iterable[str]) -> None:
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unexpected:
        sys.exit(f"{what}: missing {missing}, unexpected {unexpected}")


def check_sdist(sdist: Path, files: Iterable[str]) -> None:
    """It has every file of the repository, and nothing of the computer that built it."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    same_names(sdist.name, [member.name.partition("/")[2] for member in members], [*files, "PKG-INFO"])
    for member in members:
        if not member.isfile() or member.uid or member.gid or member.uname or member.gname:
            sys.exit(f"{sdist.name}: {member.name} is not a plain file without an owner")


def check_wheel(wheel: Path, files: Iterable[str], version: str) -> None:
    """It has the package with all its data files, its metadata, and nothing else; and runs on any computer."""
    package = [name.removeprefix("src/") for name in files if name.startswith("src/frcnn/")]
    info = f"frcnn-{version}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        same_names(wheel.name, archive.namelist(), [*package, *(f"{info}/{name}" for name in INFO_FILES)])
        tags = archive.read(f"{info}/WHEEL").decode().splitlines()
    if not wheel.name.endswith("-py3-none-any.whl") or not {"Root-Is-Purelib: true", "Tag: py3-none-any"} <= set(tags):
        sys.exit(f"{wheel.name}: is not for any computer with Python 3: {tags}")
    if (size := wheel.stat().st_size) >= MAX_WHEEL:
        sys.exit(f"{wheel.name}: {size:,} bytes; must be less than {MAX_WHEEL:,}")


def install(wheel: Path, version: str, folder: Path) -> Path:
    """Install the wheel in an environment of its own, and try its command. Returns the Python of the environment."""
    python = folder / "bin" / "python"
    run(find_uv_bin(), "venv", "--python", sys.executable, folder)
    run(find_uv_bin(), "pip", "install", "--python", python, "--constraint", CONSTRAINTS, wheel)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = run(folder / "bin" / "frcnn", "--version", cwd=folder, env=environment).strip()
    if said != f"frcnn {version}":
        sys.exit(f"`frcnn --version` says {said!r}, not 'frcnn {version}'")
    run(folder / "bin" / "frcnn", "config", "--recipe", "tutorial", cwd=folder, env=environment)
    return python


def write_sbom(python: Path, wheel: Path, extras: list[str], file: Path) -> Path:
    """The packages of an environment with the wheel and all its extras, as CycloneDX."""
    every = f"{wheel}[{','.join(extras)}]"
    run(find_uv_bin(), "pip", "install", "--python", python, "--constraint", CONSTRAINTS, every)
    form = ["--spec-version", "1.6", "--output-format", "JSON", "--output-reproducible", "--output-file", file]
    main_component = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "library"]
    run(sys.executable, "-m", "cyclonedx_py", "environment", *main_component, *form, python)
    return file


def publish(files: Iterable[Path], folder: Path) -> None:
    """Copy the files to the folder, which is emptied before, and list their checksums beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sums = ""
    for file in files:
        shutil.copyfile(file, folder / file.name)
        sums += f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        print(f"{file.stat().st_size:>11,} bytes  {folder.name}/{file.name}")
    (folder / "SHA256SUMS").write_text(sums, encoding="ascii")
    print(sums, end="")


if __name__ == "__main__":
    main()
