"""The service as an ASGI application: its addresses and what they answer.

Starlette, not FastAPI: bodies are bytes of images that are bounded while they arrive, and three addresses take JSON.
FastAPI would add pydantic and a second description of them, and would not shorten this file.
"""

from __future__ import annotations

import asyncio
import platform
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from frcnn.colors import class_color, css_color
from frcnn.data.tiles import MAX_OVERLAP, OVERLAP, cut_into_windows
from frcnn.http.json_response import AsciiJson
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Exported
from frcnn.messages import short
from frcnn.serve.batching import Options
from frcnn.serve.bodies import ImageError, Upload, is_json, json_of, read_body, read_uploads
from frcnn.serve.budget import BusyError, TooMuchError
from frcnn.serve.guard import FAILED, LOG, Guard, error
from frcnn.serve.label_studio import LabelStudio
from frcnn.serve.limits import Limits
from frcnn.serve.metrics import CONTENT_TYPE, ServiceMetrics
from frcnn.serve.model import Model, ServedModel, Source
from frcnn.serve.openapi import openapi
from frcnn.serve.prediction import Prediction, Query, unless_gone

_PAGE = Path(__file__).parent / "page"
COCO = "application/coco+json"
PICTURES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media type -> Pillow's format of a picture with boxes."""
_ANSWERS = ("application/json", COCO, *PICTURES)
_OPTIONS = ("threshold", "classes", "tile", "overlap")
_PACKAGES = ("frcnn", "numpy", "pillow", "onnxruntime", "openvino", "torch")


def make_app(
    source: Source,
    model: Model,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    max_batch: int = 8,
    max_wait: float = 0.005,
    threshold: float | None = None,
    label_studio: LabelStudio | None = None,
) -> Starlette:
    """The service of a model.

    Args:
        source: where the model can be opened again.
        max_wait: seconds that a batch waits for requests that are arriving.
        threshold: confidence threshold of requests that name none; None: the model's.
        label_studio: the connection to Label Studio.
    """
    service = _Service(source, model, limits or Limits(), max_batch, max_wait, threshold, label_studio)
    routes = [
        Route("/", service.page),
        Route("/docs", service.docs),
        *(Route(f"/page/{file.name}", partial(_file, file)) for file in sorted(_PAGE.iterdir())),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/model", service.model),
        Route("/health", service.health),
        Route("/ready", service.ready),
        Route("/metrics", service.metrics_text),
        Route("/openapi.json", service.openapi),
        Route("/setup", service.setup, methods=["POST"]),
        Route("/webhook", service.webhook, methods=["POST"]),
        Route("/versions", service.versions),
    ]
    paths = frozenset(route.path for route in routes if isinstance(route, Route))
    guard = Middleware(
        Guard, token=token, limits=service.limits, metrics=service.metrics, paths=paths, open_paths=_needs_no_token
    )
    handlers = {
        HTTPException: _refused,
        BusyError: _busy,
        TooMuchError: lambda request, reason: error(413, "The images of the request need too much memory; send fewer."),
    }
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=service.lifespan)
    app.router.redirect_slashes = False  # a redirect would repeat the Host that the client sent
    app.state.served = service.served
    return app


def _needs_no_token(path: str) -> bool:
    """The pages have no content without the token."""
    return path in ("/", "/docs", "/openapi.json", "/health", "/ready") or path.startswith("/page/")


