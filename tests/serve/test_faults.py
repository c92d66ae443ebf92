"""Processes that die, models that change, clients that leave or are slow: the service goes on."""

import atexit
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from service import TOKEN, FakeRuntime, Serve, Service, photo
from tiny import trained_run

from frcnn.data.transforms import PaddedBatch
from frcnn.serve.guard import FAILED
from frcnn.serve.limits import Limits
from frcnn.serve.model import Model, Source
from frcnn.serve.server import Settings, _run_worker

BEARER = {"authorization": f"Bearer {TOKEN}"}


def metrics_of(client: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, values of labels) -> value."""
    families = text_string_to_metric_families(client.get("/metrics", headers=BEARER).raise_for_status().text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, tuple(sample.labels.values())): sample.value for sample in samples}


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------------------- clients


@contextmanager
def connected(service: "Service | Command") -> Iterator[socket.socket]:
    where = urlsplit(service.address)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        yield connection


def head(length: int, *lines: str) -> bytes:
    fields = ["POST /predict HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *lines]
    return "\r\n".join([*fields, "", ""]).encode()


def ended(connection: socket.socket) -> bytes:
    """What the service sends until it closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while block := connection.recv(1 << 16):
            received += block
    return received


def drip(connection: socket.socket, content: bytes) -> float:
    """Send a byte at a time until the service has enough. Returns seconds."""
    start = time.monotonic()
    with suppress(ConnectionError):
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.recv(1, socket.MSG_PEEK)  # an answer, or the end
                break
            connection.settimeout(10)
    connection.settimeout(10)
    return time.monotonic() - start


