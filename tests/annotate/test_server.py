"""What the server tells whom, and what it refuses."""

import json
import re
import signal
import socket
import subprocess
import sys
from email.message import Message
from http.cookiejar import CookieJar
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import numpy as np
import pytest
from conftest import TOKEN, Serve
from PIL import Image
from tiny import draw_image, write_tiny

from frcnn import cli
from frcnn.types import Prediction


class Client:
    """A browser without a screen."""

    def __init__(self, address: str) -> None:
        self.root = address.partition("/?")[0]
        self.opener: OpenerDirector = build_opener(HTTPCookieProcessor(CookieJar()))
        self.opener.open(address).read()

    def get(self, path: str) -> tuple[int, Message, bytes]:
        return fetch(self.opener, Request(self.root + path))

    def json(self, path: str) -> dict:
        return json.loads(self.get(path)[2])

    def put(self, index: int, content: object) -> tuple[int, dict]:
        request = Request(f"{self.root}/api/images/{index}", json.dumps(content).encode(), method="PUT")
        status, _, answer = fetch(self.opener, request)
        return status, json.loads(answer)


def fetch(opener: OpenerDirector, request: Request) -> tuple[int, Message, bytes]:
    try:
        with opener.open(request) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    return tmp_path


BOX = {"box": [1, 2, 30, 40], "name": "cat", "difficult": False, "source": ""}


def test_only_who_has_the_token_gets_in(photos: Path, serve: Serve) -> None:
    address = serve(photos)
    root = address.partition("/?")[0]
    paths = ("/", "/?token=", "/?token=another", "/api/images", "/images/0", "/thumbnails/0", "/page/page.js")
    for path in (*paths, f"/api/images?token={TOKEN}"):
        status, _, answer = fetch(build_opener(), Request(root + path))
        assert (status, answer) == (403, b"Open the address that `frcnn annotate` printed, with its token.\n"), path
    request = Request(f"{root}/api/images/0", json.dumps({"version": "", "objects": []}).encode(), method="PUT")
    assert fetch(build_opener(), request)[0] == 403
    assert not list(photos.glob("*.tsv"))
    client = Client(address)
    for path in paths[3:]:
        assert client.get(path)[0] == 200, path


def test_the_cookie_stays_with_this_server_and_the_page_loads_nothing_else(photos: Path, serve: Serve) -> None:
    address = serve(photos)
    client = Client(address)
    cookie = next(iter(next(h.cookiejar for h in client.opener.handlers if hasattr(h, "cookiejar"))))
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "strict"
    _, headers, page = client.get("/")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert TOKEN.encode() not in page
    for file in (Path(cli.__file__).parent / "annotate" / "page").iterdir():
        assert not re.search(r"https?://", file.read_text()), file


@pytest.mark.parametrize(
    "path",
    [
        "/images/3",
        "/images/-1",
        "/images/../secret.png",
        "/images/%2e%2e%2fsecret.png",
        "/images/secret.png",
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page/%2e%2e%2fserver.py",
        "/thumbnails/99",
        "/api/images/99",
        "/api/proposals/0",
    ],
)
def test_nothing_but_the_images_of_the_folder_is_there(path: str, tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / "data" / f"{number}.png")
    draw_image([], seed=9).save(tmp_path / "secret.png")
    client = Client(serve(tmp_path / "data"))
    with socket.create_connection(("127.0.0.1", int(client.root.rpartition(":")[2]))) as connection:
        # As it is: urllib would tidy the path up.
        cookie = next(iter(next(h.cookiejar for h in client.opener.handlers if hasattr(h, "cookiejar"))))
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie.name}={cookie.value}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")


def test_an_annotation_that_names_a_file_elsewhere_shows_no_more_than_an_image(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    draw_image([], seed=0).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "all.csv").write_text("../secret.txt,1,2,30,40,cat\na.png,1,2,30,40,cat\n")
    client = Client(serve(tmp_path / "data"))
    for path in ("/images/0", "/thumbnails/0", "/api/images/0"):
        status, _, answer = client.get(path)
        assert (status, b"not an image" in answer or b"cannot identify" in answer) == (422, True)
        assert b"secret\n" not in answer


