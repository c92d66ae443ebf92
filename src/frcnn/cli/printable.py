"""Text for the terminal: names from data and files cannot control it."""

from typing import Any, TextIO

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""ASCII and Latin-1 control characters, and bidirectional control characters."""


class EscapingStream:
    """A stream that writes control characters as \\u001b and so on, which JSON reads back. Line breaks and tabs stay.

    Args:
        stream: where the text goes.
        allowed: further characters that stay.
    """

    def __init__(self, stream: TextIO, allowed: str = "") -> None:
        self._stream = stream
        self._table = {code: f"\\u{code:04x}" for code in _CONTROLS if chr(code) not in f"\n\t{allowed}"}

    def write(self, text: str) -> int:
        self._stream.write(text.translate(self._table))
        return len(text)

    def close(self) -> None:
        """Leave the stream open. The log handler of absl, which TensorBoard uses, closes streams that it finds."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