class _Service:
    def __init__(
        self,
        source: Source,
        model: Model,
        limits: Limits,
        max_batch: int,
        max_wait: float,
        threshold: float | None,
        label_studio: LabelStudio | None,
    ) -> None:
        self.limits, self._threshold = limits, threshold
        self.metrics = ServiceMetrics()
        self.served = ServedModel(source, model, self._count_reload)
        self._prediction = Prediction(limits, self.metrics, max_batch=max_batch, max_wait=max_wait)
        self._label_studio = label_studio or LabelStudio()

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._prediction.run()), asyncio.create_task(self.served.watch())]
        for task in tasks:
            task.add_done_callback(_stop_after_failure)
        try:
            yield
        finally:
            await self._label_studio.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    # ------------------------------------------------------------------------------------------------------ prediction

    async def predict(self, request: Request) -> Response:
        with self._prediction.budget.request() as memory:
            model, facts = self.served.current, request.state.facts
            with self._prediction.arriving():
                self._prediction.require_room()
                accepted, query = _negotiate(request), self._query(request, model)
                body = await read_body(request, self.limits, memory)
                content = await run_in_threadpool(json_of, body) if is_json(request) else None
                tasks = content if isinstance(content, dict) and "tasks" in content else None  # of Label Studio
                if tasks is None:
                    uploads = await read_uploads(request, body, content, self.limits)
                    if accepted in PICTURES and len(uploads.images) > 1:
                        raise HTTPException(406, f"{accepted}: a picture shows one image; send one, or accept JSON.")
                    images = await self._prediction.decode(uploads.images, model, query, memory)
            if tasks is not None:
                detect = partial(self._detect, model=model, query=query)
                return await self._label_studio.predict(tasks, model, detect, self.limits)
            results = await unless_gone(request, self._prediction.detect(images, model, query))
            facts |= {"images": len(results), "model": model.version}
            facts["detections"] = sum(len(each) for each in results if isinstance(each, Detections))
            texts = [explained(each, facts) if isinstance(each, Exception) else None for each in results]
            errors = [each for each in results if isinstance(each, Exception)]
            if errors and (len(errors) == len(results) or accepted != _ANSWERS[0]):
                text = next(text for text in texts if text is not None)
                return error(500 if text == FAILED else 422, text)
            version = {"X-Model-Version": model.version}
            if accepted in PICTURES:
                picture = await run_in_threadpool(_picture, results[0], accepted)
                return Response(picture, media_type=accepted, headers=version)
            if accepted == COCO:
                return AsciiJson(_coco(results, uploads.images), media_type=COCO, headers=version)
            plain = [_plain(*each) for each in zip(uploads.images, results, texts, strict=True)]
            return AsciiJson(plain if uploads.is_list else plain[0], headers=version)

    async def _detect(self, uploads: Sequence[Upload], model: Model, query: Query) -> list[Detections | Exception]:
        """For Label Studio, some images of a request at a time."""
        self._prediction.require_room()
        with self._prediction.budget.request() as memory:
            images = await self._prediction.decode(uploads, model, query, memory)
            return await self._prediction.detect(images, model, query)

    def _query(self, request: Request, model: Model) -> Query:
        values = request.query_params
        for name in values:
            if name not in _OPTIONS:
                raise HTTPException(400, f"Unknown option {short(name)}; the options are {', '.join(_OPTIONS)}.")
        rules = model.detector.runtime.result_settings
        default = rules.predict_threshold if self._threshold is None else self._threshold
        threshold = _number(values.get("threshold", str(default)), "threshold", 0, 1)
        overlap = _number(values.get("overlap", str(OVERLAP)), "overlap", 0, MAX_OVERLAP)
        tile = None if "tile" not in values else _whole_number(values["tile"], "tile", 100_000)
        if tile:
            try:
                cut_into_windows((1, 1), tile, overlap)
            except ValueError as reason:
                raise HTTPException(400, str(reason)) from None
        return Query(threshold, _classes(values.getlist("classes"), model), Options(tile, overlap))

    # ----------------------------------------------------------------------------------------------------- description

    async def model(self, request: Request) -> Response:
        model = self.served.current
        detector, runtime = model.detector, model.detector.runtime
        description = runtime.description if isinstance(runtime, Exported) else None
        return AsciiJson(
            {
                "name": model.name,
                "version": model.version,
                "sha256": model.sha256,
                "opened_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(model.opened_at)),
                "classes": detector.classes,
                "colors": {name: css_color(class_color(name)) for name in detector.classes},
                "threshold": runtime.result_settings.predict_threshold if self._threshold is None else self._threshold,
                "nms_threshold": runtime.result_settings.nms_threshold,
                "max_detections": runtime.result_settings.max_detections,
                "input": runtime.resizing._asdict(),
                "precision": None if description is None else description.precision,
                "versions": _versions(),
                "training": self._label_studio.training(),
                "limits": {
                    "body_bytes": self.limits.body_bytes,
                    "pixels": self.limits.pixels,
                    "images": self.limits.images,
                },
            }
        )

    async def health(self, request: Request) -> Response:
        return AsciiJson({"status": "UP", "model_class": "frcnn"})  # the words are those that Label Studio reads

    async def ready(self, request: Request) -> Response:
        try:
            self._prediction.require_room()
        except BusyError:
            return error(503, "busy", {"Retry-After": "1"})
        return AsciiJson({"status": "ready"})

    async def metrics_text(self, request: Request) -> Response:
        return Response(await run_in_threadpool(self.metrics.text), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return AsciiJson(openapi(self.limits))

    async def page(self, request: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    async def docs(self, request: Request) -> Response:
        return FileResponse(_PAGE / "docs.html")

    # ---------------------------------------------------------------------------------------------------- Label Studio

    async def setup(self, request: Request) -> Response:
        return self._label_studio.setup(await self._json(request), self.served.current)

    async def versions(self, request: Request) -> Response:
        return AsciiJson({"versions": [self.served.current.version]})

    async def webhook(self, request: Request) -> Response:
        return self._label_studio.webhook(await self._json(request), self.served, self.limits)

    async def _json(self, request: Request) -> Any:
        with self._prediction.budget.request() as memory:
            body = await read_body(request, self.limits, memory)
            return await run_in_threadpool(json_of, body) if is_json(request) else None

    def _count_reload(self, done: bool) -> None:
        self.metrics.reloads.labels("ok" if done else "error").inc()


def _negotiate(request: Request) -> str:
    """The media type of the answer: of those that the client accepts, the one that it prefers."""
    accept = request.headers.get("accept", "*/*")
    wanted: list[tuple[float, str]] = []
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        text = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        with suppress(ValueError):
            wanted.append((float(text), kind))
    for quality, kind in sorted(wanted, key=lambda each: -each[0]):
        if not quality > 0:
            continue
        if kind in ("*/*", "application/*"):
            return _ANSWERS[0]
        if kind == "image/*":
            return next(iter(PICTURES))
        if kind in _ANSWERS:
            return kind
    raise HTTPException(406, f"Accept: {short(accept)}; the service answers with {', '.join(_ANSWERS)}.")


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise HTTPException(400, f"{name}={short(text)}: must be a number from {low:g} to {high:g}.")
    return value


def _whole_number(text: str, name: str, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:10]) <= high):
        raise HTTPException(400, f"{name}={short(text)}: must be a whole number from 0 to {high}.")
    return int(text)


