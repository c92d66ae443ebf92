"""Detections of many images, in files of many rows each (parts).

Several processes share a job: each takes the images of one shard. A process that is killed loses at most the part that
it was writing, and the next one resumes. `merge_parts` checks that no image is missing or duplicated.

A folder of parts holds:

* `part-0-000003.jsonl` (or `.parquet`): the fourth part of shard 0. Parts are written whole or not at all.
* `_shard-0-of-4.json`: the settings of the job, and what a finished shard has predicted.

A row is `{"image": name, "width": ..., "height": ..., "detections": [...]}`, or `{"image": name, "error": ...}` for an
image that cannot be predicted. The name is the path relative to the folder of the images, so that machines can mount
the folder at different places.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import iglob
from itertools import chain, islice
from pathlib import Path, PurePath, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from frcnn.data.images import IMAGE_SUFFIXES
from frcnn.data.tiles import OVERLAP
from frcnn.files import atomic_write, expand_home, finish_changes, write_text
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime
from frcnn.json_text import load_json
from frcnn.messages import clipped, plural, short

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
JSON_LINES, PARQUET = ".jsonl", ".parquet"
PART_SIZE = 1000
"""Images of a part, unless the caller says otherwise."""
LIST_SUFFIX = ".txt"
_DIGEST = 16  # bytes
_ROWS_AT_ONCE = 10_000
"""Rows of a group in a merged Parquet file."""
_PART = re.compile(r"part-(\d+)-(\d+)\.(?:jsonl|parquet)")
_STATE = re.compile(r"_shard-(\d+)-of-(\d+)\.json")
_OF_DISK = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT}
    | {errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)
"""Errors of a disk, a network or a machine. No image is to blame, so the job stops; it can be resumed."""

Row = dict[str, Any]


# --------------------------------------------------------------------------------------------------------- the images


@dataclass(frozen=True, order=True)
class Shard:
    """The images of one process: those whose digest is `index` modulo `count`."""

    index: int = 0
    """0..count-1."""
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "I/N", e.g. "0/4".

        Raises:
            ValueError: another text.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, flags=re.ASCII)
        if match is None or not int(match[1]) < int(match[2]):
            raise ValueError(f"shard '{text}': must be I/N, with I from 0 to N - 1, e.g. 0/4 to 3/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, digest: bytes) -> bool:
        """Whether an image belongs to this shard."""
        return int.from_bytes(digest, "big") % self.count == self.index


ALL = Shard()
"""One process for all images."""


def digest_of(name: str) -> bytes:
    """16 bytes that are the same on every machine and in every version of Python, which `hash` is not."""
    return hashlib.blake2b(name.encode(), digest_size=_DIGEST).digest()


class DigestSet:
    """A set of digests. Each of many digests takes up to 40 bytes; a set of Python takes over 100.

    New digests are in a set of Python. When they are an eighth of all, they are merged into a sorted array; this copies
    the array.
    """

    def __init__(self) -> None:
        self._sorted = np.empty(0, f"S{_DIGEST}")
        self._new: set[bytes] = set()
        """Not yet in `_sorted`."""

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def __contains__(self, digest: bytes) -> bool:
        digest = digest.rstrip(b"\0")  # as NumPy returns it
        if digest in self._new:
            return True
        place = int(np.searchsorted(self._sorted, np.bytes_(digest)))
        return place < len(self._sorted) and self._sorted[place] == digest

    def add(self, digest: bytes) -> bool:
        """Add a digest. Returns whether it was not there before."""
        if digest in self:
            return False
        self._new.add(digest.rstrip(b"\0"))
        if len(self._new) >= max(1 << 16, len(self._sorted) // 8):
            new = np.array(list(self._new), f"S{_DIGEST}")
            self._new.clear()  # before the copy, so that both are never in memory
            self._sorted = np.concatenate((self._sorted, new))
            self._sorted.sort()
        return True


def list_names(source: str | Path) -> Iterator[tuple[str, Path]]:
    """The images of a job: the name and the file of each. They are listed as they are needed; the names of one folder
    are in memory at a time.

    Args:
        source: a folder, whose subfolders are searched; a text file (.txt) with one path per line, relative
            to the folder of the text file; or a pattern, e.g. "photos/**/*.jpg". Hidden files and folders are skipped.
            In a folder, links to folders are not followed; a pattern with `**` follows them.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something else.
    """
    path = expand_home(source)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        if path.suffix.lower() != LIST_SUFFIX:
            raise ValueError(
                f"{source}: name one folder, one text file ({LIST_SUFFIX}) with one path per line, or a pattern"
            )
        return _in_list(path)
    if not set("*?[") & set(str(path)):
        raise FileNotFoundError(f"{source}: no such folder or list of images")
    return _matching(path)


def _in_folder(root: Path) -> Iterator[tuple[str, Path]]:
    def fail(error: OSError) -> None:
        raise error  # a folder that cannot be listed may hold images

    for folder, folders, files in os.walk(root, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(folder, name)
            if _is_visible_image(file):
                yield _text(file.relative_to(root)), file


def _in_list(path: Path) -> Iterator[tuple[str, Path]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        for line in lines:
            if file := line.rstrip("\r\n"):
                yield _text(PurePosixPath(file)), path.parent / file


def _matching(pattern: Path) -> Iterator[tuple[str, Path]]:
    root = next(each for each in pattern.parents if not set("*?[") & set(str(each)))
    for name in iglob(str(pattern), recursive=True):
        file = Path(name)
        if _is_visible_image(file) and file.is_file():
            yield _text(file.relative_to(root)), file


def _is_visible_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def _text(path: PurePath) -> str:
    """A path as text that every file format can hold; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