def test_what_is_read_and_written(photos: Path, serve: Serve) -> None:
    client = Client(serve(photos, class_names=("dog",)))
    listed = client.json("/api/images")
    assert (listed["folder"], listed["format"], listed["classes"]) == (photos.name, "folders", ["dog"])
    assert listed["images"][0] == {"name": "0.png", "set": "all", "count": None, "broken": False}
    image = client.json("/api/images/1")
    assert (image["width"], image["height"], image["objects"], image["can_be_taken_away"]) == (128, 96, None, True)
    status, answer = client.put(1, {"version": image["version"], "objects": [BOX]})
    assert (status, answer["objects"]) == (200, [BOX | {"box": [1.0, 2.0, 30.0, 40.0]}])
    assert (photos / "1.bboxes.tsv").read_text() == "1\t2\t30\t40\n"
    assert client.json("/api/images")["images"][1]["count"] == 1
    status, conflict = client.put(1, {"version": image["version"], "objects": []})
    assert status == 409
    assert (conflict["objects"], conflict["version"]) == (answer["objects"], answer["version"])
    status, refused = client.put(1, {"version": answer["version"], "objects": [BOX | {"box": [1, 2, 30, 400]}]})
    assert (status, "must lie inside the image" in refused["error"]) == (422, True)
    for content in ([], {"version": 1}, {"version": "", "objects": [{"box": [1, 2]}]}):
        assert client.put(1, content)[0] == 400
    assert client.json("/api/images/1")["objects"] == answer["objects"]


def test_every_kind_of_image_is_shown_the_way_up_that_boxes_are_meant(tmp_path: Path, serve: Serve) -> None:
    turned = Image.new("RGB", (40, 20))
    turned.putpixel((0, 0), (255, 255, 255))
    exif = turned.getexif()
    exif[0x0112] = 6
    for name in ("1.jpg", "2.png", "3.tif"):
        turned.save(tmp_path / name, exif=exif)
    Image.fromarray(np.full((20, 40), 40000, np.uint16)).save(tmp_path / "4.tif")
    Image.new("P", (40, 20)).save(tmp_path / "5.gif")
    client = Client(serve(tmp_path))
    kinds = []
    for index in range(5):
        _, headers, content = client.get(f"/images/{index}")
        kinds.append(headers["Content-Type"])
        small = Image.open(BytesIO(client.get(f"/thumbnails/{index}")[2]))
        assert small.format == "JPEG"
        assert small.size == ((20, 40) if index < 3 else (40, 20))
        image = client.json(f"/api/images/{index}")
        assert (image["width"], image["height"]) == small.size
        if kinds[-1] == "image/jpeg" and index:
            assert Image.open(BytesIO(content)).size == small.size
    assert kinds == ["image/jpeg", "image/jpeg", "image/jpeg", "image/jpeg", "image/gif"]
    assert (tmp_path / "1.jpg").read_bytes() == client.get("/images/0")[2]


def test_a_broken_image_says_so(photos: Path, serve: Serve) -> None:
    client = Client(serve(photos))
    (photos / "1.png").write_bytes(b"")
    (photos / "2.png").unlink()
    for path in ("/api/images/1", "/images/1", "/thumbnails/1", "/api/images/2", "/images/2", "/thumbnails/2"):
        status, _, answer = client.get(path)
        assert status == 422, path
        assert json.loads(answer)["error"], path


def test_proposals(photos: Path, serve: Serve) -> None:
    found = Prediction("", np.array([[1.2, 2, 30, 40]], np.float32), np.array([0.75], np.float32), ("cat",))
    client = Client(serve(photos, propose=lambda image: found._replace(image=str(image))))
    assert client.json("/api/images")["proposes"]
    assert client.json("/api/proposals/0") == [{"box": [1, 2, 30, 40], "name": "cat", "score": 0.75}]


# -------------------------------------------------------------------------------------------------------- the command


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    command = [sys.executable, "-u", "-m", "frcnn", "annotate", str(data), "--port", "0", "--classes", "green, red"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            assert lines[0] == f"{data}: folders, 7 of 7 images are annotated\n"
            address = lines[1].removeprefix("open ").strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", address)
            assert Client(address).json("/api/images")["classes"] == ["green", "red", "blue"]
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.endswith(f"stopped; next: frcnn check {data}\n")


def test_a_port_that_is_taken_says_so(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["annotate", str(photos), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot listen there (Address already in use); --port 0" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "frcnn.annotate.server", raising=False)
    assert cli.main(["annotate", str(photos)]) == 2
    assert "pip install 'frcnn[annotate]'" in capsys.readouterr().err
