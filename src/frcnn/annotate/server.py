"""What the page asks for, and what it saves.

An image is a number, its place in the editor's list, so no request names a file. A number means something during one
session only, whose name is in the address: neither the browser's memory nor an old tab can mix up two folders. Every
request needs the token that is in the printed address, which becomes a cookie of this server alone.
"""

import hashlib
import json
import secrets
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import msgspec
import uvicorn
from PIL import ExifTags, Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frcnn.data.convert import WITH_DIFFICULT
from frcnn.data.editing import SMALLEST, ConflictError, Editor, Sheet
from frcnn.data.images import UNREADABLE, image_size, open_image, read_image, stored_size, to_rgb, turn_upright
from frcnn.types import Annotation, Prediction

Propose = Callable[[Path], Prediction]
"""Detects objects in an image, as a start."""

_PAGE = Path(__file__).parent / "page"
_THUMBNAIL = (160, 120)
_SHOWN_BY_ALL = {"JPEG", "PNG", "WEBP", "GIF", "BMP"}
"""What every browser shows; others are sent as JPEG, as are those that not every browser turns as their tag says."""
_KEPT = {"Cache-Control": "private, max-age=3600"}
_GUARDS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Object(msgspec.Struct):
    """`Annotation` as JSON."""

    box: tuple[float, float, float, float]
    name: str
    difficult: bool
    source: str


class _Saved(msgspec.Struct):
    """What the page sends."""

    version: str
    objects: list[_Object] | None

    def annotations(self) -> list[Annotation] | None:
        if self.objects is None:
            return None
        return [Annotation(thing.box, thing.name, thing.difficult, thing.source) for thing in self.objects]


def serve(
    editor: Editor, *, host: str, port: int, propose: Propose | None = None, on_ready: Callable[[str], None]
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        host: where to listen; anything but loopback lets others in who have the address.
        port: 0 takes a free one.
        propose: what `--model` gives.
        on_ready: called with the address to open.

    Raises:
        OSError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise OSError(
                f"{host}:{port}: cannot listen there ({error.strerror}); --port 0 takes a free port"
            ) from None
        listening.listen()
        token = secrets.token_urlsafe(16)
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        on_ready(f"http://{shown}:{listening.getsockname()[1]}/?token={token}")
        config = uvicorn.Config(make_app(editor, token, propose), log_level="warning", ws="none", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])


def make_app(editor: Editor, token: str, propose: Propose | None = None) -> Starlette:
    """The server as an ASGI application."""
    session = secrets.token_hex(4)
    views = _Views(editor, propose, session)
    of_images = [
        Route("/annotations/{index:int}", views.read, methods=["GET"]),
        Route("/annotations/{index:int}", views.write, methods=["PUT"]),
        Route("/proposals/{index:int}", views.proposals),
        Route("/images/{index:int}", views.picture),
        Route("/thumbnails/{index:int}", views.thumbnail),
    ]
    routes = [
        Route("/", views.page),
        Mount("/page", StaticFiles(directory=_PAGE)),
        Route("/overview", views.overview),
        Mount(f"/{session}", routes=of_images),
    ]
    handlers = {Exception: _failed, HTTPException: _refused}
    return Starlette(routes=routes, middleware=[Middleware(_Guard, token=token)], exception_handlers=handlers)


