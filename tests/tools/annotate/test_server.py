"""What the server tells whom, and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from email.message import Message
from http.cookiejar import CookieJar
from io import BytesIO
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from serving import TOKEN, Serve
from tiny import detections_of, draw_image, write_tiny

import frcnn
from frcnn.cli import main
from frcnn.config import DataSettings
from frcnn.http.connections import BoundedProtocol
from frcnn.inference.results import Detections
from frcnn.tools.annotate.editing import Editor
from frcnn.tools.annotate.private import folder_key, open_page, page_token, private_folder


class Client:
    """A browser without a screen."""

    def __init__(self, address: str) -> None:
        self.root = address.partition("/?")[0]
        self.opener: OpenerDirector = build_opener(HTTPCookieProcessor(CookieJar()))
        welcome = self.opener.open(address).read().decode()
        self.session = re.findall(r"url=(/\w+)/", welcome)[0]
        self.overview = json.loads(self.get("/overview")[2])

    def of(self, kind: str, index: int) -> str:
        """The path of what belongs to an image."""
        return f"{self.session}/{kind}/{index}"

    def get(self, path: str) -> tuple[int, Message, bytes]:
        place = path if path.startswith(self.session) else self.session + path
        return fetch(self.opener, Request(self.root + place))

    def json(self, path: str) -> dict:
        return json.loads(self.get(path)[2])

    def put(self, index: int, content: object) -> tuple[int, dict]:
        request = Request(self.root + self.of("annotations", index), json.dumps(content).encode(), method="PUT")
        status, _, answer = fetch(self.opener, request)
        return status, json.loads(answer)


def fetch(opener: OpenerDirector, request: Request) -> tuple[int, Message, bytes]:
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    return tmp_path


BOX = {"box": [1, 2, 30, 40], "name": "cat", "ignore": False, "source": ""}


def test_only_who_has_the_token_gets_in(photos: Path, serve: Serve) -> None:
    address = serve(photos)
    client = Client(address)
    inner = [client.of(kind, 0) for kind in ("annotations", "images", "thumbnails")]
    paths = ("/", "/?token=", "/?token=another", "/overview", "/color?name=cat", "/page/page.js", *inner)
    for path in (*paths, f"/overview?token={TOKEN}"):
        status, _, answer = fetch(build_opener(), Request(client.root + path))
        assert (status, b"Open the address that `frcnn annotate` printed" in answer) == (403, True), path
    request = Request(client.root + inner[0], json.dumps({"version": "", "objects": []}).encode(), method="PUT")
    assert fetch(build_opener(), request)[0] == 403
    assert not list(photos.glob("*.tsv"))
    for path in paths[3:]:
        assert client.get(path)[0] == 200, path


def test_an_old_tab_cannot_write_into_the_folder_of_another_session(tmp_path: Path, serve: Serve) -> None:
    clients = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        draw_image([], seed=0).save(folder / "1.png")
        clients.append(Client(serve(folder)))
    one, other = clients
    sheets = [client.json(client.of("annotations", 0)) for client in clients]
    assert sheets[0]["version"] != sheets[1]["version"]
    other.session = one.session
    assert other.put(0, {"version": sheets[1]["version"], "objects": []})[0] == 403
    assert not list(tmp_path.rglob("*.tsv"))
    assert one.of("images", 0) == Client(serve(tmp_path / "a")).of("images", 0)
    draw_image([], seed=1).save(tmp_path / "a" / "1.png")
    assert one.of("images", 0) != Client(serve(tmp_path / "a")).of("images", 0)  # nor does a browser keep the picture


def test_the_cookie_stays_with_this_server_and_the_page_loads_nothing_else(photos: Path, serve: Serve) -> None:
    address = serve(photos)
    client = Client(address)
    cookie = next(iter(next(h.cookiejar for h in client.opener.handlers if hasattr(h, "cookiejar"))))
    assert cookie.path == f"{client.session}/"  # not "/": browsers send it to other ports too
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "strict"
    _, headers, page = client.get("/")
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert TOKEN.encode() not in page
    for file in (Path(frcnn.__file__).parent / "tools" / "annotate" / "page").iterdir():
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
        "/annotations/99",
        "/proposals/0",
    ],
)
def test_nothing_but_the_images_of_the_folder_is_there(path: str, tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "data").mkdir()
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / "data" / f"{number}.png")
    draw_image([], seed=9).save(tmp_path / "secret.png")
    client = Client(serve(tmp_path / "data"))
    path = client.session + path
    with socket.create_connection(("127.0.0.1", int(client.root.rpartition(":")[2]))) as connection:
        # As it is: urllib would tidy the path up.
        cookie = next(iter(next(h.cookiejar for h in client.opener.handlers if hasattr(h, "cookiejar"))))
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie.name}={cookie.value}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404")


def test_an_image_elsewhere_that_an_annotation_names_is_not_shown(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "data").mkdir()
    for image in (tmp_path / "secret.png", tmp_path / "data" / "a.png"):
        draw_image([], seed=0).save(image)
    (tmp_path / "data" / "all.csv").write_text("../secret.png,1,2,30,40,cat\na.png,1,2,30,40,cat\n")
    client = Client(serve(tmp_path / "data"))
    assert client.get(client.of("images", 0))[0] == client.get(client.of("thumbnails", 0))[0] == 404
    assert "is outside of" in client.json(client.of("annotations", 0))["error"]
    version = client.json(client.of("annotations", 1))["version"]
    assert client.put(0, {"version": version, "objects": []})[0] == 422
    assert client.get(client.of("images", 1))[0] == 200


def test_what_is_read_and_written(photos: Path, serve: Serve) -> None:
    client = Client(serve(photos, class_names=("dog",)))
    listed = client.json("/overview")
    assert (listed["folder"], listed["format"], listed["classes"]) == (photos.name, "folders", ["dog"])
    assert listed["images"][0] == {"name": "0.png", "split": "all", "count": None, "broken": False}
    image = client.json(client.of("annotations", 1))
    assert (image["width"], image["height"], image["objects"], image["removable"]) == (128, 96, None, True)
    status, answer = client.put(1, {"version": image["version"], "objects": [BOX]})
    assert (status, answer["objects"]) == (200, [BOX | {"box": [1.0, 2.0, 30.0, 40.0]}])
    assert (photos / "1.bboxes.tsv").read_text() == "1\t2\t30\t40\n"
    assert client.json("/overview")["images"][1]["count"] == 1
    status, conflict = client.put(1, {"version": image["version"], "objects": []})
    assert status == 409
    assert (conflict["objects"], conflict["version"]) == (answer["objects"], answer["version"])
    status, refused = client.put(1, {"version": answer["version"], "objects": [BOX | {"box": [1, 2, 30, 400]}]})
    assert (status, "must lie inside the image" in refused["error"]) == (422, True)
    for content in ([], {"version": 1}, {"version": "", "objects": [{"box": [1, 2]}]}):
        assert client.put(1, content)[0] == 400
    assert client.json(client.of("annotations", 1))["objects"] == answer["objects"]


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
        _, headers, content = client.get(client.of("images", index))
        kinds.append(headers["Content-Type"])
        small = Image.open(BytesIO(client.get(client.of("thumbnails", index))[2]))
        assert small.format == "JPEG"
        assert small.size == ((20, 40) if index < 3 else (40, 20))
        image = client.json(client.of("annotations", index))
        assert (image["width"], image["height"]) == small.size
        if kinds[-1] == "image/jpeg" and index:
            assert Image.open(BytesIO(content)).size == small.size
    assert kinds == ["image/jpeg", "image/jpeg", "image/jpeg", "image/jpeg", "image/gif"]
    assert (tmp_path / "1.jpg").read_bytes() == client.get(client.of("images", 0))[2]


def test_a_broken_image_says_so(photos: Path, serve: Serve) -> None:
    client = Client(serve(photos))
    (photos / "1.png").write_bytes(b"")
    (photos / "2.png").unlink()
    kinds = ("annotations", "images", "thumbnails")
    for path in [client.of(kind, index) for kind in kinds for index in (1, 2)]:
        status, _, answer = client.get(path)
        assert status == 422, path
        assert json.loads(answer)["error"], path


def test_a_pipe_in_the_place_of_an_image_or_annotation_stops_nothing(photos: Path, serve: Serve) -> None:
    """Opening a pipe waits until a program writes to it."""
    client = Client(serve(photos))
    version = client.json(client.of("annotations", 0))["version"]
    (photos / "1.png").unlink()
    for name in ("1.png", "0.bboxes.tsv", "0.bboxes.labels.tsv"):
        os.mkfifo(photos / name)
    try:
        for kind in ("annotations", "images", "thumbnails"):
            status, _, answer = client.get(client.of(kind, 1))
            assert (status, b"1.png: is a pipe" in answer) == (422, True), kind
        assert client.put(0, {"version": version, "objects": []})[0] == 200
        assert (photos / "0.bboxes.tsv").is_file()
    finally:
        for pipe in filter(Path.is_fifo, photos.iterdir()):  # else a request that waits keeps the server from ending
            with suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def test_proposals(photos: Path, serve: Serve) -> None:
    found = detections_of(("cat", 0.75, (1.2, 2, 30, 40)))
    client = Client(serve(photos, propose=lambda image: found))
    assert client.json("/overview")["proposes"]
    assert client.json(client.of("proposals", 0)) == [{"box": [1, 2, 30, 40], "name": "cat", "score": 0.75}]


# -------------------------------------------------------------------------------------------------------- the command


def test_a_file_that_can_run_code_needs_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["annotate", str(write_tiny(tmp_path / "data")), "--model", str(tmp_path / "model.pt2")]
    (tmp_path / "model.pt2").write_bytes(b"")
    assert main(command) == 2
    assert "(--trust-file)" in capsys.readouterr().err
    assert main([*command, "--trust-file"]) == 2
    assert "model.pt2: damaged" in capsys.readouterr().err


@contextmanager
def running(data: Path, *options: str, max_files: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """The command in a process of its own: the address that it prints, and then the rest of its output.

    Args:
        max_files: how many files and connections the process may open.
    """
    command = [sys.executable, "-u", "-m", "frcnn", "annotate", str(data), *options]
    if max_files is not None:
        command = ["sh", "-c", f'ulimit -n {max_files}; exec "$@"', "sh", *command]
    rest: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"{data}: format folders, ")
            yield process.stdout.readline().removeprefix("open ").strip(), rest
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        rest.append(out)
    assert (process.returncode, err) == (0, "")


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    with running(data, "--port", "0", "--classes", "green, red") as (address, rest):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", address)
        assert Client(address).json("/overview")["classes"] == ["green", "red", "blue"]
    assert rest[0].endswith(f"stopped; next: frcnn check {data}\n")


def test_a_port_that_is_taken_says_so(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["annotate", str(photos), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot listen there (Address already in use); --port 0" in capsys.readouterr().err


def test_idle_connections_do_not_keep_others_out(photos: Path) -> None:
    """Any program on the computer can connect, without the token."""
    with ExitStack() as stack:
        address, _ = stack.enter_context(running(photos, "--port", "0", max_files=256))
        place = ("127.0.0.1", urlsplit(address).port or 0)
        idle = [
            stack.enter_context(socket.create_connection(place)) for _ in range(6 * BoundedProtocol.max_connections)
        ]
        for connection in idle[1::2]:  # half of them begin a request
            with suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\n")
        assert Client(address).overview["images"]
        idle[0].settimeout(10)
        with suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""  # the oldest ones are closed


def test_an_open_page_saves_after_a_restart(photos: Path) -> None:
    with running(photos, "--port", "0") as (address, _):
        client = Client(address)
        version = client.json(client.of("annotations", 0))["version"]
    with running(photos, "--port", str(urlsplit(address).port)) as (again, _):
        assert again == address
        assert client.put(0, {"version": version, "objects": [BOX]})[0] == 200


def test_the_token_is_only_for_this_user(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert page_token(photos) == page_token(photos) != page_token(tmp_path / "tmp")
    (folder,) = (tmp_path / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(OSError, match=f"{folder}: must be a folder that only you can open"):
        page_token(photos)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="only you can open"):
        page_token(photos)


def test_the_browser_gets_the_token_in_a_file(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of a program can be seen by every user."""
    arguments: list[str] = []
    monkeypatch.setattr(webbrowser, "open", arguments.append)
    open_page("http://127.0.0.1:8000/?token=secret", photos)
    page = Path(urlsplit(arguments[0]).path)
    assert 'url=http://127.0.0.1:8000/?token=secret"' in page.read_text()
    assert page.parent.stat().st_mode & 0o777 == 0o700
    assert "secret" not in arguments[0]


