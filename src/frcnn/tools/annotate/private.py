"""What only this user may read or write: locks, and the token of a folder's page."""

import hashlib
import html
import os
import secrets
import stat
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from frcnn.files import write_text

_LENGTH = 16  # bytes of a token


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


def digest_of(folder: Path) -> str:
    """A name for the files of a data folder."""
    return hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextmanager
def opened(address: str) -> Iterator[None]:
    """Open an address in the browser, until the block ends. The browser gets a file that leads there, because every
    user of the computer sees the arguments of its programs, and the address has the token."""
    with tempfile.TemporaryDirectory(dir=private_folder()) as folder:
        page = Path(folder) / "annotate.html"
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(address)}">')
        webbrowser.open(page.as_uri())
        yield


def token_of(folder: Path) -> str:
    """The token of a data folder's page. It is the same when the server is started again, so that a page that is still
    open can save."""
    file = private_folder() / f"{digest_of(folder)}.token"
    token = ""
    with suppress(OSError, UnicodeDecodeError):
        token = file.read_text(encoding="ascii")
    if len(token) != len(secrets.token_urlsafe(_LENGTH)):
        token = secrets.token_urlsafe(_LENGTH)
        write_text(file, token)
    return token
