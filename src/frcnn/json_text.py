"""JSON. In what is read, nesting that is too deep for a parser is an error like any other in a text."""

import json
from typing import Any, TypeVar

T = TypeVar("T")
_TOO_DEEP = "its brackets are nested too deeply"


def load_json(text: str | bytes) -> Any:
    """The content of a text, which may have NaN and infinity, as Python writes them.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def to_json(content: Any) -> str:
    """JSON text of several lines, for a UTF-8 file. Bytes of a file name that are not UTF-8 are escaped, as \\udc80."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()


def decode_json(text: str | bytes, type_: type[T]) -> T:
    """The content of a text, whose type is checked; fast.

    Raises:
        msgspec.DecodeError: it is not JSON, of another type, or nested too deeply.
    """
    import msgspec  # exported files run where it is not installed

    try:
        return msgspec.json.decode(text, type=type_)
    except RecursionError:
        raise msgspec.DecodeError(_TOO_DEEP) from None
