"""The service as a model of Label Studio.

The requests in label_studio.json were recorded from Label Studio 1.23.2, as were the answers of its API, which a server
of the test repeats here.
"""

import base64
import copy
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from service import BOX, TOKEN, FakeRuntime, Serve, Service, photo
from tiny import trained_run

from frcnn.cli import main
from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset
from frcnn.http import training_process
from frcnn.serve.label_studio import LabelStudio
from frcnn.serve.label_studio_client import Client
from frcnn.serve.label_studio_config import read_interface
from frcnn.serve.limits import Limits
from frcnn.serve.retraining import PlanTraining, TrainingPlan

RECORDED = json.loads((Path(__file__).parent / "label_studio.json").read_text(encoding="utf-8"))
KEY, PERSONAL = "0123456789abcdef", "head.body.sign"
SECRET = "/api/secret"
UPLOADS = ("/data/upload/2/57c37548-0.png", "/data/upload/2/9b9ec788-1.png")


class FakeLabelStudio(ThreadingHTTPServer):
    """Repeats recorded answers, and sends photos."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {path: photo(number) for number, path in enumerate(UPLOADS)}
        self.redirects: dict[str, str] = {}
        self.answers: dict[str, Any] = copy.deepcopy(RECORDED["answers"])


class _Handler(BaseHTTPRequestHandler):
    server: FakeLabelStudio

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.headers.get("Authorization") not in (f"Token {KEY}", "Bearer access-1"):
            self._send(401)
        elif self.path in self.server.redirects:
            self._send(303, location=self.server.redirects[self.path])
        elif self.path in self.server.files:
            self._send(200, self.server.files[self.path])
        elif self.path in self.server.answers:
            self._send(200, json.dumps(self.server.answers[self.path]).encode())
        else:
            self._send(404, b"secret details")

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == "/api/token/refresh/" and body == {"refresh": PERSONAL}
        self._send(200, b'{"access": "access-1"}') if known else self._send(401)

    def _send(self, status: int, content: bytes = b"", *, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if location is not None:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send(service: Service, name: str, body: Any = None, **options: Any) -> httpx.Response:
    """Send a recorded request, or another body to its address."""
    recorded = RECORDED["requests"][name]
    content = recorded["body"] if body is None else body
    text = None if content is None else json.dumps(content)
    headers = {"Content-Type": "application/json"}
    return service.client.request(recorded["method"], recorded["path"], content=text, headers=headers, **options)


def predict(service: Service, *references: object, config: str | None = None) -> list[dict[str, Any]]:
    """The answer to the recorded request, with other addresses of images."""
    body = copy.deepcopy(RECORDED["requests"]["predict"]["body"])
    body["tasks"] = [body["tasks"][0] | {"id": n, "data": {"image": each}} for n, each in enumerate(references, 1)]
    body["label_config"] = config or body["label_config"]
    answer = send(service, "predict", body)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == len(references)
    return results


def data_address(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def connected(serve: Serve, studio: FakeLabelStudio, **options: Any) -> Service:
    return serve(label_studio=LabelStudio(studio.address, KEY), **options)


# -------------------------------------------------------------------------------------------------- recorded requests


def test_health_setup_and_versions(serve: Serve) -> None:
    service = serve()
    assert send(service, "health").json() == {"status": "UP", "model_class": "frcnn"}
    assert send(service, "setup").json() == {"model_version": "0123456789ab"}
    assert send(service, "versions").json() == {"versions": ["0123456789ab"]}


def test_predictions_of_two_tasks(serve: Serve, studio: FakeLabelStudio) -> None:
    answer = send(connected(serve, studio, threshold=0.3), "predict")
    assert answer.status_code == 200
    assert answer.json()["model_version"] == "0123456789ab"
    one, two = answer.json()["results"]
    assert sorted(studio.asked) == sorted(UPLOADS)
    assert one["model_version"] == "0123456789ab"
    assert one["score"] == 0.4  # the lowest: Label Studio shows tasks of low scores first
    red, blue = one["result"]
    assert red.pop("id") != blue.pop("id")
    x1, y1, x2, y2 = BOX
    box = {
        "x": pytest.approx(x1 / 1.28, abs=1e-4),
        "y": pytest.approx(y1 / 0.96, abs=1e-4),
        "width": pytest.approx((x2 - x1) / 1.28, abs=1e-4),
        "height": pytest.approx((y2 - y1) / 0.96, abs=1e-4),
        "rotation": 0,
    }
    assert red == {
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 128,
        "original_height": 96,
        "image_rotation": 0,
        "score": 0.9,
        "value": box | {"rectanglelabels": ["Red"]},  # the project has a capital, the model has none
    }
    assert blue["value"]["rectanglelabels"] == ["blue"]
    assert [each["value"] for each in two["result"]] == [red["value"], blue["value"]]


@pytest.mark.parametrize("name", ["predict_test", "predict_interactive"])
def test_one_task_for_a_test_and_for_an_open_image(serve: Serve, studio: FakeLabelStudio, name: str) -> None:
    answer = send(connected(serve, studio), name)
    assert [len(each["result"]) for each in answer.json()["results"]] == [1]


def test_rectangles_with_labels_of_their_own_and_tasks_that_fail(
    serve: Serve, studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded: local storage, a data address, another server, cloud storage, a path upward, an address of LS."""
    body = json.loads(
        json.dumps(RECORDED["requests"]["predict_rectangle_and_labels"]["body"])
        .replace("PICTURE", base64.b64encode(photo()).decode())
        .replace("http://127.0.0.1:8090", studio.address)
    )
    studio.files["/data/local-files/?d=pics/%C3%A4%20b.png"] = photo()
    answer = send(connected(serve, studio, threshold=0.3), "predict", body).json()["results"]
    local, data, other, cloud, upward, absolute = answer
    for good in (local, data, absolute):
        rectangle, tag, _, blue = good["result"]
        assert rectangle["id"] == tag["id"]
        assert (rectangle["from_name"], rectangle["type"]) == ("rect", "rectangle")
        assert (tag["from_name"], tag["type"], tag["to_name"]) == ("tag", "labels", "img")
        assert tag["value"] == rectangle["value"] | {"labels": ["Red"]}
        assert blue["value"]["labels"] == ["blue"]  # an alias
    assert "result" not in {*other, *cloud, *upward}
    assert "another server" in other["error"]
    assert "does not find" in cloud["error"]
    assert upward["error"] == "Task 9: the address of its image is not one of a file of Label Studio."
    assert not [path for path in studio.asked if "passwd" in path]
    assert "/tasks/8/resolve/?fileuri=czM6Ly9idWNrZXQvYS5wbmc=" in studio.asked
    failed = [record for record in caplog.records if record.message == "tasks failed"]
    assert [(vars(record)["failed"], vars(record)["of"]) for record in failed] == [(3, 6)]
    assert "example.com" not in caplog.text


