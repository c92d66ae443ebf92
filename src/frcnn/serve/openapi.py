"""The description of the service in OpenAPI 3.1."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from frcnn.data.tiles import MAX_OVERLAP, OVERLAP
from frcnn.serve.limits import Limits

_BOX = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 4,
    "maxItems": 4,
    "description": "x1, y1, x2, y2 in pixels of the image, after its EXIF orientation is applied",
}
_SCHEMAS: dict[str, Any] = {
    "Detection": {
        "type": "object",
        "required": ["class", "score", "box"],
        "properties": {
            "class": {"type": "string"},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "box": _BOX,
        },
    },
    "Image": {
        "type": "object",
        "required": ["image"],
        "properties": {
            "image": {"type": ["string", "null"], "description": "the name of the file in a multipart body"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "detections": {"type": "array", "items": {"$ref": "#/components/schemas/Detection"}},
            "error": {"type": "string", "description": "instead of detections: why the image cannot be predicted"},
        },
    },
    "CocoResult": {
        "type": "object",
        "properties": {
            "image_id": {"type": ["string", "integer"]},
            "category_id": {"type": "integer", "description": "1: the first class of GET /model"},
            "bbox": {**_BOX, "description": "x, y, width, height in pixels"},
            "score": {"type": "number"},
        },
    },
    "Model": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "of its file or folder, without the path"},
            "version": {"type": "string", "description": "the start of sha256"},
            "sha256": {"type": "string", "description": "of the file"},
            "opened_at": {"type": "string", "format": "date-time"},
            "classes": {"type": "array", "items": {"type": "string"}},
            "colors": {"type": "object", "description": "class -> color in pictures, as CSS writes it"},
            "threshold": {"type": "number", "description": "of requests that name none"},
            "nms_threshold": {"type": "number"},
            "max_detections": {"type": "integer", "description": "in an image"},
            "input": {"type": "object", "description": "how an image is resized"},
            "precision": {"type": ["string", "null"], "description": "of an exported file"},
            "versions": {"type": "object", "description": "package -> version"},
            "limits": {"type": "object", "description": "bytes and images of a request, pixels of an image"},
            "training": {"type": ["object", "null"], "description": "how a training for Label Studio is going"},
        },
    },
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
}


def openapi(limits: Limits) -> dict[str, Any]:
    """The document of GET /openapi.json."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "frcnn serve",
            "version": version("frcnn"),
            "description": "Detects objects in images. If the service has a token, each request but those of /health, "
            "/ready and the pages needs the header `Authorization: Bearer TOKEN`.",
        },
        "paths": {
            "/predict": {"post": _predict(limits)},
            "/model": {"get": _model()},
            "/health": {"get": _get("Whether the process answers")},
            "/ready": {"get": _get("Whether it takes another image; 503: not now")},
            "/metrics": {"get": _get("Counters and times, as Prometheus reads them", "text/plain")},
            "/openapi.json": {"get": _get("This document")},
            "/setup": {"post": _label_studio("Label Studio connects a project")},
            "/webhook": {"post": _label_studio("Label Studio reports an event of a project")},
            "/versions": {"get": _get("The version of the model, for Label Studio")},
        },
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "the token is the password"},
            },
        },
        "security": [{"bearer": []}, {"basic": []}, {}],
    }


def _predict(limits: Limits) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    text = {"type": "string", "description": "the bytes of an image file in base64, also as a data URL"}
    image, images = {"$ref": "#/components/schemas/Image"}, {"type": "array", "items": _ref("Image")}
    return {
        "summary": "Detect objects",
        "description": f"One image gives one object, several give a list. The answer has the header X-Model-Version. "
        f"A JSON body with `tasks` is one of Label Studio. At most {limits.body_bytes >> 20} MB, "
        f"{limits.images} images, and {limits.pixels / 1e6:g} million pixels an image.",
        "parameters": [
            _parameter("threshold", "least score of a detection", {"type": "number", "minimum": 0, "maximum": 1}),
            _parameter("classes", "names separated by commas; others are left out", {"type": "string"}),
            _parameter("tile", "side of a tile in pixels, to find small objects; 0: none", {"type": "integer"}),
            _parameter(
                "overlap",
                "fraction that tiles share",
                {"type": "number", "minimum": 0, "maximum": MAX_OVERLAP, "default": OVERLAP},
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/*": {"schema": binary},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"image": {"type": "array", "items": binary}},
                    }
                },
                "application/json": {
                    "schema": {
                        "oneOf": [
                            {"type": "object", "required": ["image"], "properties": {"image": text}},
                            {
                                "type": "object",
                                "required": ["images"],
                                "properties": {"images": {"type": "array", "items": text}},
                            },
                        ]
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "Detections, highest score first",
                "content": {
                    "application/json": {"schema": {"oneOf": [image, images]}},
                    "application/coco+json": {"schema": {"type": "array", "items": _ref("CocoResult")}},
                    **{f"image/{kind}": {"schema": binary} for kind in ("jpeg", "png", "webp")},
                },
            },
            **{
                status: {"description": text, "content": {"application/json": {"schema": _ref("Error")}}}
                for status, text in {
                    "400": "The request is wrong",
                    "401": "The token is missing or wrong",
                    "403": "The request comes from a page of another site, or the Host is not localhost",
                    "406": "No answer of the accepted types",
                    "408": "The body came too slowly",
                    "413": "Too many bytes or images",
                    "422": "No image can be predicted",
                    "429": "Too many requests of this client",
                    "500": "The service failed",
                    "503": "The service is busy; the header Retry-After says when to try again",
                }.items()
            },
        },
    }


def _model() -> dict[str, Any]:
    about = "Classes, input size, threshold and versions of the model"
    content = {"application/json": {"schema": _ref("Model")}}
    return {"summary": about, "responses": {"200": {"description": about, "content": content}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(name: str, about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": schema}


def _get(about: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"summary": about, "responses": {"200": {"description": about, "content": {media_type: {}}}}}


def _label_studio(about: str) -> dict[str, Any]:
    return {
        "summary": about,
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {"200": {"description": about, "content": {"application/json": {}}}},
    }
