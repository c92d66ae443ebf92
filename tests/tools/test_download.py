"""Downloading public data sets from a server on this machine that misbehaves in every way."""

import hashlib
import io
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny import draw_image, write_tiny

from frcnn.config import DataSettings
from frcnn.data.dataset import open_dataset, read_annotations
from frcnn.data.discover import discover
from frcnn.data.images import read_image
from frcnn.tools import download as module
from frcnn.tools.convert import convert_dataset
from frcnn.tools.download import PUBLIC_SETS, Archive, PublicSet, download, fetch, images_digest, unpack


class Server(ThreadingHTTPServer):
    """Serves `content`; each answer takes the next of `tricks`, and the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.tricks: list[str] = ["honest"]
        self.asked: list[tuple[str, str | None]] = []
        self.wait = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        trick = server.tricks.pop(0) if len(server.tricks) > 1 else server.tricks[0]
        if trick == "redirected":
            self.send_response(302)
            self.send_header("Location", f"{server.url}/moved{self.path}")
            self.end_headers()
            return
        if trick == "to a file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
            return
        content = server.content.get(self.path.removeprefix("/moved"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and trick != "deaf" else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if trick == "interrupted":
            rest = rest[: max(1, len(content) // 3)]
        if trick == "damaged":
            rest = bytes(byte ^ 1 for byte in rest)
        if trick == "slow":
            self.wfile.write(rest[:1])
            self.wfile.flush()
            server.wait.wait(10)
            return
        self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.wait.set()
        server.shutdown()


@pytest.fixture
def public(server: Server, tmp_path: Path) -> dict[str, PublicSet]:
    """A small VOC in a tar file with a checksum, and a small Grocery in a zip file, as GitHub packs it."""
    write_tiny(tmp_path / "made" / "grocery")
    convert_dataset(tmp_path / "made" / "grocery", tmp_path / "made" / "voc", "pascal_voc", DataSettings())
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(tmp_path / "made" / "voc", "VOCdevkit/VOC2007")
    with zipfile.ZipFile(zipped, "w") as archive:
        for file in (tmp_path / "made" / "grocery").rglob("*"):
            archive.write(
                file, Path("Repository-master/data/Grocery") / file.relative_to(tmp_path / "made" / "grocery")
            )
    server.content = {"/voc.tar": tar.getvalue(), "/mirror/voc.tar": tar.getvalue(), "/grocery.zip": zipped.getvalue()}
    digest = hashlib.sha256(tar.getvalue()).hexdigest()
    sources = (f"{server.url}/voc.tar", f"{server.url}/mirror/voc.tar")
    return {
        "voc": PublicSet((Archive("voc.tar", sources, digest),), "VOCdevkit/VOC2007", "", "", map_files=True),
        "grocery": PublicSet(
            (Archive("grocery.zip", (f"{server.url}/gone.zip", f"{server.url}/grocery.zip")),),
            "grocery",
            "",
            "",
            images=images_digest(tmp_path / "made" / "grocery"),
        ),
    }


def assert_is_the_voc(folder: Path) -> None:
    dataset = open_dataset(folder, DataSettings())
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    mapped = open_dataset(folder / "mappings", DataSettings())
    assert [record.class_names for record in mapped.train] == [record.class_names for record in dataset.train]
    assert [record.boxes.tolist() for record in mapped.test] == [record.boxes.tolist() for record in dataset.test]


@pytest.mark.parametrize(
    "tricks",
    [
        ["honest"],
        ["redirected", "honest"],
        ["interrupted", "interrupted", "interrupted", "honest"],
        ["interrupted", "deaf"],  # it cannot go on, and sends all again
        ["damaged", "honest"],  # then from the mirror
    ],
    ids=lambda tricks: ", ".join(tricks),
)
def test_a_data_set_is_downloaded_checked_and_unpacked(
    server: Server, public: dict[str, PublicSet], tmp_path: Path, tricks: list[str]
) -> None:
    server.tricks = tricks
    seen: list[tuple[str, int, int]] = []
    notes: list[str] = []
    out = fetch("voc", tmp_path / "out", known=public, on_bytes=lambda *at: seen.append(at), log=notes.append)
    assert_is_the_voc(out)
    size = len(server.content["/voc.tar"])
    assert seen[-1] == ("voc.tar", size, size)
    assert not notes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "out"]


def test_an_interrupted_download_is_resumed(server: Server, public: dict[str, PublicSet], tmp_path: Path) -> None:
    half = len(server.content["/voc.tar"]) // 2

    def stop(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    server.tricks = ["interrupted"]
    with pytest.raises(KeyboardInterrupt):
        fetch("voc", tmp_path / "out", known=public, on_bytes=stop)
    part = tmp_path / "out.download" / "voc.tar.part"
    part.write_bytes(server.content["/voc.tar"][:half])
    server.tricks, server.asked = ["honest"], []
    assert_is_the_voc(fetch("voc", tmp_path / "out", known=public))
    assert server.asked == [("/voc.tar", f"bytes={half}-")]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.content["/a"] = b"hello"
    (tmp_path / "a.part").write_bytes(b"something longer")
    download(f"{server.url}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"hello"


def test_damaged_everywhere(server: Server, public: dict[str, PublicSet], tmp_path: Path) -> None:
    server.tricks = ["damaged"]
    with pytest.raises(ConnectionError, match=r"voc\.tar: damaged or another file: its SHA-256 is .*(.|\n)*--from"):
        fetch("voc", tmp_path / "out", known=public)
    assert not (tmp_path / "out").exists()


def test_a_server_that_falls_silent_is_left(
    server: Server, public: dict[str, PublicSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    server.tricks = ["slow", "slow", "slow", "slow", "slow", "slow", "honest"]
    assert_is_the_voc(fetch("voc", tmp_path / "out", known=public))
    server.tricks = ["slow"]
    with pytest.raises(ConnectionError, match=r"no source sent it:(.|\n)*timed out"):
        fetch("voc", tmp_path / "again", known=public)


def test_redirects_do_not_lead_to_files(server: Server, tmp_path: Path) -> None:
    server.tricks = ["to a file"]
    with pytest.raises(ConnectionError):
        download(f"{server.url}/a", tmp_path / "a")
    with pytest.raises(ConnectionError, match="only http and https"):
        download("file:///etc/passwd", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_second_source_of_grocery_and_another_version(
    server: Server, public: dict[str, PublicSet], tmp_path: Path
) -> None:
    notes: list[str] = []
    fetch("grocery", tmp_path / "out", known=public, log=notes.append)
    assert len(open_dataset(tmp_path / "out", DataSettings()).train) == 5
    assert [path for path, _ in server.asked] == ["/gone.zip", "/grocery.zip"]
    assert not notes
    other = {"grocery": public["grocery"]._replace(images="0" * 64)}
    fetch("grocery", tmp_path / "other", known=other, log=notes.append)
    assert "another version than those of the figures" in notes[0]


def test_without_a_network(tmp_path: Path) -> None:
    nowhere = PublicSet((Archive("a.tar", ("http://127.0.0.1:9/a.tar", "http://127.0.0.1:9/b.tar")),), "a", "", "")
    with pytest.raises(ConnectionError) as error:
        fetch("a", tmp_path / "out", known={"a": nowhere})
    text = str(error.value)
    assert "http://127.0.0.1:9/a.tar: [Errno 111] Connection refused" in text
    assert "http://127.0.0.1:9/b.tar: " in text
    assert "add --from FOLDER" in text


def test_archives_that_were_brought_along(server: Server, public: dict[str, PublicSet], tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"voc\.tar: is missing .*put it there, from http://"):
        fetch("voc", tmp_path / "out", given=folder, known=public)
    (folder / "voc.tar").write_bytes(server.content["/voc.tar"][:-1])
    with pytest.raises(ValueError, match=r"voc\.tar: damaged or another file"):
        fetch("voc", tmp_path / "out", given=folder, known=public)
    (folder / "voc.tar").write_bytes(server.content["/voc.tar"])
    assert_is_the_voc(fetch("voc", tmp_path / "out", given=folder, known=public))
    assert not server.asked
    assert (folder / "voc.tar").is_file()
    with pytest.raises(FileExistsError, match="out: exists and is not overwritten"):
        fetch("voc", tmp_path / "out", given=folder, known=public)


# -------------------------------------------------------------------------------------------- archives that mean ill


@contextmanager
def tar(path: Path) -> Iterator[tarfile.TarFile]:
    with tarfile.open(path, "w") as archive:
        yield archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 5 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../outside.txt")],
        [entry("a/../../outside.txt")],
        [entry("link", tarfile.SYMTYPE, "../.."), entry("link/outside.txt")],
        [entry("hard", tarfile.LNKTYPE, "../../outside.txt")],
        [entry("device", tarfile.CHRTYPE)],
        [entry("a" * 200, tarfile.DIRTYPE), entry("b", tarfile.SYMTYPE, "a" * 200), entry("b/../../outside.txt")],
        [entry("link", tarfile.SYMTYPE, "inside.txt"), entry("inside.txt")],
    ],
    ids=["parent", "hidden parent", "symbolic link", "hard link", "device", "long link", "harmless link"],
)
def test_a_tar_file_does_not_escape(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    with tar(tmp_path / "a.tar") as archive:
        for info in entries:
            archive.addfile(info, io.BytesIO(b"hello"))
    (tmp_path / "deep" / "in").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"a\.tar: not unpacked, since it could write outside its folder"):
        unpack(tmp_path / "a.tar", tmp_path / "deep" / "in")
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize("name", ["../../outside.txt", "/tmp/outside.txt", "a\\..\\..\\outside.txt", "C:/outside.txt"])
def test_a_zip_file_does_not_escape(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, "hello")
    unpack(tmp_path / "a.zip", tmp_path / "deep" / "in")
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["in"]
    assert not Path("/tmp/outside.txt").exists()


def test_a_link_in_a_zip_file_is_not_made(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    unpack(tmp_path / "a.zip", tmp_path / "in")
    assert not (tmp_path / "in" / "link").is_symlink()


@pytest.mark.parametrize("kind", ["one large file", "many folders"])
def test_an_archive_that_would_fill_the_disk_is_not_unpacked(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        if kind == "one large file":
            file.writestr("a.bin", bytes(30 << 20))
        else:
            for number in range(20):
                file.writestr("a/" * 400 + str(number), b"")
    with pytest.raises(ValueError, match=r"a\.zip: not unpacked, since it would become 3\d MB, more than 20 times"):
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_tar_file_with_holes_is_not_unpacked(tmp_path: Path) -> None:
    sizes = {"a.bin": 1 << 40, "b.bin": -(1 << 40)}  # their sum is small
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, size in sizes.items():
            sparse = entry(name)
            sparse.pax_headers = {
                "GNU.sparse.major": "0",
                "GNU.sparse.minor": "1",
                "GNU.sparse.name": name,
                "GNU.sparse.size": str(size),
                "GNU.sparse.map": "0,5",
            }
            archive.addfile(sparse, io.BytesIO(b"hello"))
    with pytest.raises(ValueError, match=r"a\.tar: not unpacked, .* a file with holes"):
        unpack(tmp_path / "a.tar", tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    "header", [{"GNU.sparse.size": "abc", "GNU.sparse.map": "0"}, {"mtime": "nan"}, {"mtime": "1e300"}]
)
def test_a_tar_file_with_a_wrong_header_is_damaged(tmp_path: Path, header: dict[str, str]) -> None:
    info = entry("a.txt")
    info.pax_headers = header
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"hello"))
    with pytest.raises(ValueError, match=r"a\.tar: (damaged|not unpacked)"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compressions_are_refused(tmp_path: Path, compression: int) -> None:
    """Python unpacks them in pieces of any size."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("a.png", b"x" * 100)
    with pytest.raises(ValueError, match=r"a\.zip: damaged .* is neither stored nor deflated"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
    with pytest.raises(ValueError, match=r"a\.png: .* is neither stored nor deflated"):
        read_image(tmp_path / "a.zip@" / "a.png")


def test_a_compressed_tar_file_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as archive:
        archive.addfile(entry("a.txt"), io.BytesIO(b"hello"))
    with pytest.raises(ValueError, match=r"a\.tar: damaged"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.zip: damaged .*; delete it and try again"):
        unpack(tmp_path / "a.zip", tmp_path / "in")


# --------------------------------------------------------------------------------------------------- what is known


def test_what_is_known_of_the_public_sets(shared: Path) -> None:
    assert set(PUBLIC_SETS) == {"voc2007", "voc2012", "grocery"}
    for public in PUBLIC_SETS.values():
        for archive in public.archives:
            assert len(archive.sources) > 1
            assert archive.sha256 is None or len(archive.sha256) == 64
    assert PUBLIC_SETS["grocery"].images == images_digest(shared / "datasets" / "grocery")


def test_map_files_are_those_of_the_annotations(tmp_path: Path) -> None:
    image = tmp_path / "images" / "a b.png"
    image.parent.mkdir()
    draw_image([]).save(image)
    (tmp_path / "train.csv").write_text("path,x1,y1,x2,y2,label,ignore\na b.png,1,2,30,40,cat,1\n")
    notes = module.write_map_files(tmp_path, tmp_path / "mappings", DataSettings())
    assert "1 ignored objects become plain objects" in notes[0]
    discovery = discover(tmp_path / "mappings", DataSettings())
    (record,) = read_annotations(discovery, DataSettings(), lambda problem: None)["train"]
    assert record.image.resolve() == image