def test_an_event_that_is_not_a_training(serve: Serve) -> None:
    assert send(serve(), "annotation_created").json() == {"status": "ignored"}


def test_the_password_that_label_studio_sends_is_the_token(serve: Serve) -> None:
    service = serve(token=TOKEN)
    assert send(service, "setup").status_code == 401
    assert send(service, "setup", auth=("anybody", TOKEN)).status_code == 200


# ------------------------------------------------------------------------------------------------- reading of images


def test_without_a_server_only_data_addresses_are_read(serve: Serve) -> None:
    good, bad, broken, missing = predict(serve(), data_address(photo()), UPLOADS[0], "data:image/png;base64,?", None)
    assert len(good["result"]) == 1
    assert "--label-studio URL and LABEL_STUDIO_API_KEY" in bad["error"]
    assert broken["error"] == "Task 3: its image is not valid base64."
    assert missing["error"] == "Task 4: its data have no address of an image under 'image'."


@pytest.mark.parametrize(
    "reference",
    [
        "http://169.254.169.254/data/upload/1/a.png",
        "//example.com/data/upload/1/a.png",
        "https://127.0.0.1/data/upload/1/a.png",
        "ftp://127.0.0.1/data/upload/1/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "photo.png",
        "../photo.png",
        SECRET,
        "/data/upload/../../api/secret",
        "/data/upload/%2e%2e/%2e%2e/api/secret",
        "/data/upload/%252e%252e/%252e%252e/api/secret",
        "/data/upload/..\\..\\api/secret",
        "/data/local-files/../../api/secret?d=a",
        "/tasks/1/resolve/../../../api/secret",
        "/tasks/x/resolve/?fileuri=YQ==",
        "http://[",
        "http://127.0.0.1:99999999/data/upload/1/a.png",
        "/data/upload/\ud800.png",
    ],
)
def test_no_other_address_is_asked(serve: Serve, studio: FakeLabelStudio, reference: str) -> None:
    studio.answers[SECRET] = "secret"
    (result,) = predict(connected(serve, studio), reference)
    assert result["error"].startswith("Task 1: ")
    assert "result" not in result
    assert not studio.asked