class _Views:
    def __init__(self, editor: Editor, propose: Propose | None, session: str) -> None:
        self._editor, self._propose, self._session = editor, propose, session
        self._busy, self._asked = threading.Lock(), 0
        self._small = lru_cache(maxsize=20_000)(self._thumbnail)

    def page(self, request: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    def overview(self, request: Request) -> Response:
        editor = self._editor
        images = zip(editor.images, editor.counts, strict=True)
        return _Json(
            {
                "session": self._session,
                "folder": editor.folder.resolve().name,
                "format": editor.format,
                "smallest": SMALLEST,
                "difficult": editor.format in WITH_DIFFICULT,
                "proposes": self._propose is not None,
                "classes": editor.class_names,
                "images": [
                    {"name": _relative(image, editor.folder), "set": name, "count": count, "broken": n in editor.broken}
                    for n, ((name, image), count) in enumerate(images)
                ],
            }
        )

    def read(self, request: Request) -> Response:
        index = self._index(request)
        try:
            height, width = image_size(self._editor.images[index][1])
            sheet = self._editor.read(index)
        except (ValueError, OSError) as error:
            return _error(422, error)
        is_new = self._editor.may_be_taken_away(index)
        return _Json({"width": width, "height": height, "can_be_taken_away": is_new} | _plain(sheet))

    async def write(self, request: Request) -> Response:
        try:
            saved = msgspec.json.decode(await request.body(), type=_Saved)
        except msgspec.DecodeError as error:
            return _error(400, error)
        return await run_in_threadpool(self._write, self._index(request), saved)

    def _write(self, index: int, saved: _Saved) -> Response:
        try:
            return _Json(_plain(self._editor.write(index, saved.annotations(), saved.version)))
        except ConflictError as error:
            return _error(409, error, self._editor.read(index))
        except (ValueError, OSError) as error:
            return _error(422, error)

    def proposals(self, request: Request) -> Response:
        if self._propose is None:
            raise HTTPException(404)
        self._asked = asked = self._asked + 1
        try:
            with self._busy:
                if asked != self._asked:
                    return _error(409, ValueError("another image was asked for in the meantime"))
                found = self._propose(self._image(request))
        except (ValueError, OSError) as error:
            return _error(422, error)
        listed = zip(found.boxes.round().tolist(), found.names, found.scores.tolist(), strict=True)
        return _Json([{"box": box, "name": name, "score": score} for box, name, score in listed])

    def picture(self, request: Request) -> Response:
        image = self._image(request)
        try:
            with open_image(image) as opened:
                form, orientation, exif = opened.format, stored_size(opened)[1], Image.Exif()
                exif.load(opened.info.get("exif", b""))
            is_upright = orientation == 1 or (form == "JPEG" and exif.get(ExifTags.Base.Orientation) == orientation)
            if image.is_file() and form in _SHOWN_BY_ALL and is_upright:
                return FileResponse(image, media_type=f"image/{form.lower()}", headers=_KEPT)
            return _jpeg(read_image(image), quality=95)
        except UNREADABLE as error:
            return _error(422, error)

    def thumbnail(self, request: Request) -> Response:
        try:
            self._image(request)
            return self._small(self._index(request))
        except UNREADABLE as error:
            return _error(422, error)

    def _thumbnail(self, index: int) -> Response:
        with open_image(self._editor.images[index][1]) as image:
            image.draft("RGB", (_THUMBNAIL[0] * 2, _THUMBNAIL[1] * 2))  # JPEG: all bytes, few pixels
            turn_upright(image)
            image.thumbnail(_THUMBNAIL)
            return _jpeg(to_rgb(image), quality=80)

    def _index(self, request: Request) -> int:
        index: int = request.path_params["index"]
        if index >= len(self._editor.images):
            raise HTTPException(404)
        return index

    def _image(self, request: Request) -> Path:
        image = self._editor.images[self._index(request)][1]
        if not self._editor.is_inside(image):
            raise HTTPException(404)
        return image


class _Json(JSONResponse):
    """In ASCII, since names of files may hold what is no letter."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()


class _Guard:
    """Lets in who has the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token
        self._cookie = f"frcnn-{hashlib.sha256(token.encode()).hexdigest()[:8]}"  # cookies of all ports are one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if self._is_right(request.query_params.get("token")) and request.url.path == "/":
            # Not a redirect: after a click on another site's page, its cookie would not be sent.
            welcome = HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=/">')
            welcome.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            answer: ASGIApp = welcome
        elif self._is_right(request.cookies.get(self._cookie)):
            answer = self._app
        else:
            answer = _error(403, ValueError("Open the address that `frcnn annotate` printed, with its token."))

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_GUARDS)
            await send(message)

        await answer(scope, receive, send_guarded)

    def _is_right(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._token.encode())


def _plain(sheet: Sheet) -> dict[str, object]:
    objects = None if sheet.objects is None else [thing._asdict() for thing in sheet.objects]
    return {"objects": objects, "version": sheet.version}


def _relative(image: Path, folder: Path) -> str:
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def _error(status: int, error: Exception, sheet: Sheet | None = None) -> Response:
    return _Json({"error": str(error)} | ({} if sheet is None else _plain(sheet)), status)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _Json({"error": error.detail}, error.status_code)


def _failed(request: Request, error: Exception) -> Response:
    return _Json({"error": f"frcnn annotate failed: {error!r}"}, 500)


def _jpeg(image: Image.Image, *, quality: int) -> Response:
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Response(content.getvalue(), media_type="image/jpeg", headers=_KEPT)
