"""What only this user may read or write: locks, and the token of a folder's page."""

import hashlib
import html
import os
import secrets
import stat
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path

from frcnn.files import write_text

_TOKEN_BYTES = 16


def private_folder() -> Path:
    """A folder for temporary files of this user, which others can neither read nor change.

    Raises:
        OSError: somebody else made a folder or a file of this name.
    """
    if os.name != "posix":  # elsewhere, the folder for temporary files belongs to the user
        folder = Path(tempfile.gettempdir()) / "frcnn"
        folder.mkdir(exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / f"frcnn-{os.getuid()}"  # a user in a container may have no name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"{folder}: must be a folder that only you can open; remove it, or set TMPDIR to another place")
    return folder


def folder_key(folder: Path) -> str:
    """The beginning of the names of this data folder's lock, token and page."""
    return hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def open_page(address: str, folder: Path) -> None:
    """Open the page of a data folder in the browser. The browser gets a private file that leads to the address, because
    every user of the computer can see the arguments of programs, and the address has the token."""
    file = private_folder() / f"{folder_key(folder)}.html"
    write_text(file, f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
    webbrowser.open(file.as_uri())


def page_token(folder: Path) -> str:
    """The token of a data folder's page. It stays the same when the server is started again, so that a page that is
    still open can save. An empty or truncated file gets a new token."""
    file = private_folder() / f"{folder_key(folder)}.token"
    new = secrets.token_urlsafe(_TOKEN_BYTES)
    with suppress(OSError, UnicodeDecodeError):
        stored = file.read_text(encoding="ascii")
        if len(stored) == len(new):
            return stored
    write_text(file, new)
    return new