def test_names_with_any_letters_are_asked_as_they_are(serve: Serve, studio: FakeLabelStudio) -> None:
    studio.files["/data/upload/2/%C3%A4%20b%0D%0Ac.png"] = photo()
    studio.files["/data/local-files/?d=a%26b/%C3%BC.png"] = photo()
    (one, two) = predict(
        connected(serve, studio),
        "/data/upload/2/ä b\r\nc.png".replace("\r\n", "%0D%0A"),
        "/data/local-files/?d=a%26b/ü.png",
    )
    assert (len(one["result"]), len(two["result"])) == (1, 1)


def test_a_redirect_is_not_followed(serve: Serve, studio: FakeLabelStudio) -> None:
    with FakeLabelStudio() as elsewhere:
        studio.redirects["/tasks/1/resolve/?fileuri=Z3M6Ly9iL2EucG5n"] = f"{elsewhere.address}/a.png"
        studio.redirects[UPLOADS[0]] = UPLOADS[1]
        cloud, local = predict(connected(serve, studio), "gs://b/a.png", UPLOADS[0])
        assert "turn off 'Use pre-signed URLs'" in cloud["error"]
        assert "redirects" in local["error"]
        assert not elsewhere.asked
        assert UPLOADS[1] not in studio.asked


def test_a_wrong_key_a_large_file_and_one_that_is_no_image(serve: Serve, studio: FakeLabelStudio) -> None:
    service = serve(label_studio=LabelStudio(studio.address, "wrong"))
    (result,) = predict(service, UPLOADS[0])
    assert result["error"].endswith("does not accept the access token in LABEL_STUDIO_API_KEY; it may be old, or of a "
                                    "type that is turned off.")  # fmt: skip
    studio.files |= {UPLOADS[0]: bytes(2 << 20), UPLOADS[1]: b"no image"}
    large, text = predict(connected(serve, studio, limits=Limits(body_bytes=1 << 20)), *UPLOADS)
    assert large["error"] == "Task 1: its image is larger than 1 MB."
    assert "not an image" in text["error"]