def _classes(given: Sequence[str], model: Model) -> frozenset[str] | None:
    """Names, separated by commas or repeated; a name may have a comma itself."""
    known = set(model.detector.classes)
    names = [name for each in given for name in ([each] if each in known else each.split(","))]
    for name in names:
        if name not in known:
            raise HTTPException(400, f"The model has no class {short(name)}; GET /model lists its classes.")
    return frozenset(names) if given else None


def explained(reason: Exception, facts: Mapping[str, Any]) -> str:
    """An error for the client. What the client cannot know is logged."""
    if isinstance(reason, ImageError):
        return str(reason)
    LOG.error("failed", extra=dict(facts), exc_info=reason)
    if isinstance(reason, ValueError | OSError):
        return "The detector cannot predict this image; it may be too small or too long. The log has the reason."
    return FAILED


def _plain(upload: Upload, result: Detections | Exception, text: str | None) -> dict[str, Any]:
    if not isinstance(result, Detections):
        return {"image": upload.name, "error": text}
    height, width = result.size or (0, 0)
    return {"image": upload.name, "width": width, "height": height, "detections": result.to_dict()["detections"]}


def _coco(results: Sequence[Detections | Exception], uploads: Sequence[Upload]) -> list[dict[str, Any]]:
    """`image_id` is the name of the image; if names are missing or not unique, its number in the request, from 0."""
    names = [upload.name for upload in uploads]
    has_names = None not in names and len(set(names)) == len(names)
    return [
        entry
        for number, (result, name) in enumerate(zip(results, names, strict=True))
        if isinstance(result, Detections)
        for entry in result.to_coco(name if has_names and name is not None else number)
    ]


def _picture(result: Detections | Exception, media_type: str) -> bytes:
    assert isinstance(result, Detections)
    content = BytesIO()
    result.plot().save(content, PICTURES[media_type], quality=90)
    return content.getvalue()


async def _file(file: Path, request: Request) -> Response:
    return FileResponse(file)


def _stop_after_failure(task: asyncio.Task[None]) -> None:
    """Without this task, no request would be answered: end the process, so that another one can take its place."""
    if not task.cancelled() and task.exception() is not None:
        LOG.critical("the service stops after a failure", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _refused(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    text = reason.detail
    if reason.status_code == 404:
        text = "There is nothing at this URL; GET /docs lists what there is."
    elif reason.status_code == 405:
        text = f"Use another method: {(reason.headers or {}).get('Allow', 'GET')}."
    return error(reason.status_code, text, dict(reason.headers or {}))


def _busy(request: Request, reason: Exception) -> Response:
    return error(503, "Too many images wait for the detector; try again later.", {"Retry-After": "1"})
