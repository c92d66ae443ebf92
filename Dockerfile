# `frcnn serve` for CPUs: ONNX Runtime, without PyTorch.
#
#     docker build --tag frcnn .
#     docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --publish 8000:8000 \
#         --env FRCNN_TOKEN --volume "$PWD/runs/photos:/model:ro" frcnn
#
# The folder has an exported model: `frcnn export runs/photos` writes runs/photos/model.onnx. Other options:
# `docker run ... frcnn /model/model-int8.onnx --workers 4`. tests/serve/test_container.py runs these steps.

FROM python:3.13-slim AS build
WORKDIR /build
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="frcnn" \
      org.opencontainers.image.description="Faster R-CNN as an HTTP service, on ONNX Runtime" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /build/constraints.txt /wheels/
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt \
        onnxruntime numpy pillow starlette uvicorn h11 python-multipart prometheus-client \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
# Nothing is written but in /tmp, so that the root file system can be read-only.
ENV HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Other computers can reach it, so it does not start without a token: FRCNN_TOKEN has it.
ENTRYPOINT ["frcnn", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/model/model.onnx"]
