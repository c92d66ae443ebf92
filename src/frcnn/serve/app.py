"""The service as an ASGI application: its addresses and what they answer.

Starlette, not FastAPI: bodies are bytes of images that are bounded while they arrive, and three addresses take JSON.
FastAPI would add pydantic and a second description of them, and would not shorten this file.
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from frcnn.colors import class_color
from frcnn.data.tiles import count_windows, cut_into_windows
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import Exported
from frcnn.messages import short
from frcnn.serve.batching import Batcher, BusyError, Options
from frcnn.serve.bodies import Upload, decode, json_of, read_body, read_uploads
from frcnn.serve.guard import FAILED, LOG, Guard, error
from frcnn.serve.label_studio import LabelStudio
from frcnn.serve.limits import Limits
from frcnn.serve.metrics import CONTENT_TYPE, ServiceMetrics
from frcnn.serve.model import Model, ServedModel, Source
from frcnn.serve.openapi import openapi

PAGE = Path(__file__).parent / "page"
COCO = "application/coco+json"
PICTURES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Media type -> Pillow's format of a picture with boxes."""
_ANSWERS = ("application/json", COCO, *PICTURES)
_DECODERS = 4
"""Images that are decoded at the same time."""
_PACKAGES = ("frcnn", "numpy", "pillow", "onnxruntime", "openvino", "torch")


