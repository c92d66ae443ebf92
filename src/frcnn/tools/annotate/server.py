"""The HTTP server of the annotation page.

A request names an image by its index in the editor's list, so it cannot name any other file. An index is valid for
one list of images, whose name is part of the address, so neither the browser's cache nor an old tab can mix up two
folders. Every request needs the token of the printed address. The browser keeps it in a cookie for this server only.
"""

import hashlib
import json
import secrets
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
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frcnn.colors import class_color, contrast_color, css_color
from frcnn.data.images import UNREADABLE, image_size, open_image, read_image, stored_size, to_rgb, turn_upright
from frcnn.data.records import Annotation
from frcnn.http.address import address_of, is_loopback, listening_socket
from frcnn.http.connections import BoundedProtocol
from frcnn.http.json_response import AsciiJson
from frcnn.json_text import decode_json
from frcnn.tools.annotate.assistant import Assistant
from frcnn.tools.annotate.editing import SMALLEST, ConflictError, Editor, ImageAnnotations
from frcnn.tools.annotate.private import page_token
from frcnn.tools.annotate.review import Decision, Review
from frcnn.tools.convert import WITH_IGNORE

_PAGE = Path(__file__).parent / "page"
_THUMBNAIL = (160, 120)
_BACKLOG = 16
"""Connections that are accepted at once. With uvicorn's 2048, these alone could exhaust the file descriptors."""
_SHOWN_BY_ALL = {"JPEG", "PNG", "WEBP", "GIF", "BMP"}
"""Formats that every browser shows. Others are sent as JPEG, and so are images that some browsers would not turn."""
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
    ignore: bool
    source: str


class _Saved(msgspec.Struct):
    """The body of a request to save an annotation."""

    version: str
    objects: list[_Object] | None

    def annotations(self) -> list[Annotation] | None:
        if self.objects is None:
            return None
        return [Annotation(each.box, each.name, each.ignore, each.source) for each in self.objects]


class _DecisionBody(msgspec.Struct):
    """The body of a request that stores a decision."""

    decision: Decision | None


