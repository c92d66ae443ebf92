"""The rows of a part: one for each image, as JSON lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frcnn.files import atomic_write
from frcnn.inference.results import Detections
from frcnn.json_text import load_json
from frcnn.messages import short

if TYPE_CHECKING:
    import pyarrow

JSON_LINES, PARQUET = ".jsonl", ".parquet"
_ROWS_AT_ONCE = 10_000
"""Rows of a group in a merged Parquet file."""

Row = dict[str, Any]


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
def row_writer(path: Path) -> Iterator[_RowWriter]:
    """Write a file of rows, whole or not at all; call what it yields with each row."""
    with atomic_write(path) as partial, ExitStack() as stack:
        writer = _RowWriter(partial, stack)
        yield writer
        writer.flush()
