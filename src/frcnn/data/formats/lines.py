"""Text files of annotations."""

from pathlib import Path


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file.

    Raises:
        FileNotFoundError, ValueError: it is missing, or not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: this file is missing") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