def serve(
    editor: Editor,
    assistant: Assistant,
    *,
    host: str,
    port: int,
    review: Review | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        editor: of the folder.
        assistant: of the same folder.
        host: address to listen on; other than loopback, anybody who knows the printed address can connect.
        port: 0: any free port.
        review: the suspects of `--review`.
        on_ready: called with the address to open in a browser.

    Raises:
        OSError: the port is taken.
    """
    with listening_socket(host, port, _BACKLOG) as listening:
        # The address of an earlier start may be known to others, if the network could reach that server.
        token = page_token(editor.folder) if is_loopback(host) else secrets.token_urlsafe(16)
        on_ready(f"{address_of(listening, host)}/?token={token}")
        config = uvicorn.Config(
            make_app(editor, assistant, token, review),
            http=BoundedProtocol,
            backlog=_BACKLOG,
            log_level="warning",
            use_colors=False,
            ws="none",
            lifespan="off",
        )
        uvicorn.Server(config).run(sockets=[listening])


def make_app(editor: Editor, assistant: Assistant, token: str, review: Review | None = None) -> Starlette:
    """The server as an ASGI application."""
    session = _page_id(editor, token, review)
    views = _Views(editor, assistant, review)
    of_session = [
        Route("/", views.page),
        Mount("/page", StaticFiles(directory=_PAGE)),
        Route("/overview", views.overview),
        Route("/color", views.color),
        Route("/annotations/{index:int}", views.read, methods=["GET"]),
        Route("/annotations/{index:int}", views.write, methods=["PUT"]),
        Route("/proposals/{index:int}", views.proposals),
        Route("/images/{index:int}", views.picture),
        Route("/thumbnails/{index:int}", views.thumbnail),
        Route("/decisions/{number:int}", views.decide, methods=["PUT"]),
        Route("/training", views.training, methods=["GET"]),
        Route("/training", views.train, methods=["POST"]),
    ]
    handlers = {
        Exception: _failed,
        HTTPException: _refused,
        msgspec.DecodeError: lambda request, error: _error(400, error),
        ValueError: lambda request, error: _error(422, error),
        OSError: lambda request, error: _error(422, error),
    }
    routes = [Mount(f"/{session}", routes=of_session)]
    guard = Middleware(_Guard, token=token, session=session)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


def _page_id(editor: Editor, token: str, review: Review | None) -> str:
    """An identifier of the folder, its images and suspects, in this order. It survives a restart, so an open page can
    still save. It changes when an image file changes, so the browser does not show an old picture."""
    images = [(str(image), image.stat().st_mtime_ns if image.is_file() else 0) for _, image in editor.images]
    suspects = [] if review is None else [suspect.key for _, suspect in review.suspects]
    content = json.dumps([token, str(editor.folder.resolve()), images, suspects])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class _Views:
    def __init__(self, editor: Editor, assistant: Assistant, review: Review | None) -> None:
        self._editor, self._assistant, self._review = editor, assistant, review
        self._busy, self._asked = threading.Lock(), 0
        self._small = lru_cache(maxsize=20_000)(self._thumbnail)

    def page(self, request: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    def overview(self, request: Request) -> Response:
        editor = self._editor
        images = zip(editor.images, editor.counts, strict=True)
        return AsciiJson(
            {
                "folder": editor.folder.resolve().name,
                "format": editor.format,
                "smallest": SMALLEST,
                "ignore": editor.format in WITH_IGNORE,
                "trains": self._assistant.can_train,
                "suspects": None if self._review is None else list(self._review.for_page()),
                "classes": editor.class_names,
                "colors": {name: _colors(name) for name in editor.class_names},
                "images": [
                    {
                        "name": _relative(image, editor.folder),
                        "split": split,
                        "count": count,
                        "broken": n in editor.broken,
                    }
                    for n, ((split, image), count) in enumerate(images)
                ],
            }
            | self._by_detector()
        )

    def color(self, request: Request) -> Response:
        return AsciiJson(_colors(request.query_params.get("name", "")))

    def read(self, request: Request) -> Response:
        index = self._index(request)
        height, width = image_size(self._editor.images[index][1])
        annotation = self._editor.read(index)
        is_new = self._editor.is_removable(index)
        return AsciiJson({"width": width, "height": height, "removable": is_new} | _plain(annotation))

    async def write(self, request: Request) -> Response:
        saved = decode_json(await request.body(), _Saved)
        return await run_in_threadpool(self._write, self._index(request), saved)

    def _write(self, index: int, saved: _Saved) -> Response:
        try:
            return AsciiJson(_plain(self._editor.write(index, saved.annotations(), saved.version)))
        except ConflictError as error:
            return _error(409, error, self._editor.read(index))

    async def decide(self, request: Request) -> Response:
        number, review = request.path_params["number"], self._review
        if review is None or number >= len(review.suspects):
            raise HTTPException(404)
        decided = decode_json(await request.body(), _DecisionBody)
        await run_in_threadpool(review.decide, number, decided.decision)
        return AsciiJson({})

    def proposals(self, request: Request) -> Response:
        if self._assistant.detector is None:
            raise HTTPException(404)
        self._asked = asked = self._asked + 1
        with self._busy:
            if asked != self._asked:
                return _error(409, ValueError("another image was asked for in the meantime"))
            detections = self._assistant.propose(self._image(request))
        return AsciiJson(
            [
                {"box": each.xyxy.round().tolist(), "name": each.class_name, "score": each.confidence}
                for each in detections
            ]
        )

    def training(self, request: Request) -> Response:
        """How the training is going, and what changes with a new detector."""
        return AsciiJson(self._assistant.training()._asdict() | self._by_detector())

    def _by_detector(self) -> dict[str, object]:
        """What changes when there is a new detector."""
        return {"proposes": self._assistant.detector is not None, "next": self._assistant.next_images}

    def train(self, request: Request) -> Response:
        if not self._assistant.can_train:
            raise HTTPException(404)
        self._assistant.start_training()
        return self.training(request)

    def picture(self, request: Request) -> Response:
        image = self._image(request)
        try:
            with open_image(image) as opened:
                form, orientation, exif = opened.format, stored_size(opened)[1], Image.Exif()
                if orientation != 1:
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
            upright = turn_upright(image)
            upright.thumbnail(_THUMBNAIL)
            return _jpeg(to_rgb(upright), quality=80)

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


class _Guard:
    """Refuses requests without the token.

    The cookie is for the session's own addresses: browsers share cookies between the ports of a computer, and another
    server on it must not get the token.
    """

    def __init__(self, app: ASGIApp, token: str, session: str) -> None:
        self._app, self._token, self._session = app, token, session
        self._cookie = f"frcnn-{hashlib.sha256(token.encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if self._is_right(request.query_params.get("token")) and request.url.path == "/":
            # Not a redirect: after a click on a page of another site, the browser would not send the cookie.
            place = f"/{self._session}/"
            welcome = HTMLResponse(f'<!doctype html><meta http-equiv="refresh" content="0; url={place}">')
            welcome.set_cookie(self._cookie, self._token, path=place, httponly=True, samesite="strict")
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


def _colors(name: str) -> list[str]:
    """The color of a class, as in all pictures, and that of text on it, as CSS writes them."""
    color = class_color(name)
    return [css_color(color), css_color(contrast_color(color))]


def _plain(annotation: ImageAnnotations) -> dict[str, object]:
    objects = None if annotation.objects is None else [each._asdict() for each in annotation.objects]
    return {"objects": objects, "version": annotation.version}


def _relative(image: Path, folder: Path) -> str:
    return (image.relative_to(folder) if image.is_relative_to(folder) else image).as_posix()


def _error(status: int, error: Exception, annotation: ImageAnnotations | None = None) -> Response:
    return AsciiJson({"error": str(error)} | ({} if annotation is None else _plain(annotation)), status)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return AsciiJson({"error": error.detail}, error.status_code)


def _failed(request: Request, error: Exception) -> Response:
    return AsciiJson({"error": f"frcnn annotate failed: {error!r}"}, 500)


def _jpeg(image: Image.Image, *, quality: int) -> Response:
    content = BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Response(content.getvalue(), media_type="image/jpeg", headers=_KEPT)
