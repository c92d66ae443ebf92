"""Detect in the images of one shard, and write the parts."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from frcnn.data.tiles import OVERLAP
from frcnn.files import finish_changes
from frcnn.inference.parts.listing import ALL, DIGEST_SIZE, DigestSet, Shard, digest_of, list_names
from frcnn.inference.parts.rows import JSON_LINES, PARQUET, Row, parquet_schema, read_rows, row_of, row_writer
from frcnn.inference.parts.state import ShardState, locked_shard, part_files, read_states, require_same_settings
from frcnn.inference.predictor import predict_each
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Runtime

PART_SIZE = 1000
"""Images of a part, unless the caller says otherwise."""
_OF_DISK = frozenset(
    {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT}
    | {errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)
"""Errors of a disk, a network or a machine. No image is to blame, so the job stops; it can be resumed."""


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
    state = ShardState({**settings, "threshold": threshold, "tile": tile, "overlap": overlap}, None)
    folder.mkdir(parents=True, exist_ok=True)
    with locked_shard(folder, shard):
        finish_changes(folder)  # hidden files of killed processes
        for other_shard, other in read_states(folder).items():
            require_same_settings(folder, "this command", state, shard, f"shard {other_shard}", other, other_shard)
        parts = part_files(folder, shard.index)
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
            self.checksum = (self.checksum + int.from_bytes(digest, "big")) % (1 << 8 * DIGEST_SIZE)
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
            with row_writer(file) as write:
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
