"""Read PyTorch's files from strangers: no code of theirs runs, and time and memory are bounded."""

import argparse
import pickletools
import zipfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

_PICKLES = 4  # at the beginning of a file from before 2020: a number, a version, the machine, the content
_MAX_NAME = 1000


def load_torch_file(path: Path) -> Any:
    """What `torch.load` with `weights_only` reads from a file, on the CPU. `argparse.Namespace` is also accepted: it is
    a plain record, and torchvision's training script saves its options in one.

    Raises:
        ValueError: the records of the file are compressed, which PyTorch never does: a small file may unpack to any
            size. Or it names a class by thousands of letters: PyTorch's error for it takes a time that grows with their
            square.
        pickle.UnpicklingError: the file holds more than tensors, numbers and texts.
        Exception: a damaged file, of many classes.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            is_compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
            if is_compressed or sum(record.file_size for record in records) > path.stat().st_size:
                raise ValueError("its records are compressed, or share their bytes")
            for record in records:
                if record.filename.endswith("data.pkl"):
                    _require_short_names(BytesIO(archive.read(record)))
    else:
        with path.open("rb") as file:
            _require_short_names(file)
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _require_short_names(file: BinaryIO) -> None:
    """Check the names of the classes that the file asks for.

    Raises:
        ValueError: a class has a name of thousands of letters.
    """
    longest = 0
    with suppress(Exception):  # a damaged file, or the end of it: PyTorch reports it
        for _ in range(_PICKLES):
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL" and isinstance(argument, str):
                    longest = max(longest, len(argument))
    if longest > _MAX_NAME:
        raise ValueError(f"it names a class by {longest:,} letters")