class Query(NamedTuple):
    """The options in the address of a request."""

    threshold: float
    classes: frozenset[str] | None
    """None: all."""
    options: Options


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
        Mount("/page", StaticFiles(directory=PAGE)),
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
        ValueError: lambda request, reason: error(422, str(reason)),
    }
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=service.lifespan)
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
        self._batcher = Batcher(
            lambda: self.served.current.detector,
            limits,
            max_batch=max_batch,
            max_wait=max_wait,
            on_batch=self._count_batch,
        )
        self._label_studio = label_studio or LabelStudio()
        self._decoders = CapacityLimiter(_DECODERS)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._batcher.run()), asyncio.create_task(self.served.watch())]
        try:
            yield
        finally:
            await self._label_studio.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    # ------------------------------------------------------------------------------------------------------ prediction

    async def predict(self, request: Request) -> Response:
        self._batcher.arriving += 1
        try:
            self._batcher.require_room(1)
            accepted = _negotiate(request)
            model = self.served.current
            query = self._query(request, model)
            body = await read_body(request, self.limits)
            content = json_of(request, body)
            if isinstance(content, dict) and "tasks" in content:
                detect = partial(self._detect, query=query)
                return await self._label_studio.predict(content, model, detect, self.limits)
            uploads = await read_uploads(request, body, content, self.limits)
            if accepted in PICTURES and len(uploads.images) > 1:
                raise HTTPException(406, f"{accepted}: a picture shows one image; send one, or accept JSON.")
            images = await self._decode(uploads.images)
        finally:
            self._batcher.arriving -= 1
        results = await self._detected(images, query)
        facts = request.state.facts
        facts |= {"images": len(results), "model": model.version}
        errors = [each for each in results if isinstance(each, Exception)]
        if errors and (len(errors) == len(results) or accepted in PICTURES):
            raise errors[0]
        for each in errors:
            if not isinstance(each, ValueError):
                LOG.error("failed", extra=dict(facts), exc_info=each)
        facts["detections"] = sum(len(each) for each in results if isinstance(each, Detections))
        if accepted in PICTURES:
            return await run_in_threadpool(_picture, results[0], images[0], accepted)
        if accepted == COCO:
            return _coco(results, uploads.images)
        plain = [_plain(upload, each) for upload, each in zip(uploads.images, results, strict=True)]
        return _Json(plain if uploads.is_list else plain[0], headers={"X-Model-Version": model.version})

    async def _detect(self, uploads: Sequence[Upload], query: Query) -> list[Detections | Exception]:
        return await self._detected(await self._decode(uploads), query)

    async def _decode(self, uploads: Sequence[Upload]) -> list[Image.Image | ValueError]:
        """The images; an error for each one that cannot be read."""

        def decoded(upload: Upload) -> Image.Image | ValueError:
            try:
                return decode(upload, self.limits)
            except ValueError as reason:
                return reason

        return [await to_thread.run_sync(decoded, upload, limiter=self._decoders) for upload in uploads]

    async def _detected(self, images: Sequence[Image.Image | ValueError], query: Query) -> list[Detections | Exception]:
        images = [self._of_few_tiles(image, query.options) for image in images]
        readable = [image for image in images if isinstance(image, Image.Image)]
        found = iter(await self._batcher.predict(readable, query.options, query.threshold) if readable else [])
        results = [next(found) if isinstance(image, Image.Image) else image for image in images]
        for result in results:
            self.metrics.images.labels("error" if isinstance(result, Exception) else "ok").inc()
        results = [each if isinstance(each, Exception) else _of_classes(each, query.classes) for each in results]
        self.metrics.detections.inc(sum(len(each) for each in results if isinstance(each, Detections)))
        return results

    def _of_few_tiles(self, image: Image.Image | ValueError, options: Options) -> Image.Image | ValueError:
        """The image; an error if it would be cut into too many tiles."""
        tile = self.served.current.detector.runtime.resizing.tile if options.tile is None else options.tile
        if isinstance(image, ValueError) or not tile:
            return image
        count, limit = count_windows((image.height, image.width), tile, options.overlap), self.limits.tiles
        if count <= limit:
            return image
        return ValueError(f"tile={tile}: {count} tiles of {image.width} x {image.height} pixels; use at most {limit}")

    def _query(self, request: Request, model: Model) -> Query:
        values = request.query_params
        for name in values:
            if name not in ("threshold", "classes", "tile", "overlap"):
                raise HTTPException(400, f"{short(name)} is no option; there are threshold, classes, tile and overlap.")
        rules = model.detector.runtime.result_settings
        default = rules.predict_threshold if self._threshold is None else self._threshold
        threshold = _number(values.get("threshold", str(default)), "threshold", 0, 1)
        overlap = _number(values.get("overlap", "0.2"), "overlap", 0, 0.9)
        tile = None if "tile" not in values else int(_number(values["tile"], "tile", 0, 100_000))
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
        return _Json(
            {
                "name": model.name,
                "version": model.version,
                "sha256": model.sha256,
                "opened_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(model.opened_at)),
                "classes": detector.classes,
                "colors": {name: "#{:02x}{:02x}{:02x}".format(*class_color(name)) for name in detector.classes},
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
        return _Json({"status": "UP", "model_class": "frcnn"})  # the words are those that Label Studio reads

    async def ready(self, request: Request) -> Response:
        try:
            self._batcher.require_room(1)
        except BusyError:
            return error(503, "busy", {"Retry-After": "1"})
        return _Json({"status": "ready"})

    async def metrics_text(self, request: Request) -> Response:
        self.metrics.waiting.set(self._batcher.waiting)
        return Response(await run_in_threadpool(self.metrics.text), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return _Json(openapi(self.limits))

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def docs(self, request: Request) -> Response:
        return FileResponse(PAGE / "docs.html")

    # ---------------------------------------------------------------------------------------------------- Label Studio

    async def setup(self, request: Request) -> Response:
        content = json_of(request, await read_body(request, self.limits))
        return self._label_studio.setup(content, self.served.current)

    async def versions(self, request: Request) -> Response:
        return _Json({"versions": [self.served.current.version]})

    async def webhook(self, request: Request) -> Response:
        content = json_of(request, await read_body(request, self.limits))
        return self._label_studio.webhook(content, self.served, self.limits)

    # --------------------------------------------------------------------------------------------------------- metrics

    def _count_batch(self, images: int, seconds: float) -> None:
        self.metrics.batch_images.observe(images)
        self.metrics.batch_seconds.observe(seconds)

    def _count_reload(self, done: bool) -> None:
        self.metrics.reloads.labels("ok" if done else "error").inc()


class _Json(JSONResponse):
    """JSON in ASCII, because class names may contain invalid Unicode."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()


def _negotiate(request: Request) -> str:
    """The media type of the answer: the first one of Accept that the service has."""
    accept = request.headers.get("accept", "*/*")
    for each in accept.split(","):
        wanted = each.partition(";")[0].strip().lower()
        if wanted in ("*/*", "application/*", ""):
            return _ANSWERS[0]
        if wanted == "image/*":
            return next(iter(PICTURES))
        if wanted in _ANSWERS:
            return wanted
    raise HTTPException(406, f"Accept: {short(accept)}; the service answers with {', '.join(_ANSWERS)}.")


def _number(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise HTTPException(400, f"{name}={short(text)}: must be a number from {low:g} to {high:g}.")
    return value


def _classes(given: Sequence[str], model: Model) -> frozenset[str] | None:
    """Names, separated by commas or repeated; a name may have a comma itself."""
    known = set(model.detector.classes)
    names = [name for each in given for name in ([each] if each in known else each.split(","))]
    for name in names:
        if name not in known:
            raise HTTPException(400, f"The model has no class {short(name)}; GET /model lists its classes.")
    return frozenset(names) if given else None


def _of_classes(detections: Detections, classes: frozenset[str] | None) -> Detections:
    if classes is None or not len(detections):
        return detections
    return detections[[name in classes for name in detections.class_name.tolist()]]


def _plain(upload: Upload, result: Detections | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        reason = str(result) if isinstance(result, ValueError) else FAILED
        return {"image": upload.name, "error": reason}
    height, width = result.size or (0, 0)
    return {"image": upload.name, "width": width, "height": height, "detections": result.to_dict()["detections"]}


def _coco(results: Sequence[Detections | Exception], uploads: Sequence[Upload]) -> Response:
    """`image_id` is the name of the image, or its number in the request, from 0."""
    found = [
        entry
        for number, (result, upload) in enumerate(zip(results, uploads, strict=True))
        if isinstance(result, Detections)
        for entry in result.to_coco(number if upload.name is None else upload.name)
    ]
    return _Json(found, media_type=COCO)


def _picture(result: Detections | Exception, image: object, media_type: str) -> Response:
    assert isinstance(result, Detections)
    assert isinstance(image, Image.Image)
    content = BytesIO()
    replace(result, image=image).plot().save(content, PICTURES[media_type], quality=90)
    return Response(content.getvalue(), media_type=media_type)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _refused(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    return error(reason.status_code, reason.detail, dict(reason.headers or {}))


def _busy(request: Request, reason: Exception) -> Response:
    return error(503, "Too many images wait for the detector; try again later.", {"Retry-After": "1"})
