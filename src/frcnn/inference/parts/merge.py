"""Check the parts of all shards, and join them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.inference.parts.listing import DigestSet, Shard, digest_of
from frcnn.inference.parts.rows import JSON_LINES, PARQUET, Row, read_rows, row_writer
from frcnn.inference.parts.state import ShardState, part_files, read_states
from frcnn.messages import listed, plural


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
    states = read_states(folder)
    if not states:
        raise FileNotFoundError(f"{folder}: has no parts; `frcnn predict MODEL FOLDER --parts {folder}` writes them")
    if out is not None and out.suffix not in (JSON_LINES, PARQUET):
        raise ValueError(f"{out}: the suffix must be {JSON_LINES} or {PARQUET}")
    count = next(iter(states)).count
    if not incomplete:
        _require_finished(folder, states, count)
    images = errors = 0
    with ExitStack() as stack:
        write = (lambda row: None) if out is None else stack.enter_context(row_writer(out))
        for shard in states:
            finished = None if incomplete else states[shard].finished
            for row in _checked_rows(folder, shard, finished):
                images, errors = images + 1, errors + ("error" in row)
                on_row(row)
                write(row)
    return Merged(images, errors, len(states))


def _require_finished(folder: Path, states: Mapping[Shard, ShardState], count: int) -> None:
    remedy = "run them with --resume, or merge what is there (--incomplete)"
    open_ = [
        index for index in range(count) if (state := states.get(Shard(index, count))) is None or not state.finished
    ]
    if open_:
        names = listed([f"{index}/{count}" for index in open_], 20)
        raise ValueError(f"{folder}: {plural(len(open_), 'shard')} of {count} not finished: {names}; {remedy}")
    numbers = {shard: (state.finished or {}).get("listed") for shard, state in states.items()}
    sums = {(state.finished or {}).get("checksum") for state in states.values()}
    if len(sums) > 1:
        counts = ", ".join(f"{shard}: {number}" for shard, number in list(numbers.items())[:20])
        raise ValueError(
            f"{folder}: the shards have listed different images (numbers of images: {counts}), because the images "
            f"changed in the meantime; {remedy}"
        )


def _checked_rows(folder: Path, shard: Shard, finished: Mapping[str, Any] | None) -> Iterator[Row]:
    seen = DigestSet()
    for _, file in part_files(folder, shard.index):
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