# ------------------------------------------------------------------------------------------------------------ the rows


def row_of(name: str, result: Detections | Exception) -> Row:
    """The row of one image.

    Args:
        result: the detections, or the error of an image that cannot be predicted.
    """
    if isinstance(result, Exception):
        return {"image": name, "error": str(result).encode("utf-8", "backslashreplace").decode()}
    height, width = result.size or (None, None)
    return {"image": name, "width": width, "height": height, "detections": result.to_dict()["detections"]}


def parquet_schema() -> pyarrow.Schema:
    """The columns of a Parquet file. `detections` is null where `error` is not."""
    import pyarrow as pa

    box = pa.list_(pa.float32())
    detection = pa.struct([("class", pa.string()), ("score", pa.float32()), ("box", box)])
    return pa.schema(
        [
            ("image", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("detections", pa.list_(detection)),
            ("error", pa.string()),
        ]
    )


def to_table(rows: Sequence[Row]) -> pyarrow.Table:
    """Rows as a table of Arrow."""
    import pyarrow as pa

    return pa.Table.from_pylist(rows, parquet_schema())


def _to_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_rows(file: Path) -> Iterator[Row]:
    """The rows of a part.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        for row in _parquet_rows(file) if file.suffix == PARQUET else _json_rows(file):
            if not isinstance(row, dict) or not isinstance(row.get("image"), str):
                raise ValueError(f"a row is {short(row)}")
            yield row
    except ValueError as error:  # so are pyarrow's
        raise ValueError(
            f"{file}: damaged ({error}); delete this file and run the same `frcnn predict` again with --resume"
        ) from None


def _json_rows(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield load_json(line)


def _parquet_rows(file: Path) -> Iterator[Row]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(_ROWS_AT_ONCE):
            yield from map(_plain, batch.to_pylist())


def _plain(row: Row) -> Row:
    """A row of Parquet as it was before: numbers of 32 bits are rounded as `Detections.to_dict` rounds them."""
    if row.get("error") is not None:
        return {"image": row["image"], "error": row["error"]}
    detections = [
        {"class": each["class"], "score": round(each["score"], 6), "box": [round(value, 3) for value in each["box"]]}
        for each in row["detections"]
    ]
    return {"image": row["image"], "width": row["width"], "height": row["height"], "detections": detections}


class _RowWriter:
    """Writes rows to a file, by its suffix; few are in memory."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        self._rows: list[Row] = []
        if file.suffix == PARQUET:
            from pyarrow import parquet

            writer = stack.enter_context(parquet.ParquetWriter(file, parquet_schema(), compression="zstd"))
            self._write = lambda rows: writer.write_table(to_table(rows))
        else:
            opened = stack.enter_context(file.open("w", encoding="utf-8"))
            self._write = lambda rows: opened.writelines(map(_to_line, rows))

    def __call__(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._write(self._rows)
        self._rows = []


@contextmanager
def _row_writer(path: Path) -> Iterator[_RowWriter]:
    with atomic_write(path) as partial, ExitStack() as stack:
        writer = _RowWriter(partial, stack)
        yield writer
        writer.flush()


# --------------------------------------------------------------------------------------------------- the state of a job


class _State(NamedTuple):
    """What `_shard-I-of-N.json` says. Readers of Parquet skip names with `_`, so they can read the folder."""

    settings: dict[str, Any]
    finished: dict[str, Any] | None
    """images: rows of the shard; listed: images of all shards; checksum: the sum of the digests of all images, so that
    shards which have listed different images notice it. None: the shard is not finished."""

    @staticmethod
    def file(folder: Path, shard: Shard) -> Path:
        return folder / f"_shard-{shard.index}-of-{shard.count}.json"

    @classmethod
    def read(cls, file: Path) -> _State:
        try:
            content = load_json(file.read_text(encoding="utf-8"))
            state = cls(content["settings"], content["finished"])
            is_valid = isinstance(state.settings, dict) and isinstance(state.finished, dict | None)
            is_valid = is_valid and all(isinstance(value, int | str) for value in (state.finished or {}).values())
            version = content["format"]
        except (ValueError, KeyError, TypeError):
            is_valid, version = False, FORMAT
        if version != FORMAT:
            raise ValueError(f"{file}: has format {short(version)}, this frcnn reads format {FORMAT}")
        if not is_valid:
            raise ValueError(f"{file}: damaged; delete it and run its shard again with --resume")
        return state

    def write(self, folder: Path, shard: Shard) -> None:
        content = {"format": FORMAT, "settings": self.settings, "finished": self.finished}
        write_text(self.file(folder, shard), json.dumps(content, indent=2) + "\n")


def _states(folder: Path) -> dict[Shard, _State]:
    """The state of each shard that has begun.

    Raises:
        ValueError: their settings differ.
    """
    names = sorted(_listdir(folder), key=lambda name: (len(name), name))
    found = {Shard(int(match[1]), int(match[2])): name for name in names if (match := _STATE.fullmatch(name))}
    states = {shard: _State.read(folder / name) for shard, name in sorted(found.items())}
    for shard, state in states.items():
        first = next(iter(states))
        _require_same(folder, f"shard {first}", next(iter(states.values())), first, f"shard {shard}", state, shard)
    return states


def _require_same(
    folder: Path, name: str, state: _State, shard: Shard, other_name: str, other: _State, other_shard: Shard
) -> None:
    one, two = ({"shards": each.count, **rest.settings} for each, rest in ((shard, state), (other_shard, other)))
    different = [key for key in one | two if one.get(key) != two.get(key)]
    if different:
        values = "; ".join(
            clipped(f"{key}: {name} has {one.get(key)}, {other_name} has {two.get(key)}") for key in different[:5]
        )
        raise ValueError(f"{folder}: its parts need the same settings ({values}); use those, or another folder")


def _listdir(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _parts(folder: Path, index: int) -> list[tuple[int, Path]]:
    """The parts of a shard: the number and the file of each."""
    matches = filter(None, map(_PART.fullmatch, _listdir(folder)))
    return sorted((int(match[2]), folder / match[0]) for match in matches if int(match[1]) == index)


@contextmanager
def _locked(folder: Path, shard: Shard) -> Iterator[None]:
    """Keep other processes out of a shard. The system releases the lock of a process that dies."""
    try:
        from filelock import FileLock, Timeout
    except ModuleNotFoundError:  # exported files run where it is not installed
        yield
        return
    lock = FileLock(folder / f".shard-{shard.index}-of-{shard.count}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FileExistsError(
            f"{folder}: another process predicts shard {shard}; wait, or take another shard"
        ) from None
    try:
        yield
    finally:
        lock.release()


# ---------------------------------------------------------------------------------------------------------- prediction


class Summary(NamedTuple):
    """What a process has done."""

    images: int
    """Of the shard, with those of earlier processes."""
    predicted: int
    """By this process, with errors."""
    errors: int
    """Images that this process could not predict."""
    seconds: float


def predict_in_parts(
    runtime: Runtime,
    source: str | Path,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    threshold: float,
    tile: int | None = None,
    overlap: float = OVERLAP,
    shard: Shard = ALL,
    resume: bool = False,
    parquet: bool = False,
    part_size: int = PART_SIZE,
    on_row: Callable[[Row], None] = lambda row: None,
    on_part: Callable[[Path, int], None] = lambda file, rows: None,
) -> Summary:
    """Detect in the images of one shard, and write the parts.

    Args:
        source: the images, see `list_names`.
        folder: of the parts; all shards can share it.
        settings: all else that the detections depend on, e.g. the hash of the model file; JSON.
        resume: leave out the images that the parts in the folder hold.
        parquet: write Parquet, which needs pyarrow, instead of JSON lines.
        on_row: called with each row.
        on_part: called with each part that is written, and its number of rows.

    Raises:
        FileExistsError: the folder has parts of this shard, without `resume`; or another process writes them.
        ValueError: the parts in the folder have other settings, or one is damaged; or there is no image.
        OSError: the disk fails. Images that cannot be read are no error; they are in the parts.
    """
    if part_size < 1:
        raise ValueError(f"part_size: {part_size} must be at least 1")
    if parquet:
        parquet_schema()  # if pyarrow is missing, say so before anything is predicted
    images = list_names(source)
    first = list(islice(images, 1))
    if not first:
        raise ValueError(f"{source}: has no images")
    state = _State({**settings, "threshold": threshold, "tile": tile, "overlap": overlap}, None)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, shard):
        finish_changes(folder)  # hidden files of killed processes
        for other_shard, other in _states(folder).items():
            _require_same(folder, "this command", state, shard, f"shard {other_shard}", other, other_shard)
        parts = _parts(folder, shard.index)
        if parts and not resume:
            raise FileExistsError(f"{folder}: has parts of shard {shard}; add --resume, or choose another folder")
        done = DigestSet()
        for _, file in parts:
            for row in read_rows(file):
                done.add(digest_of(row["image"]))
        state.write(folder, shard)
        job = _Job(shard, done)
        number = parts[-1][0] + 1 if parts else 0
        start = time.monotonic()
        with _PartWriter(folder, shard, number, PARQUET if parquet else JSON_LINES, part_size, on_part) as writer:
            waiting: deque[str] = deque()

            def wanted() -> Iterator[Path]:
                for name, path in job.wanted(chain(first, images)):
                    waiting.append(name)
                    yield path

            def write(result: Detections | Exception) -> None:
                if isinstance(result, Exception):
                    if is_of_disk(result):
                        raise OSError(f"{result}; the job can be resumed (--resume)") from result
                    job.errors += 1
                row = row_of(waiting.popleft(), result)
                writer.add(row)
                job.predicted += 1
                on_row(row)

            for detections in predict_each(
                runtime, wanted(), threshold=threshold, tile=tile, overlap=overlap, on_error=write
            ):
                write(detections)
        finished = {"images": len(done), "listed": job.listed, "checksum": f"{job.checksum:032x}"}
        state._replace(finished=finished).write(folder, shard)
    return Summary(len(done), job.predicted, job.errors, time.monotonic() - start)


class _Job:
    """Chooses the images to predict, and counts."""

    def __init__(self, shard: Shard, done: DigestSet) -> None:
        self.shard, self.done = shard, done
        self.listed = self.checksum = self.predicted = self.errors = 0

    def wanted(self, images: Iterator[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
        """The images of the shard that are not done. An image that is listed twice is predicted once."""
        for name, path in images:
            digest = digest_of(name)
            self.listed += 1
            self.checksum = (self.checksum + int.from_bytes(digest, "big")) % (1 << 8 * _DIGEST)
            if self.shard.holds(digest) and self.done.add(digest):
                yield name, path


def is_of_disk(error: BaseException) -> bool:
    """Whether the disk, the network or the machine is to blame, not the image. frcnn has put another error around
    theirs."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _OF_DISK:
            return True
        cause = cause.__context__
    return False


class _PartWriter:
    """Collects the rows of a part. The rows of the last part are written also if the job is interrupted or fails."""

    def __init__(
        self, folder: Path, shard: Shard, number: int, suffix: str, size: int, on_part: Callable[[Path, int], None]
    ) -> None:
        self._folder, self._shard, self._number = folder, shard, number
        self._suffix, self._size, self._on_part = suffix, size, on_part
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._size:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            file = self._folder / f"part-{self._shard.index}-{self._number:06d}{self._suffix}"
            with _row_writer(file) as write:
                for row in rows:
                    write(row)
            self._number += 1
            self._on_part(file, len(rows))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()


# --------------------------------------------------------------------------------------------------------------- merge


class Merged(NamedTuple):
    """What the parts hold."""

    images: int
    errors: int
    """Images that could not be predicted."""
    shards: int
    """Those that have parts."""


def merge_parts(
    folder: Path,
    out: Path | None,
    *,
    incomplete: bool = False,
    on_row: Callable[[Row], None] = lambda row: None,
) -> Merged:
    """Check the parts of all shards, and join them in one file. Few rows are in memory at any time.

    Args:
        out: the file to write, `.jsonl` or `.parquet`; None: only check.
        incomplete: accept shards that are missing or not finished.
        on_row: called with each row.

    Raises:
        FileNotFoundError: the folder has no parts.
        ValueError: an image is duplicated or missing, a part is damaged, or the settings of the shards differ.
    """
    states = _states(folder)
    if not states:
        raise FileNotFoundError(f"{folder}: has no parts; `frcnn predict MODEL FOLDER --parts {folder}` writes them")
    if out is not None and out.suffix not in (JSON_LINES, PARQUET):
        raise ValueError(f"{out}: the suffix must be {JSON_LINES} or {PARQUET}")
    count = next(iter(states)).count
    if not incomplete:
        _require_finished(folder, states, count)
    images = errors = 0
    with ExitStack() as stack:
        write = (lambda row: None) if out is None else stack.enter_context(_row_writer(out))
        for shard in states:
            finished = None if incomplete else states[shard].finished
            for row in _checked_rows(folder, shard, finished):
                images, errors = images + 1, errors + ("error" in row)
                on_row(row)
                write(row)
    return Merged(images, errors, len(states))


def _require_finished(folder: Path, states: Mapping[Shard, _State], count: int) -> None:
    remedy = "run them with --resume, or merge what is there (--incomplete)"
    open_ = [
        index for index in range(count) if (state := states.get(Shard(index, count))) is None or not state.finished
    ]
    if open_:
        names = ", ".join(f"{index}/{count}" for index in open_[:20]) + (", ..." if len(open_) > 20 else "")
        raise ValueError(f"{folder}: {plural(len(open_), 'shard')} of {count} not finished: {names}; {remedy}")
    listed = {shard: (state.finished or {}).get("listed") for shard, state in states.items()}
    sums = {(state.finished or {}).get("checksum") for state in states.values()}
    if len(sums) > 1:
        counts = ", ".join(f"{shard}: {number}" for shard, number in list(listed.items())[:20])
        raise ValueError(
            f"{folder}: the shards have listed different images (numbers of images: {counts}), because the images "
            f"changed in the meantime; {remedy}"
        )


def _checked_rows(folder: Path, shard: Shard, finished: Mapping[str, Any] | None) -> Iterator[Row]:
    seen = DigestSet()
    for _, file in _parts(folder, shard.index):
        for row in read_rows(file):
            digest = digest_of(row["image"])
            if not shard.holds(digest):
                raise ValueError(f"{file}: holds {row['image']}, which is not of shard {shard}; delete this file")
            if not seen.add(digest):
                raise ValueError(f"{file}: holds {row['image']}, which an earlier part holds too; delete this file")
            yield row
    if finished is not None and len(seen) != finished.get("images"):
        raise ValueError(
            f"{folder}: shard {shard} finished with {plural(finished.get('images', 0), 'image')}, but its parts hold "
            f"{len(seen)}; run it again with --resume"
        )
