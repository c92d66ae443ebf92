"""Read JSON files. (Helper, not a format.)"""

import json
import re
from pathlib import Path
from typing import TypeVar

import msgspec

from frcnn.data.formats.lines import error_at
from frcnn.data.problems import AnnotationError
from frcnn.json_text import decode_json, load_json

T = TypeVar("T")
_TEXT_ID = re.compile(r"(0|-?[1-9]\d*)(\.0*)?")


def read_json(file: Path, content: type[T], form: str) -> T:
    """Read a file and check its type. UTF-16 with a byte order mark is understood, and so is NaN, which Python writes.

    Args:
        content: the type.
        form: describes the type, for the error.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not JSON, or of another type.
    """
    try:
        text = plain_start(file.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    try:
        try:
            return decode_json(text, content)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return msgspec.convert(load_json(text), content)  # NaN; if it is no JSON at all, this says where
    except msgspec.ValidationError as error:
        raise AnnotationError(file, f"not {form}: {error}") from None
    except json.JSONDecodeError as error:
        reason = f"not a JSON file ({error.msg})"
        raise error_at(file, reason, error.doc, offset=error.pos) from None
    except UnicodeDecodeError as error:
        reason, start = f"not a JSON file ({error.reason})", len(text[: error.start].decode("utf-8", "replace"))
        raise error_at(file, reason, text.decode("utf-8", "replace"), offset=start) from None
    except ValueError as error:  # e.g. a number of thousands of digits
        raise AnnotationError(file, f"not a JSON file ({error})") from None


def plain_start(content: bytes) -> bytes:
    """The bytes of a file, or its first ones, in UTF-8 without a byte order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content[: len(content) // 2 * 2].decode("utf-16", "ignore").encode()
    return content.removeprefix(b"\xef\xbb\xbf")


def id_of(value: float | str | None) -> float | str | None:
    """An id as other files may write it: "7", "7.0" and 7.0 are 7. Python compares 7.0 and 7 as equal."""
    match = _TEXT_ID.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(match[1]) if match and len(match[1]) < 20 else value
