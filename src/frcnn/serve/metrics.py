"""What the service counts, as Prometheus reads it. With several worker processes, each answer has the sum over all of
them; they share a folder that the environment variable PROMETHEUS_MULTIPROC_DIR names."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ServiceMetrics:
    """Counters of one worker process."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("frcnn_requests", "Answered requests", ("path", "status"), registry=own)
        self.request_seconds = Histogram(
            "frcnn_request_seconds",
            "From the header of a request to its answer",
            ("path",),
            buckets=_SECONDS,
            registry=own,
        )
        self.images = Counter("frcnn_images", "Predicted images", ("result",), registry=own)
        self.detections = Counter("frcnn_detections", "Detections in all answers", registry=own)
        self.batch_images = Histogram(
            "frcnn_batch_images", "Images of a batch", buckets=(1, 2, 4, 8, 16, 32), registry=own
        )
        self.batch_seconds = Histogram(
            "frcnn_batch_seconds", "Time in which a batch is predicted", buckets=_SECONDS, registry=own
        )
        self.waiting = Gauge(
            "frcnn_waiting_images", "Images that wait for the detector", registry=own, multiprocess_mode="livesum"
        )
        self.reloads = Counter("frcnn_model_reloads", "Attempts to open a new model", ("result",), registry=own)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        registry = self._registry
        if SHARED_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)
