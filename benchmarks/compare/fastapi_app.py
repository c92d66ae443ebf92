"""The simplest service of the same model, as many write it with FastAPI, for comparison.

FRCNN_MODEL=model.onnx uvicorn --factory compare.fastapi_app:make_app
"""

import os
from typing import Any

import frcnn


def make_app() -> Any:
    """A FastAPI application. FastAPI and python-multipart must be installed: pip install fastapi."""
    from fastapi import FastAPI, UploadFile

    app = FastAPI()
    detector = frcnn.load(os.environ["FRCNN_MODEL"])

    def predict(image: UploadFile) -> list[dict[str, Any]]:
        return detector.predict(image.file.read()).to_dict()["detections"]

    app.post("/predict")(predict)  # as a decorator it is not typed where FastAPI is not installed
    return app