def json_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log. Python itself may complain about semaphores of a process that was killed."""
    return [json.loads(line) for line in text.splitlines() if "resource_tracker" not in line]


def answered(service: Service) -> bool:
    return service.client.post("/predict", content=photo()).status_code == 200


def test_clients_that_leave(serve: Serve) -> None:
    service = serve(FakeRuntime(lambda batch: time.sleep(0.1)), max_batch=1)
    for _ in range(20):
        with connected(service) as connection:
            connection.sendall(head(100_000) + photo()[:100])  # in the middle of the body
        with connected(service) as connection:
            connection.sendall(head(len(photo())) + photo())  # before the answer
    assert answered(service)
    assert metrics_of(service.client)["frcnn_requests_total", ("/predict", "499")] == 40
    assert ("frcnn_requests_total", ("/predict", "500")) not in metrics_of(service.client)


def test_slow_senders(serve: Serve) -> None:
    service = serve(limits=Limits(header_seconds=0.5, body_seconds=0.5))
    with connected(service) as connection:
        assert 0.4 < drip(connection, b"POST /predict HTTP/1.1\r\n" + b"X: a\r\n" * 1000) < 2
        assert ended(connection) == b""
    with connected(service) as connection:
        connection.sendall(head(100_000))
        assert 0.4 < drip(connection, bytes(1000)) < 2
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    with connected(service) as connection:  # the second request of a connection is no better
        connection.sendall(head(len(photo())) + photo())
        received = b""
        while not received.endswith(b"}"):
            received += connection.recv(10_000)
        assert 0.4 < drip(connection, b"POST /predict HTTP/1.1\r\n" + b"X: a\r\n" * 1000) < 2
        assert ended(connection) == b""
    assert answered(service)


def test_slow_readers(serve: Serve) -> None:
    service = serve(limits=Limits(read_seconds=0.5))
    content = np.random.default_rng(0).integers(0, 255, (1600, 1600, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(content).save(file, "PNG", compress_level=0)
    body = file.getvalue()
    with connected(service) as one, connected(service) as other:
        for connection in (one, other):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head(len(body), "Accept: image/png") + body)
        assert answered(service)
        process = psutil.Process()
        files = process.num_fds()
        wait_until(lambda: process.num_fds() <= files - 2)  # they were given up


def test_a_thousand_idle_connections(serve: Serve) -> None:
    service = serve(limits=Limits(connections=50))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    where = urlsplit(service.address)
    before = psutil.Process().num_fds()
    idle = [socket.create_connection((where.hostname, where.port), timeout=10) for _ in range(1000)]
    try:
        for _ in range(5):
            assert httpx.post(f"{service.address}/predict", content=photo()).status_code == 200
        assert psutil.Process().num_fds() < before + 1000 + 60  # 1,000 of this client
    finally:
        for connection in idle:
            connection.close()
    assert answered(service)


def test_busy_connections_are_not_closed_for_new_ones(serve: Serve) -> None:
    release = threading.Event()
    service = serve(FakeRuntime(lambda batch: bool(release.wait(10))), limits=Limits(connections=3))
    with connected(service) as one, connected(service) as two, connected(service) as three:
        for connection in (one, two, three):
            connection.sendall(head(len(photo()), "Connection: close") + photo())
        time.sleep(0.3)
        with connected(service) as fourth:
            assert ended(fourth) == b""
        release.set()
        assert all(ended(connection).startswith(b"HTTP/1.1 200 ") for connection in (one, two, three))


# -------------------------------------------------------------------------------------------------------------- limits


def test_a_full_queue(serve: Serve) -> None:
    release = threading.Event()
    service = serve(FakeRuntime(lambda batch: bool(release.wait(10))), limits=Limits(waiting=2), max_batch=1)
    assert service.client.get("/ready").status_code == 200
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(httpx.post(f"{service.address}/predict", content=photo()).status_code)
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: metrics_of(service.client)["frcnn_waiting_images", ()] == 2)
    for answer in (service.client.post("/predict", content=photo()), service.client.get("/ready")):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert list(answer.json()) == ["error"]
    assert service.client.get("/health").status_code == 200
    release.set()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 3
    assert answered(service)


def test_a_detector_that_hangs(serve: Serve) -> None:
    release = threading.Event()
    service = serve(FakeRuntime(lambda batch: bool(release.wait(10))), limits=Limits(request_seconds=0.5))
    answer = service.client.post("/predict", content=photo())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json() == {"error": "The answer took longer than 0.5 s; try again later."}
    release.set()
    assert answered(service)


@pytest.mark.parametrize("failure", [RuntimeError("at /secret/path"), MemoryError("at /secret/path")])
def test_a_failure_concerns_one_image(failure: Exception, serve: Serve) -> None:
    def fail(batch: PaddedBatch) -> None:
        if batch.images.mean(axis=(1, 2, 3)).max() > 200:
            raise failure

    white = Image.new("RGB", (128, 96), "white")
    content = BytesIO()
    white.save(content, "PNG")
    service = serve(FakeRuntime(fail))
    good, bad = ("image", ("good", photo())), ("image", ("bad", content.getvalue()))
    first, second, third = service.client.post("/predict", files=[good, bad, good]).json()
    assert len(first["detections"]) == len(third["detections"]) == 1
    assert second == {"image": "bad", "error": FAILED}
    answer = service.client.post("/predict", content=content.getvalue())
    assert (answer.status_code, answer.json()) == (500, {"error": FAILED})
    assert answered(service)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a-b_c.1", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("\u00e9", False),
        ('"}', False),
    ],
)
def test_request_identifiers(given: str, kept: bool, serve: Serve) -> None:
    header = {"x-request-id": given.encode("latin-1")}
    answer = serve().client.get("/health", headers=header).headers["x-request-id"]
    assert (answer == given) == kept
    assert re.fullmatch(r"[\w.-]{1,64}", answer, re.ASCII)


# ----------------------------------------------------------------------------------------------------------- processes


class Command(NamedTuple):
    """A running `frcnn serve`."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, headers=BEARER)

    def workers(self) -> list[psutil.Process]:
        """In the order of their start."""
        children = psutil.Process(self.process.pid).children()
        found = [each for each in children if "spawn_main" in " ".join(each.cmdline())]
        return sorted(found, key=lambda each: each.create_time())

    def lines(self) -> list[dict[str, object]]:
        return json_lines(self.log.read_text())

    def events(self, name: str) -> list[dict[str, object]]:
        return [line for line in self.lines() if line["event"] == name]


def command_of(model: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "frcnn", "serve", str(model), *options]


