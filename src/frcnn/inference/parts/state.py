"""What a folder of parts says about the job: its settings, the shards that have begun, and their parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from frcnn.files import write_text
from frcnn.inference.parts.listing import Shard
from frcnn.json_text import load_json, to_json
from frcnn.messages import clipped, short

FORMAT = 1
_PART = re.compile(r"part-(\d+)-(\d+)\.(?:jsonl|parquet)")
_STATE = re.compile(r"_shard-(\d+)-of-(\d+)\.json")


class ShardState(NamedTuple):
    """What `_shard-I-of-N.json` says. Readers of Parquet skip names with `_`, so they can read the folder."""

    settings: dict[str, Any]
    finished: dict[str, Any] | None
    """images: rows of the shard; listed: images of all shards; checksum: the sum of the digests of all images, so that
    shards which have listed different images notice it. None: the shard is not finished."""

    @staticmethod
    def file(folder: Path, shard: Shard) -> Path:
        return folder / f"_shard-{shard.index}-of-{shard.count}.json"

    @classmethod
    def read(cls, file: Path) -> ShardState:
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
        write_text(self.file(folder, shard), to_json(content))


def read_states(folder: Path) -> dict[Shard, ShardState]:
    """The state of each shard that has begun.

    Raises:
        ValueError: their settings differ, or a file is damaged or of another format.
    """
    names = sorted(_listdir(folder), key=lambda name: (len(name), name))
    found = {Shard(int(match[1]), int(match[2])): name for name in names if (match := _STATE.fullmatch(name))}
    states = {shard: ShardState.read(folder / name) for shard, name in sorted(found.items())}
    for (shard, state), (other_shard, other) in pairwise(states.items()):
        require_same_settings(folder, f"shard {shard}", state, shard, f"shard {other_shard}", other, other_shard)
    return states


def require_same_settings(
    folder: Path, name: str, state: ShardState, shard: Shard, other_name: str, other: ShardState, other_shard: Shard
) -> None:
    """Check that two shards have the same settings, and belong to jobs with the same number of shards.

    Args:
        name, other_name: how a message names them.

    Raises:
        ValueError: something differs.
    """
    one, two = ({"shards": each.count, **rest.settings} for each, rest in ((shard, state), (other_shard, other)))
    different = [key for key in one | two if one.get(key) != two.get(key)]
    if different:
        values = "; ".join(
            clipped(f"{key}: {name} has {one.get(key)}, {other_name} has {two.get(key)}") for key in different[:5]
        )
        raise ValueError(f"{folder}: its parts need the same settings ({values}); use those, or another folder")


def _listdir(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def part_files(folder: Path, index: int) -> list[tuple[int, Path]]:
    """The parts of a shard: the number and the file of each."""
    matches = filter(None, map(_PART.fullmatch, _listdir(folder)))
    return sorted((int(match[2]), folder / match[0]) for match in matches if int(match[1]) == index)


@contextmanager
def locked_shard(folder: Path, shard: Shard) -> Iterator[None]:
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
