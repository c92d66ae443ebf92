"""Annotations in JSON."""

from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_json(file: Path, content: type[T], form: str) -> T:
    """The file's content, checked.

    Args:
        content: its type.
        form: what it should be, for the error.

    Raises:
        FileNotFoundError, ValueError: it is missing, no JSON, or of another form.
    """
    try:
        return msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=content)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"{file}: not {form}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not a JSON file ({error})") from None