def test_a_server_that_does_not_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frcnn.serve.label_studio_client._SECONDS", 0.1)
    monkeypatch.setattr("frcnn.serve.label_studio_client._TOTAL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (slow,) = predict(serve(label_studio=LabelStudio(address, KEY)), UPLOADS[0])
    assert "takes too long" in slow["error"]
    (gone,) = predict(serve(label_studio=LabelStudio(address, KEY)), UPLOADS[0])
    assert "cannot be reached" in gone["error"]


def test_a_personal_access_token_is_exchanged_once(studio: FakeLabelStudio) -> None:
    client = Client(f"{studio.address}/", PERSONAL)
    assert client.file(UPLOADS[0], 1, 1 << 20) == photo(0)
    assert client.file(UPLOADS[1], 2, 1 << 20) == photo(1)
    assert studio.asked == ["/api/token/refresh/", *UPLOADS]
    with pytest.raises(ValueError, match="does not accept the access token"):
        Client(studio.address, "a.b.c").file(UPLOADS[0], 1, 1 << 20)


def test_a_server_below_a_path(studio: FakeLabelStudio) -> None:
    studio.files["/studio/data/upload/1/a.png"] = photo()
    client = Client(f"{studio.address}/studio", KEY)
    for reference in ("/data/upload/1/a.png", "/studio/data/upload/1/a.png", f"{client.address}/data/upload/1/a.png"):
        assert client.file(reference, 1, 1 << 20) == photo()


@pytest.mark.parametrize(
    "address",
    ["", "localhost:8080", "ftp://a", "http://", "http://a b", "http://u:p@a", "http://a?q", "http://a:x", "http://[a"],
)
def test_an_invalid_address_of_the_server(address: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a server"):
        Client(address, KEY)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: 1", "schlüssel"])
def test_an_invalid_key(key: str) -> None:
    with pytest.raises(ValueError, match="LABEL_STUDIO_API_KEY: is not an access token"):
        Client("http://localhost:8080", key)


# ------------------------------------------------------------------------------------------------ labeling interfaces


BOXES = '<RectangleLabels name="l" toName="i"><Label value="red"/></RectangleLabels>'
IMAGE = '<Image name="i" value="$image"/>'


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("", "no labeling interface"),
        (None, "no labeling interface"),
        ("<View>", "not valid XML"),
        ("\ud800", "not valid XML"),
        (f"<View>{BOXES}</View>", "needs <Image>"),
        (f"<View>{IMAGE}</View>", "<RectangleLabels>"),
        (f'<View>{IMAGE}<RectangleLabels name="l" toName="i"/></View>', "<Label>"),
        (f'<View>{IMAGE}<Labels name="l" toName="i"><Label value="red"/></Labels></View>', "<Rectangle>"),
        (f'<View><Image name="i" value="x"/>{BOXES}</View>', r'value="\$NAME"'),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "<!DOCTYPE>"),
        ("<a>" * 100 + "</a>" * 100, "nests more than"),
        ("<View>" + " " * (1 << 20) + "</View>", "characters"),
    ],
)
def test_labeling_interfaces_without_boxes(serve: Serve, config: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_interface(config)
    service = serve()
    assert send(service, "setup", {"schema": config}).status_code == 422
    assert send(service, "predict", {"tasks": [], "label_config": config}).status_code == 422


def test_a_name_in_the_same_capitals_comes_first() -> None:
    labels = '<Label value="RED"/><Label value="red"/><Label value="Sky" alias="blue"/>'
    interface = read_interface(f'<View>{IMAGE}<RectangleLabels name="l" toName="i">{labels}</RectangleLabels></View>')
    assert [label and label.value for label in map(interface.label_of, ("red", "RED", "Red", "blue", "sky", "x"))] == [
        *("red", "RED", "RED", "blue", "blue"),
        None,
    ]


def test_labels_in_two_tags_of_which_one_is_of_another_image() -> None:
    config = (
        f'<View><Image name="other" value="$b"/>{IMAGE}<Text name="t" value="$t"/>{BOXES}'
        f'<RectangleLabels name="m" toName="i"><View><Label value="blue"/></View></RectangleLabels>'
        f'<Labels name="n" toName="t"><Label value="noun"/></Labels></View>'
    )
    interface = read_interface(config)
    assert (interface.image, interface.key) == ("i", "image")
    assert {name: label.control for name, label in interface.labels.items()} == {"red": "l", "blue": "m"}


def test_classes_without_a_label_are_left_out_and_counted(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    config = f"<View>{IMAGE}{BOXES}</View>"
    service = serve(threshold=0.3)
    (result,) = predict(service, data_address(photo()), config=config)
    assert [each["value"]["rectanglelabels"] for each in result["result"]] == [["red"]]
    assert result["score"] == 0.9
    assert [vars(record)["left_out"] for record in caplog.records if "left_out" in vars(record)] == [{"blue": 1}]
    for _ in range(2):
        assert send(service, "setup", {"schema": config}).status_code == 200
    assert [vars(record)["classes"] for record in caplog.records if "classes" in vars(record)] == ["['blue']"]


def test_an_image_without_objects_has_no_score(serve: Serve) -> None:
    (result,) = predict(serve(threshold=0.95), data_address(photo()))
    assert result == {"result": [], "score": None, "model_version": "0123456789ab"}


# ------------------------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("predict", {"tasks": 3}, 400),
        ("predict", {"tasks": [3]}, 400),
        ("predict", {"tasks": [{}] * 10_001}, 413),
        ("setup", [], 400),
        ("annotation_created", [], 400),
        ("annotation_created", {"action": 3}, 400),
        ("start_training", None, 403),
    ],
)
def test_bad_requests(serve: Serve, name: str, body: Any, status: int) -> None:
    answer = send(serve(), name, body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_odd_tasks_are_answered(serve: Serve, studio: FakeLabelStudio) -> None:
    body = RECORDED["requests"]["predict"]["body"] | {
        "tasks": [{}, {"data": []}, {"data": {"image": {}}}, {"id": "x", "data": {"image": "s3://a/b.png"}}]
    }
    answer = send(connected(serve, studio), "predict", body)
    assert [list(each) for each in answer.json()["results"]] == [["error", "model_version"]] * 4


def test_a_detector_that_fails_says_nothing_of_itself(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail(batch: object) -> None:
        raise RuntimeError("private")

    (result,) = predict(serve(FakeRuntime(fail)), data_address(photo()))
    assert result["error"] == "Task 1: the service failed; its log has the reason."
    assert "private" in caplog.text


def test_what_does_not_fit_into_the_time_is_left_for_the_next_request(serve: Serve) -> None:
    service = serve(FakeRuntime(lambda batch: time.sleep(0.3)), limits=Limits(request_seconds=1.0))
    results = predict(service, *[data_address(photo(number)) for number in range(20)])
    assert "result" in results[0]
    assert "no time left" in results[-1]["error"]


# --------------------------------------------------------------------------------------------------------- retraining


def copying(folder: Path, source: Path) -> PlanTraining:
    """Plans trainings that copy a run directory."""

    def plan(project: int) -> TrainingPlan:
        run_dir = folder / "run"
        code = "import shutil, sys; print('a, step 1/2: loss, 3 s left'); shutil.copytree(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(source), str(run_dir)]
        return TrainingPlan(folder / f"data-{project}", command, run_dir)

    return plan


def running(folder: Path, code: str) -> PlanTraining:
    """Plans trainings that run a program in a folder."""
    command = [sys.executable, "-c", f"import os; os.chdir({str(folder)!r})\n{code}"]
    return lambda project: TrainingPlan(folder / "data", command, folder / "run")


def ended(service: Service) -> dict[str, Any]:
    """What the service says about the training when it has ended, and about its model."""
    deadline = time.monotonic() + 60
    while (model := service.client.get("/model").json())["training"]["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return model


def test_a_training_on_a_project_is_served_when_it_ends(
    serve: Serve, studio: FakeLabelStudio, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "frcnn.serve")
    train = copying(tmp_path, trained_run())
    service = serve(label_studio=LabelStudio(studio.address, KEY, train))
    assert service.client.get("/model").json()["training"] == {"state": "idle", "message": ""}
    answer = send(service, "start_training")
    assert (answer.status_code, answer.json()) == (201, {"status": "training"})
    model = ended(service)
    assert model["training"] == {
        "state": "done",
        "message": "The training has finished; run is served.",
    }
    assert model["name"] == tmp_path.name  # of a folder "run", that of the folder above
    assert model["version"] != "0123456789ab"
    assert send(service, "setup").json() == {"model_version": model["version"]}
    records = open_dataset(tmp_path / "data-2", DataSettings(), ("train",)).records("train")
    objects = {
        (name, *map(round, box))
        for record in records
        for name, box in zip(record.class_names, record.boxes.tolist(), strict=True)
    }
    assert objects == {
        ("Red", 6, 8, 46, 52),
        ("blue", 54, 46, 94, 78),
        ("Red", 10, 14, 50, 58),
        ("blue", 58, 43, 98, 75),
    }


def test_images_stay_for_the_next_training_unless_their_task_is_gone(
    serve: Serve, studio: FakeLabelStudio, tmp_path: Path
) -> None:
    export = "/api/projects/2/export?exportType=JSON"
    service = serve(label_studio=LabelStudio(studio.address, KEY, copying(tmp_path, tmp_path / "none")))
    send(service, "start_training")
    assert ended(service)["training"]["state"] == "failed"
    names = sorted(file.name for file in (tmp_path / "data-2" / "images").iterdir())
    assert [Path(name).suffix for name in names] == [".png", ".png"]
    studio.asked.clear()
    del studio.answers[export][0]
    send(service, "start_training")
    ended(service)
    assert studio.asked == ["/api/projects/2/", export]
    assert len(list((tmp_path / "data-2" / "images").iterdir())) == 1


def test_one_training_at_a_time_which_ends_with_the_service(serve: Serve, studio: FakeLabelStudio, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    started: list[subprocess.Popen[str]] = []
    start = training_process.start
    monkeypatch.setattr(training_process, "start", lambda command: started.append(start(command)) or started[0])
    service = serve(label_studio=LabelStudio(studio.address, KEY, running(tmp_path, "import time; time.sleep(600)")))
    send(service, "start_training")
    answer = send(service, "start_training")
    assert answer.status_code == 409
    assert "A training is running already" in answer.json()["error"]
    deadline = time.monotonic() + 30
    while not started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert started[0].poll() is None
    service.stop()
    service.thread.join(20)
    assert started[0].poll() is not None


def test_a_service_stops_while_label_studio_does_not_answer(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        service = serve(label_studio=LabelStudio(address, KEY, running(tmp_path, "")))
        send(service, "start_training")
        begin = time.monotonic()
        service.stop()
        service.thread.join(20)
        assert time.monotonic() - begin < 5


def test_a_training_that_fails_leaves_the_old_model(
    serve: Serve,
    studio: FakeLabelStudio,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    label_studio = LabelStudio(studio.address, KEY, running(tmp_path, "print('no memory'); raise SystemExit(3)"))
    service = serve(label_studio=label_studio)
    send(service, "start_training")
    model = ended(service)
    assert model["training"] == {
        "state": "failed",
        "message": "The training failed, and the old model stays: the log has the reason",
    }
    assert model["version"] == "0123456789ab"
    assert [vars(each)["error"] for each in caplog.records if each.message == "training failed"] == ["no memory"]


@pytest.mark.parametrize("code", ["", "import os; os.mkdir('run')"])
def test_a_training_that_writes_no_model_leaves_the_old_one(
    serve: Serve, studio: FakeLabelStudio, tmp_path: Path, code: str
) -> None:
    service = serve(label_studio=LabelStudio(studio.address, KEY, running(tmp_path, code)))
    send(service, "start_training")
    model = ended(service)
    assert model["training"]["state"] == "failed"
    assert "cannot be opened" in model["training"]["message"]
    assert model["version"] == "0123456789ab"


def test_projects_that_cannot_be_trained_on(serve: Serve, studio: FakeLabelStudio, tmp_path: Path) -> None:
    service = serve(label_studio=LabelStudio(studio.address, KEY, running(tmp_path, "")))

    def why(project: object) -> str:
        answer = send(service, "start_training", {"action": "START_TRAINING", "project": {"id": project}})
        return ended(service)["training"]["message"] if answer.status_code == 201 else str(answer.status_code)

    assert why("2/../../secret") == why(True) == why(-1) == why(None) == "400"
    assert "project 7: " in why(7)
    assert "does not find it" in why(7)
    studio.answers["/api/projects/2/"]["label_config"] = "<View/>"
    assert "no labels for boxes" in why(2)
    studio.answers["/api/projects/2/"] = copy.deepcopy(RECORDED["answers"]["/api/projects/2/"])
    studio.files.clear()
    assert "none of 2 images can be read: task 1: its image: " in why(2)
    studio.answers["/api/projects/2/export?exportType=JSON"] = []
    assert "no annotated tasks" in why(2)
    studio.answers["/api/projects/2/export?exportType=JSON"] = [3]
    assert "not a list of tasks" in why(2)


def test_only_some_images_can_be_read(serve: Serve, studio: FakeLabelStudio, tmp_path: Path,
                                      caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    studio.answers["/api/projects/2/export?exportType=JSON"][0]["data"] = {"image": data_address(photo())}
    studio.files[UPLOADS[1]] = b"no image"
    service = serve(label_studio=LabelStudio(studio.address, KEY, copying(tmp_path, trained_run())))
    send(service, "start_training")
    assert ended(service)["training"]["state"] == "done"
    left_out = [vars(each) for each in caplog.records if each.message == "images are left out"]
    assert [(each["left_out"], each["of"]) for each in left_out] == [(1, 2)]
    assert len(list((tmp_path / "data-2" / "images").iterdir())) == 1


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--label-studio", "http://localhost:8080"], "set LABEL_STUDIO_API_KEY"),
        (["--retrain"], "add --label-studio URL"),
        (["--retrain-config", "a.yaml"], "only with --retrain"),
    ],
)
def test_options_that_do_not_fit(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    assert main(["serve", "model.onnx", *options]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--label-studio", "localhost"], "is not the address of a server"),
        (["--retrain", "--workers", "2"], "leave out --workers"),
        (["--retrain"], "model.onnx is not a run directory"),
        (["--retrain", "--retrain-config", "none.yaml"], "there is no file none.yaml"),
    ],
)
def test_options_of_a_training_that_do_not_fit(
    options: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", KEY)
    model = str(tmp_path) if "none.yaml" in options else "model.onnx"
    assert main(["serve", model, "--label-studio", "http://localhost:8080", *options]) == 2
    assert why in capsys.readouterr().err


def test_the_command_trains_and_serves(studio: FakeLabelStudio, tmp_path: Path) -> None:
    """The real command, with a real training of one epoch."""
    config = tmp_path / "config.yaml"
    config.write_text((trained_run() / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    options = ["--port", "0", "--label-studio", studio.address, "--retrain", "--retrain-config", str(config)]
    process = subprocess.Popen(
        [sys.executable, "-m", "frcnn", "serve", str(trained_run()), *options],
        cwd=tmp_path,
        env={**os.environ, "LABEL_STUDIO_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            address = next(line.split()[1] for line in process.stdout if line.startswith("open "))
            with httpx.Client(base_url=address, timeout=30) as client:
                service = Service(address, client, threading.current_thread(), lambda: None)
                assert send(service, "start_training").status_code == 201
                model = ended(service)
            assert model["training"]["state"] == "done", model["training"]["message"]
            assert model["classes"] == ["Red", "blue"]
            assert model["name"] == "label-studio-2"
        finally:
            process.send_signal(signal.SIGTERM)
    assert (tmp_path / "runs" / "label-studio-2" / "model.safetensors").is_file()