def test_a_lock_that_another_program_holds(photos: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr("frcnn.tools.annotate.editing._LOCK_TIMEOUT", 0.2)
    client = Client(serve(photos))
    version = client.json(client.of("annotations", 0))["version"]
    lock = private_folder() / f"{folder_key(photos)}.lock"
    with FileLock(lock):
        status, answer = client.put(0, {"version": version, "objects": [BOX]})
    assert (status, str(lock) in answer["error"]) == (422, True)
    assert client.put(0, {"version": version, "objects": [BOX]})[0] == 200


def test_hosts(photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        main(["annotate", str(photos), "--host", ""])
    assert "argument --host: is empty; name an address" in capsys.readouterr().err
    # Not uvicorn itself: it would log to the captured output, which is closed after this test.
    monkeypatch.setattr("frcnn.tools.annotate.server.serve", lambda *_, on_ready, **__: on_ready("http://address"))
    for host, warns in (("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False)):
        assert main(["annotate", str(photos), "--port", "0", "--host", host]) == 0
        assert ("anyone who can reach this computer" in capsys.readouterr().out) == warns


def test_a_user_without_a_name_can_edit(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is started with a number for its user."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert Editor(photos, DataSettings()).counts == [None] * 3


def test_without_the_extra_the_command_says_what_to_install(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "frcnn.tools.annotate.server", raising=False)
    assert main(["annotate", str(photos)]) == 2
    assert "pip install starlette uvicorn" in capsys.readouterr().err


def test_names_that_are_no_letters_and_ports_that_are_none(
    photos: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    assert len(Client(serve(photos)).overview["images"]) == 3
    with pytest.raises(SystemExit):
        main(["annotate", str(photos), "--port", "70000"])
    assert "70000" in capsys.readouterr().err


def test_of_several_images_the_last_one_asked_for_is_proposed_for(photos: Path, serve: Serve) -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def propose(image: Path) -> Detections:
        seen.append(image.name)
        begun.set()
        assert go_on.wait(10)
        return detections_of(path=str(image))

    client = Client(serve(photos, propose=propose))
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(client.get, client.of("proposals", 0))]
        assert begun.wait(10)
        for index in (1, 2):
            answers.append(pool.submit(client.get, client.of("proposals", index)))
            time.sleep(0.3)
        go_on.set()
        assert [answer.result()[0] for answer in answers] == [200, 409, 200]
    assert seen == ["0.png", "2.png"]
