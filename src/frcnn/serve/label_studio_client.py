"""Requests to the one Label Studio server that the operator has named. No other address is opened, whatever a task
says, and no redirect is followed."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from frcnn.json_text import load_json
from frcnn.messages import clipped, short

KEY = "LABEL_STUDIO_API_KEY"
"""Environment variable with the API key."""
_SECONDS = 10.0
"""Until the server sends something."""
_TOTAL_SECONDS = 10.0
"""Until a file is complete."""
_EXPORT_SECONDS = 600.0
"""Also until it begins: Label Studio first collects a whole project."""
_MAX_EXPORT = 1 << 30
_MAX_ANSWER = 1 << 20
_ACCESS_SECONDS = 240
"""An access token lives 5 minutes."""
_BLOCK = 1 << 16
_FILES = re.compile(
    r"/(data/upload/.+|data/local-files/|storage-data/.+|(tasks|projects)/\d{1,18}/(resolve|presign)/)", re.ASCII | re.S
)
"""Paths of Label Studio that give files."""
_CLOUD = frozenset({"s3", "gs", "azure-blob"})
_PORTS = {"http": 80, "https": 443}


class Client:
    """Sends requests to a Label Studio server.

    Args:
        url: of the server, e.g. "http://localhost:8080".
        key: an access token of a user, the long personal one or the short "legacy" one.

    Raises:
        ValueError: the address or the key is invalid.
    """

    def __init__(self, url: str, key: str) -> None:
        self._parts = _server(url)
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(f"{KEY}: is not an access token; copy it from Account & Settings in Label Studio")
        self._key = key
        self._access, self._access_until = "", 0.0
        self._lock = threading.Lock()
        self._opener = OpenerDirector()
        for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
            self._opener.add_handler(handler())  # no handler of redirects, files or FTP

    @property
    def address(self) -> str:
        """Of the server, without a slash at the end."""
        return f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"

    def file(self, reference: str, task: object, max_bytes: int) -> bytes:
        """The file that a task refers to.

        Args:
            reference: as the data of a task have it: a path on the server, an address of the server, or one of cloud
                storage, which the server then gets.
            task: its number.

        Raises:
            ValueError: the file is not on the server, or cannot be got. The message has no address of a file, because
                it is logged.
        """
        return self._get(self._path_of(reference, task), "its image", max_bytes, _TOTAL_SECONDS)

    def project(self, number: int) -> dict[str, Any]:
        """Facts about a project.

        Raises:
            ValueError: the server refuses, or cannot be reached.
        """
        project = self._json(f"/api/projects/{number:d}/", f"project {number}", _MAX_ANSWER, _TOTAL_SECONDS)
        if not isinstance(project, dict):
            raise ValueError(f"project {number}: the answer of Label Studio is not an object")
        return project

    def export(self, number: int) -> list[dict[str, Any]]:
        """The annotated tasks of a project.

        Raises:
            ValueError: the server refuses, or cannot be reached.
        """
        path = f"/api/projects/{number:d}/export?exportType=JSON"
        tasks = self._json(path, f"the export of project {number}", _MAX_EXPORT, _EXPORT_SECONDS)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError(f"the export of project {number}: the answer of Label Studio is not a list of tasks")
        return tasks

    # ---------------------------------------------------------------------------------------------------------- paths

    def _path_of(self, reference: str, task: object) -> str:
        try:
            parts = urlsplit(reference)
            origin = _origin(parts) if parts.netloc else None
        except ValueError:
            raise ValueError("its image has an invalid address") from None
        if parts.scheme in _CLOUD:
            if not isinstance(task, int):
                raise ValueError(
                    "its image is in cloud storage, and the task has no number by which Label Studio finds it"
                )
            encoded = base64.urlsafe_b64encode(reference.encode()).decode()
            return f"/tasks/{task:d}/resolve/?fileuri={encoded}"
        if (parts.scheme or parts.netloc) and origin != _origin(self._parts):
            raise ValueError(
                f"its image is on another server, and images are only read from Label Studio ({self.address}); "
                f"upload the image to Label Studio, or connect its storage there"
            )
        path = (
            parts.path.removeprefix(self._parts.path) if parts.path.startswith(f"{self._parts.path}/") else parts.path
        )
        if not _FILES.fullmatch(path) or {"..", "."} & set(re.split(r"[/\\]", unquote(unquote(path)))):
            raise ValueError("the address of its image is not one of a file of Label Studio")
        query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
        return f"{quote(path, safe=_SAFE)}{query}"

    # -------------------------------------------------------------------------------------------------------- requests

    def _json(self, path: str, what: str, max_bytes: int, seconds: float) -> Any:
        content = self._get(path, what, max_bytes, seconds)
        try:
            return load_json(content)
        except ValueError:  # UnicodeDecodeError included
            raise ValueError(f"{what}: the answer of Label Studio is not JSON") from None

    def _get(self, path: str, what: str, max_bytes: int, seconds: float) -> bytes:
        with self._explained(what):
            return self._read(Request(self.address + path, headers=self._headers()), max_bytes, seconds)

    def _read(self, request: Request, max_bytes: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        response: HTTPResponse
        with self._opener.open(request, timeout=max(_SECONDS, seconds / 2)) as response:
            content = bytearray()
            while block := response.read1(_BLOCK):
                content += block
                if len(content) > max_bytes:
                    raise _TooLargeError(f"is larger than {max_bytes >> 20} MB")
                if time.monotonic() > deadline:
                    raise TimeoutError
            if response.length:
                raise HTTPException
            return bytes(content)

    def _headers(self) -> dict[str, str]:
        if self._key.count(".") != 2:  # the short key
            return {"Authorization": f"Token {self._key}"}
        with self._lock:
            if time.monotonic() > self._access_until:
                body = json.dumps({"refresh": self._key}).encode()
                headers = {"Content-Type": "application/json"}
                request = Request(f"{self.address}/api/token/refresh/", body, headers, method="POST")
                access = load_json(self._read(request, _MAX_ANSWER, _TOTAL_SECONDS)).get("access")
                if not isinstance(access, str) or not access.isascii() or not access.isprintable():
                    raise HTTPException
                self._access, self._access_until = access, time.monotonic() + _ACCESS_SECONDS
            return {"Authorization": f"Bearer {self._access}"}

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Errors as sentences, without anything that the server sent."""
        where = f"Label Studio ({self.address})"
        try:
            yield
        except _TooLargeError as error:
            raise ValueError(f"{what} {error}") from None
        except HTTPError as error:
            error.close()
            raise ValueError(f"{what}: {where} {_reason(error.code)}") from None
        except TimeoutError:
            raise ValueError(f"{what}: {where} takes too long to answer") from None
        except URLError as error:
            reason = "takes too long to answer" if isinstance(error.reason, TimeoutError) else "cannot be reached"
            raise ValueError(f"{what}: {where} {reason} ({clipped(str(error.reason))})") from None
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            raise ValueError(f"{what}: the answer of {where} is broken ({type(error).__name__})") from None


class _TooLargeError(Exception):
    pass


_SAFE = "/%:@!$&'()*+,;=~?"
"""Characters of addresses that stay; those that are encoded already stay encoded."""


def _server(url: str) -> SplitResult:
    rule = f"{short(url)} is not the address of a server, such as http://localhost:8080"
    try:
        parts = urlsplit(url.rstrip("/"))
        scheme, host, port = _origin(parts)
    except ValueError:
        raise ValueError(rule) from None
    if scheme not in _PORTS or not host or not port or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(rule)
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(rule)
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port. ValueError: the port is no number."""
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _reason(status: int) -> str:
    if status == 401:
        return f"does not accept the access token in {KEY}; it may be old, or of a type that is turned off"
    if status == 403:
        return f"refuses; the user of the access token in {KEY} may not see this"
    if status == 404:
        return "does not find it"
    if 300 <= status < 400:
        return (
            "redirects to another address, which is not followed. For cloud storage, turn off 'Use pre-signed URLs' in "
            "the settings of the storage, so that Label Studio sends the files itself"
        )
    return f"answers with status {status}"
