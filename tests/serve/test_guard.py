"""Rates, logs and the address."""

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from service import TOKEN, FakeRuntime, Serve, photo

from frcnn.data.transforms import PaddedBatch
from frcnn.http.address import is_loopback
from frcnn.serve.guard import RateLimit
from frcnn.serve.limits import Limits
from frcnn.serve.log import JsonLines


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("frcnn.serve")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def lines(log: io.StringIO, count: int) -> list[dict[str, Any]]:
    """What was logged; a request is logged after its answer."""
    deadline = time.monotonic() + 5
    while log.getvalue().count("\n") < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_the_rate_of_each_client_is_limited() -> None:
    rate = RateLimit(2)
    assert [rate.wait("a", 0.0) for _ in range(3)] == [0, 0, 0.5]
    assert rate.wait("b", 0.0) == 0
    assert rate.wait("a", 0.25) == pytest.approx(0.25)
    assert rate.wait("a", 0.5) == 0
    assert [rate.wait("a", 100.0) for _ in range(3)] == [0, 0, 0.5]  # at most a burst of one second


def test_a_slow_rate_allows_one_request() -> None:
    rate = RateLimit(0.1)
    assert [rate.wait("a", now) for now in (0.0, 0.0, 10.0)] == [0, 10, 0]


def test_the_clients_that_are_remembered_are_bounded() -> None:
    rate = RateLimit(1)
    for number in range(20_000):
        rate.wait(str(number), 0.0)
    assert len(rate._buckets) == 10_000


def test_too_many_requests(serve: Serve) -> None:
    client = serve(limits=Limits(rate=1)).client
    answers = [client.post("/predict", content=photo()) for _ in range(3)]
    refused = [each for each in answers if each.status_code == 429]
    assert answers[0].status_code == 200
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200


def test_the_log_has_no_token_and_no_content(serve: Serve, log: io.StringIO) -> None:
    client = serve(token=TOKEN).client
    header = {"authorization": f"Bearer {TOKEN}", "x-request-id": "request-7"}
    client.post("/predict?threshold=0.3", files={"image": ("secret name.png", photo())}, headers=header)
    client.get("/a%0Ab", headers=header)
    first, second = lines(log, 2)
    assert (
        first.items()
        >= {
            "event": "request",
            "id": "request-7",
            "method": "POST",
            "path": "/predict",
            "status": 200,
            "images": 1,
            "detections": 2,
            "model": "0123456789ab",
            "client": "127.0.0.1",
        }.items()
    )
    assert (second["path"], second["status"]) == ("/a\nb", 404)
    assert TOKEN not in log.getvalue()
    assert "secret name" not in log.getvalue()


def test_a_failure_is_logged_with_its_traceback(serve: Serve, log: io.StringIO) -> None:
    def fail(batch: PaddedBatch) -> None:
        raise RuntimeError("a bug")

    serve(FakeRuntime(fail)).client.post("/predict", content=photo(), headers={"x-request-id": "x"})
    failure, request = lines(log, 2)
    assert (failure["event"], failure["id"]) == ("failed", "x")
    assert failure["traceback"].endswith("RuntimeError: a bug\n")
    assert (request["status"], request["id"]) == (500, "x")


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_is_loopback(host: str, is_local: bool) -> None:
    assert is_loopback(host) == is_local