@contextmanager
def running(model: Path, log: Path, *options: str) -> Iterator[Command]:
    environment = os.environ | {"FRCNN_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command_of(model, "--port", "0", *options),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            shown = [process.stdout.readline() for _ in range(3)]
            found = re.search(r"http://\S+", shown[1])
            assert found is not None, log.read_text()
            yield Command(process, found.group(), log)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run directory, and model.safetensors of another one: its scores are different."""
    folder = tmp_path_factory.mktemp("models")
    run = Path(shutil.copytree(trained_run(), folder / "run"))
    file, other = run / "model.safetensors", folder / "other.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("logits.bias"))
    weights[name] = weights[name] + 0.1
    save_file(weights, other, metadata)
    return run, other


@pytest.fixture(scope="module")
def pair(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Two workers. The tests below use it in their order; the last one stops it."""
    with running(models[0], tmp_path_factory.mktemp("log") / "log", "--workers", "2") as command:
        yield command


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_metrics_are_the_sum_over_all_workers(pair: Command) -> None:
    for number in range(40):  # each connection goes to any of the workers
        with pair.client() as client:
            client.get("/model").raise_for_status()
            if number % 2:
                client.post("/predict", content=photo()).raise_for_status()
    with pair.client() as client:
        found = metrics_of(client)
    assert found["frcnn_requests_total", ("/model", "200")] == 40
    assert found["frcnn_requests_total", ("/predict", "200")] == 20
    assert found["frcnn_request_seconds_count", ("/predict",)] == 20
    assert found["frcnn_images_total", ("ok",)] == 20
    assert found["frcnn_batch_images_sum", ()] == 20


def test_workers_share_the_cores(pair: Command) -> None:
    wait_until(lambda: len(pair.workers()) == 2)
    cores = [set(worker.cpu_affinity()) for worker in pair.workers()]
    own = os.sched_getaffinity(0)
    assert cores[0] | cores[1] == own
    assert len(own) < 2 or not cores[0] & cores[1]


def test_a_killed_worker_is_replaced(pair: Command) -> None:
    wait_until(lambda: len(pair.events("worker ready")) == 2, 60)
    first, second = pair.workers()
    first.kill()
    for _ in range(30):
        for attempt in (1, 2):
            try:
                with pair.client() as client:
                    assert client.post("/predict", content=photo()).status_code == 200
                break
            except httpx.TransportError:  # it was accepted by the worker that died
                assert attempt == 1
    wait_until(lambda: len(pair.workers()) == 2)
    assert second.pid in [worker.pid for worker in pair.workers()]
    assert pair.events("worker died")[0]["status"] == -signal.SIGKILL
    wait_until(lambda: len(pair.events("worker started")) == 3)
    wait_until(lambda: len(pair.events("worker ready")) == 3, 60)


def versions_of(command: Command) -> set[str]:
    """Of both workers, very probably."""
    found = set()
    for _ in range(8):
        with command.client() as client:
            found.add(client.get("/model").raise_for_status().json()["version"])
    return found


@contextmanager
def under_load(command: Command, clients: int = 4) -> Iterator[list[str]]:
    """Gives a list of failures."""
    failures: list[str] = []
    stop = threading.Event()
    counts = [0] * clients

    def send(number: int) -> None:
        with command.client() as client:
            while not stop.is_set():
                try:
                    answer = client.post("/predict", content=photo())
                    if answer.status_code != 200:
                        failures.append(answer.text)
                    counts[number] += 1
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield failures
        wait_until(lambda: min(counts) > 5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_new_model_is_loaded_without_a_failed_request(pair: Command, models: tuple[Path, Path]) -> None:
    run, other = models
    file = run / "model.safetensors"
    old = file.read_bytes()
    wait_until(lambda: len(pair.events("worker ready")) == len(pair.events("worker started")), 60)
    (before,) = versions_of(pair)
    with under_load(pair) as failures:
        shutil.copy(other, run / "new")
        (run / "new").rename(file)  # it is seen
        wait_until(lambda: len(reloaded(pair)) == 2, 60)
        (after,) = set(reloaded(pair))
        assert versions_of(pair) == {after}
        file.write_bytes(old)  # in place
        pair.process.send_signal(signal.SIGHUP)
        wait_until(lambda: reloaded(pair).count(before) >= 2, 60)
        assert versions_of(pair) == {before}
        time.sleep(3)  # it is also seen, and loaded once more at most
    assert failures == []
    assert after != before
    assert set(reloaded(pair)) == {before, after}


def reloaded(command: Command) -> list[str]:
    """The versions, one for each worker that loads one. Not all workers may answer, so their log is asked."""
    return [str(line["version"]) for line in command.events("reloaded")]


def test_a_damaged_model_is_not_loaded(pair: Command, models: tuple[Path, Path]) -> None:
    file = models[0] / "model.safetensors"
    old, before = file.read_bytes(), versions_of(pair)
    said = "the new model cannot be opened, the old one stays"
    with under_load(pair) as failures:
        file.write_bytes(old[: len(old) // 2])
        pair.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(pair.events(said)) >= 2, 60)
    assert failures == []
    assert versions_of(pair) == before
    with pair.client() as client:
        assert metrics_of(client)["frcnn_model_reloads_total", ("error",)] >= 2
    file.write_bytes(old)


def test_its_log_is_json_without_secrets(pair: Command) -> None:
    with pair.client() as client:
        client.post("/predict", files={"image": ("secret name.png", photo())}, headers={"x-request-id": "here"})
        client.post("/predict", content=b"secret text", headers={"content-type": "multipart/form-data; boundary=a"})
        client.get("/nothing", headers={"authorization": "Bearer secret-token"})
    with connected(pair) as connection:
        connection.sendall(b"\0nothing\r\n\r\n")
        ended(connection)
    requests = pair.events("request")
    assert "here" in {line["id"] for line in requests}
    assert all(re.fullmatch(r"[\w.-]{1,64}", str(line["id"])) for line in requests)
    assert {line["level"] for line in pair.lines()} <= {"info", "warning", "error"}
    text = pair.log.read_text()
    assert TOKEN not in text
    assert "secret" not in text
    assert "/predict" in text
    assert str(Path(__file__).parent) not in text


def test_the_token_is_needed(pair: Command) -> None:
    basic = b64encode(f"user:{TOKEN}".encode()).decode()
    for header, status in (
        ({}, 401),
        ({"authorization": "Bearer wrong-token"}, 401),
        ({"authorization": f"Basic {basic[8:]}"}, 401),
        (BEARER, 200),
        ({"authorization": f"Basic {basic}"}, 200),
    ):
        assert httpx.post(f"{pair.address}/predict", content=photo(), headers=header).status_code == status
    assert httpx.get(f"{pair.address}/health").status_code == 200


def test_sigterm_finishes_running_requests(pair: Command) -> None:
    wait_until(lambda: len(pair.workers()) == 2)
    children = psutil.Process(pair.process.pid).children(recursive=True)
    large = np.random.default_rng(0).integers(0, 60, (1100, 1100, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(large).save(content, "JPEG")
    statuses: list[int] = []
    sent = threading.Barrier(4)

    def body() -> Iterator[bytes]:
        yield content.getvalue()
        sent.wait(30)

    def send() -> None:
        with pair.client() as client:
            statuses.append(client.post("/predict?tile=130", content=body()).status_code)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    sent.wait(30)
    time.sleep(0.3)
    assert statuses == []  # they are running
    pair.process.terminate()
    time.sleep(0.5)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{pair.address}/health", timeout=5)
    for thread in threads:
        thread.join()
    assert statuses == [200] * 3
    assert pair.process.wait(20) == 0
    wait_until(lambda: not any(map(lives, children)), 5)  # also the helper of multiprocessing
    assert pair.process.stdout is not None
    assert pair.process.stdout.read() == "stopped\n"
    *_, last = (line for line in pair.log.read_text().splitlines() if line.startswith("{"))
    assert json.loads(last)["level"] == "info"  # then Python may say that a killed worker left semaphores


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    with running(trained_run(), tmp_path / "log", "--workers", "2") as command:
        with command.client() as client:
            assert client.post("/predict", content=photo()).status_code == 200
        wait_until(lambda: len(command.workers()) == 2)
        children = psutil.Process(command.process.pid).children(recursive=True)
        command.process.kill()
        command.process.wait()
        wait_until(lambda: not any(map(lives, children)))


class NoModel(Source):
    def open(self) -> Model:
        atexit.register(signal.raise_signal, signal.SIGTERM)
        raise ValueError("no model")


def test_worker_that_is_ended_twice_says_nothing_more(capfd: pytest.CaptureFixture[str]) -> None:
    """The supervisor ends all workers when one cannot open the model, also those that exit already."""
    context = multiprocessing.get_context("spawn")
    said, saying = context.Pipe(duplex=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = (Settings(NoModel("none")), listening, None, "", saying)
        worker = context.Process(target=_run_worker, args=arguments)
        worker.start()
        worker.join(60)
    assert worker.exitcode == 2
    assert str(said.recv()) == "no model"
    (line,) = json_lines(capfd.readouterr().err)
    assert line["error"] == "no model"


def test_what_cannot_be_served(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases: list[tuple[Path, Sequence[str], str]] = [
            (trained_run(), ("--port", str(port)), rf"{port}: cannot listen there \(Address already in use\)"),
            (
                trained_run(),
                ("--host", "0.0.0.0", "--port", "0"),
                r"others can reach .* FRCNN_TOKEN=\S{16,} frcnn serve \S+",
            ),
            (trained_run(), ("--token", "short", "--port", "0"), "--token: must have at least 8"),
            (tmp_path / "bad.onnx", ("--port", "0"), "bad.onnx"),
            (tmp_path / "none", ("--port", "0", "--workers", "2"), "none"),
        ]
        environment = {name: value for name, value in os.environ.items() if name != "FRCNN_TOKEN"}
        processes = [
            subprocess.Popen(
                command_of(model, *options),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for model, options, _ in cases
        ]
        for process, (_, _, message) in zip(processes, cases, strict=True):
            out, text = process.communicate(timeout=60)
            assert process.returncode == 2, text
            assert out == ""
            lines = [line for line in text.splitlines() if line.startswith("frcnn: error: ")]
            assert len(lines) == 1
            assert re.search(message, lines[0]), text
            json_lines(text.replace(f"{lines[0]}\n", ""))  # workers log their start
