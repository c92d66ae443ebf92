"""Hundreds of hostile requests: each is refused with one sentence, and the next good one is answered."""

import asyncio
import base64
import gc
import gzip
import json
import re
import socket
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image
from service import BOX, Serve, photo

import frcnn.serve
from frcnn.serve.limits import Limits

LIMITS = Limits(
    body_bytes=4 << 20, pixels=4_000_000, images=4, header_seconds=0.4, body_seconds=0.4, request_seconds=20
)
BOUNDARY = "cut-here"
GOOD = photo()
GOOD_TEXT = base64.b64encode(GOOD).decode()
REFUSED = frozenset(range(400, 500))
ACCEPTED = frozenset({200})
EITHER = REFUSED | ACCEPTED
"""The service may answer, but nothing worse."""


class Case(NamedTuple):
    name: str
    raw: bytes
    """What is sent."""
    statuses: frozenset[int] = REFUSED
    is_http: bool = True
    """Else uvicorn may close the connection, or answer in words of its own."""


class Answer(NamedTuple):
    status: int
    type: str
    body: bytes


# ------------------------------------------------------------------------------------------------------------- sending


def http(
    body: bytes = b"",
    content_type: str | None = None,
    path: str = "/predict",
    method: str = "POST",
    *,
    headers: Mapping[str, str] | None = None,
    length: str | None = None,
) -> bytes:
    """A request; its header may say anything."""
    fields = {"Host": "localhost", "Connection": "close"}
    if content_type is not None:
        fields["Content-Type"] = content_type
    fields |= {"Content-Length": str(len(body)) if length is None else length} | (headers or {})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(address: str, content: bytes) -> list[Answer]:
    """Send bytes, and read all answers until the service closes the connection."""
    where = urlsplit(address)
    received = b""
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused early
            connection.sendall(content)
        with suppress(ConnectionResetError):
            while block := connection.recv(1 << 16):
                received += block
    return answers_in(received)


class _Received:
    def __init__(self, content: bytes) -> None:
        self._file = BytesIO(content)

    def makefile(self, *_: object) -> BytesIO:
        return self._file


def answers_in(received: bytes) -> list[Answer]:
    found = []
    while received.startswith(b"HTTP/1."):
        response = HTTPResponse(_Received(received))  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        found.append(Answer(response.status, response.headers.get_content_type(), body))
        received = received[received.index(b"\r\n\r\n") + 4 + len(body) :]
    return found


# ------------------------------------------------------------------------------------------------------------- bodies


def noise(form: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    content = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(content, form, **options)
    return content.getvalue()


def png(width: int, height: int, data: bytes = b"", *, mode: int = 2, extra: bytes = b"") -> bytes:
    """A PNG file that says any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, mode, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def jpeg_that_says(width: int, height: int) -> bytes:
    content = bytearray(noise("JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive JPEG whose scans are empty: each takes as long as a real one to decode."""
    content = noise("JPEG", (1900, 1900), progressive=True, quality=5)
    start = content.index(b"\xff\xda", content.rindex(b"\xff\xc4"))
    return content[:-2] + content[start : start + 12] * scans + content[-2:]


def gif_that_says(width: int, height: int) -> bytes:
    content = noise("GIF")
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


def gif_of_frames(frames: int) -> bytes:
    images = [Image.new("L", (64, 48), number % 255) for number in range(frames)]
    content = BytesIO()
    images[0].save(content, "GIF", save_all=True, append_images=images[1:])
    return content.getvalue()


def bmp_that_says(width: int, height: int) -> bytes:
    content = noise("BMP")
    return content[:18] + struct.pack("<ii", width, height) + content[26:]


def tiff_that_says(width: int, height: int) -> bytes:
    content = noise("TIFF")
    return content.replace(struct.pack("<HHIHH", 256, 4, 1, 64, 0), struct.pack("<HHII", 256, 4, 1, width)).replace(
        struct.pack("<HHIHH", 257, 4, 1, 48, 0), struct.pack("<HHII", 257, 4, 1, height)
    )


def webp_that_says(width: int, height: int) -> bytes:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + canvas
    inner = b"WEBP" + vp8x + noise("WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(inner)) + inner


def zipped(name: str, content: bytes) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def part(
    content: bytes = GOOD, head: str = 'form-data; name="image"; filename="a.png"', extra: str = ""
) -> tuple[str, bytes]:
    return f"Content-Disposition: {head}\r\n{extra}", content


def multipart(*parts: tuple[str, bytes], boundary: str = BOUNDARY, end: str = "--\r\n") -> bytes:
    body = b"".join(f"--{boundary}\r\n{head}\r\n".encode("latin-1") + content + b"\r\n" for head, content in parts)
    return body + f"--{boundary}{end}".encode()


FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"


def image_bodies() -> Iterator[tuple[str, bytes, frozenset[int]]]:
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "PCX", "SGI", "DIB", "QOI"):
        whole = photo(form=form)
        for kept in (0.02, 0.5, 0.9):
            statuses = EITHER if kept == 0.9 else REFUSED  # a file without its last rows may be read
            yield f"{form} cut to {kept:.0%}", whole[: int(len(whole) * kept)], statuses
        yield f"{form} without its first byte", whole[1:], REFUSED
        middle = len(whole) // 2
        yield f"{form} with zeros in the middle", whole[:middle] + bytes(64) + whole[middle + 64 :], EITHER
    yield "TGA, which has no signature", photo(form="TGA"), REFUSED
    for name in ("EPS", "PDF", "ICO", "ICNS", "XBM", "MSP", "SPIDER"):
        content = BytesIO()
        mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(name, "RGB")
        Image.new(mode, (64, 64)).save(content, name)
        yield name, content.getvalue(), REFUSED
    yield "no bytes", b"", REFUSED
    yield "one byte", b"\xff", REFUSED
    yield "one zero", b"\0", REFUSED
    yield "a megabyte of zeros", bytes(1 << 20), REFUSED
    yield "4 MB and a byte", bytes((4 << 20) + 1), REFUSED
    yield "a text", b"this is not an image", REFUSED
    yield "a path", b"/etc/passwd", REFUSED
    yield "an address", b"http://169.254.169.254/latest/meta-data/", REFUSED
    yield "PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n", REFUSED
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', REFUSED
    yield "XML with an entity", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', REFUSED
    yield "HTML", b"<html><script>alert(1)</script></html>", REFUSED
    yield "a Windows program", b"MZ" + bytes(200), REFUSED
    yield "a Linux program", b"\x7fELF" + bytes(200), REFUSED
    yield "Python's pickle", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", REFUSED
    yield "a zip file", zipped("a.png", GOOD), REFUSED
    yield "a zip bomb", zipped("a.png", bytes(30 << 20)), REFUSED
    yield "gzip", gzip.compress(GOOD), REFUSED
    yield "a gzip bomb", gzip.compress(bytes(30 << 20), 1), REFUSED
    for width, height in ((60000, 60000), (12000, 8000), (2**31 - 1, 1), (0, 0), (4_000_001, 1)):
        yield f"PNG that says {width} x {height}", png(width, height, zlib.compress(bytes(100))), REFUSED
    yield "PNG bomb within the limit of pixels", png(2000, 2000, zlib.compress(bytes(30 << 20), 1)), EITHER
    yield "PNG bomb of a text", png(64, 48, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20), 1))), REFUSED
    yield (
        "PNG bomb of a profile",
        png(64, 48, extra=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(9 << 20), 1))),
        REFUSED,
    )
    yield "PNG with a wrong checksum", GOOD[:40] + b"x" + GOOD[41:], EITHER
    yield "PNG with a negative length of a chunk", GOOD[:33] + b"\xff\xff\xff\xff" + GOOD[37:], EITHER
    yield "JPEG that says 60000 x 60000", jpeg_that_says(60000, 60000), REFUSED
    yield "JPEG that says 65500 x 6000", jpeg_that_says(65500, 6000), REFUSED
    yield "JPEG that says 0 x 0", jpeg_that_says(0, 0), REFUSED
    yield "JPEG of 10,000 scans", jpeg_of_scans(10_000), REFUSED
    yield "GIF that says 65535 x 65535", gif_that_says(65535, 65535), REFUSED
    yield "GIF of 1,000 frames", gif_of_frames(1000), ACCEPTED
    yield "BMP that says 60000 x 60000", bmp_that_says(60000, 60000), REFUSED
    yield "BMP of a negative size", bmp_that_says(-64, -(2**31)), REFUSED
    yield "TIFF that says 60000 x 60000", tiff_that_says(60000, 60000), REFUSED
    yield "TIFF whose directory is itself", b"II*\0\x08\0\0\0\x01\0" + bytes(12) + b"\x08\0\0\0", REFUSED
    yield "WebP that says 16383 x 16383", webp_that_says(16383, 16383), REFUSED
    yield "PPM that says 99999 x 99999", b"P6 99999 99999 255 " + bytes(100), REFUSED
    yield "PPM of huge numbers", b"P6 " + b"9" * 5000 + b" 1 255 ", REFUSED
    yield "an image of a stripe", noise("PNG", (100_000, 1)), EITHER
    yield "an image of one pixel", noise("PNG", (1, 1)), EITHER
    yield "an image and more", GOOD + b"<script>" * 100, ACCEPTED


def json_bodies() -> Iterator[tuple[str, bytes]]:
    for text in (
        "", " ", "null", "true", "0", '""', "[]", "{}", "nul", "{", '{"image":', '{"image"}', "{'image': 'a'}", "NaN",
        '{"image": NaN}', '{"image": Infinity}', '{"image": -Infinity}', '{"image": null}', '{"image": true}',
        '{"image": 5}', '{"image": 1e999}', '{"image": []}', '{"image": {}}', '{"image": ""}', '{"image": " "}',
        '{"image": ["QUJD"]}', '{"images": "QUJD"}', '{"images": []}', '{"images": [null]}', '{"images": [["QUJD"]]}',
        '{"images": {"0": "QUJD"}}', '{"image": "QUJD", "images": ["QUJD"]}', '{"image": "QUJD", "threshold": 0.5}',
        '{"Image": "QUJD"}', '{"": "QUJD"}', '{"image": "QUJD"} {"image": "QUJD"}', '{"image": "QUJD",}',
        '{"image": "\\ud800"}', '{"image": "\\u0000"}', '{"\\ud800": 1}', '{"image": "a\nb"}', '{"image": "QUJ"}',
        '{"image": "QU=D"}', '{"image": "===="}', '{"image": "!!!!"}', '{"image": "QUJD-_=="}', '{"image": "\u00e9"}',
        '{"image": "data:"}', '{"image": "data:,QUJD"}', '{"image": "data:image/png,QUJD"}',
        '{"image": "data:image/png;base64"}', '{"image": "data:image/png;base64,"}',
        '{"image": "data:image/png;base64,???"}', '{"image": "data:image/png;base64,QUJD"}',
        '{"image": "data:;base64,data:;base64,QUJD"}', '{"image": "DATA:image/png;base64,QUJD"}',
        '{"image": "file:///etc/passwd"}', '{"image": "http://169.254.169.254/"}', '{"image": "/etc/passwd"}',
        '{"image": "../../etc/passwd"}', '{"image": "~/.ssh/id_rsa"}', '{"image": "C:\\\\a.png"}',
        '{"image": "photos.zip@/a.png"}', '{"image": "/dev/zero"}', '{"image": "-"}', '{"image": "*.png"}',
        '{"image": "s3://bucket/a.png"}', '{"image": "$(reboot)"}', '{"image": "%s%s%n"}',
        '{"image": "\x7f\u202e\u2028"}',
    ):  # fmt: skip
        yield (text if len(text) < 60 else text[:60]), text.encode()
    yield "10,000 brackets", b"[" * 10_000
    yield "10,000 closed brackets", b"[" * 10_000 + b"]" * 10_000
    yield "1,000,000 brackets", b"[" * 1_000_000
    yield "1,000,000 braces", b'{"a":' * 800_000
    yield "nested as deep as Python reads", b'{"image": ' + b"[" * 900 + b"]" * 900 + b"}"
    yield "a number of 1,000,000 digits", b'{"image": ' + b"9" * 1_000_000 + b"}"
    yield "an exponent of 1,000,000 digits", b'{"image": 1e' + b"9" * 1_000_000 + b"}"
    yield "the same key twice, the last is wrong", json.dumps({"image": GOOD_TEXT}).encode()[:-1] + b', "image": 5}'
    yield "100,000 keys", json.dumps({str(number): 0 for number in range(100_000)}).encode()
    yield "a key of 1 MB", json.dumps({"k" * (1 << 20): 0}).encode()
    yield "100,000 images", json.dumps({"images": ["QUJD"] * 100_000}).encode()
    yield "5 images, one too many", json.dumps({"images": [GOOD_TEXT] * 5}).encode()
    yield "invalid UTF-8", b'{"image": "\xff\xfe\xfd"}'
    yield "cut UTF-8", b'{"image": "\xe2\x82'
    yield "cut UTF-16", '{"image": 5}'.encode("utf-16")[:-1]
    yield "UTF-16", '{"image": 5}'.encode("utf-16")
    yield "UTF-32", '{"image": 5}'.encode("utf-32")
    yield "a mark of byte order", b"\xef\xbb\xbf{}"
    yield "an image", GOOD
    yield "base64 of text", json.dumps({"image": base64.b64encode(b"text" * 100).decode()}).encode()
    yield "3 MB of spaces", json.dumps({"image": " " * (3 << 20)}).encode()
    yield "3 MB of wrong base64", json.dumps({"image": "?" * (3 << 20)}).encode()
    yield "a data address of 1 MB without its end", json.dumps({"image": "data:" + "a" * (1 << 20)}).encode()
    yield "a data address of 1 MB of options", json.dumps({"image": "data:a/b" + ";a" * (1 << 19)}).encode()
    yield "a data address of 1 MB of =", json.dumps({"image": "data:a/b;" + "=" * (1 << 20)}).encode()


def multipart_cases() -> Iterator[Case]:
    body = multipart(part())
    for about, content_type in {
        "no boundary": "multipart/form-data",
        "an empty boundary": "multipart/form-data; boundary=",
        "another boundary": "multipart/form-data; boundary=other",
        "a boundary of 5 kB": f"multipart/form-data; boundary={'b' * 5000}",
        "a boundary that is not ASCII": "multipart/form-data; boundary=\xe9\xff",
        "a boundary with spaces": 'multipart/form-data; boundary=" "',
        "a boundary in open quotes": f'multipart/form-data; boundary="{BOUNDARY}',
    }.items():
        yield Case(f"multipart, {about}", http(body, content_type))
    for charset in ("undefined", "rot13", "idna", "punycode", "utf-7", "utf-16", "unicode_escape", "zlib", "no-such",
                    "cp037", "raw_unicode_escape", "\xff", "a" * 5000, "hex", "base64", "mbcs"):  # fmt: skip
        named = multipart(part(head='form-data; name="im+AGE-\\ud800"; filename="\xff\\x00+2AA-.png"'))
        yield Case(f"multipart, charset={charset[:20]}", http(named, f"{FORM}; charset={charset}"), EITHER)
    for kept in (5, 15, 60, 100, -1, -4, -20):
        yield Case(f"multipart cut at {kept}", http(body[:kept], FORM), EITHER if kept == -1 else REFUSED)
    heads = {
        "no name": 'form-data; filename="a.png"',
        "no file": 'form-data; name="image"',
        "nothing": "",
        "another kind": 'attachment; filename="a.png"',
        "open quotes": 'form-data; name="image; filename=a.png',
        "a field of options": 'form-data; name="threshold"',
        "a name of 1 MB": f'form-data; name="{"n" * (1 << 20)}"; filename="a.png"',
        "a huge number of options": 'form-data; name="image"' + "; a=b" * 100_000,
    }
    for about, head in heads.items():
        yield Case(f"multipart, {about}", http(multipart(part(head=head)), FORM))
    names = {
        "..": "../../../../etc/passwd",
        "NUL": "a\0b.png",
        "newline": "a\nb: c.png",
        "return": "a\rb.png",
        "control characters": "\x01\x02\x1b[31m\x7f.png",
        "10 kB": "n" * 10_000 + ".png",
        "quotes": 'a\\"b\\\\.png',
        "not UTF-8": "\xff\xfe.png",
        "a zip member": "a.zip@/b.png",
        "an address": "http://169.254.169.254/a.png",
        "nothing": "",
        "a script": "<script>alert(1)</script>.png",
    }
    for about, name in names.items():
        for content, what in ((GOOD, "image"), (b"text", "text")):
            head = f'form-data; name="image"; filename="{name}"'
            yield Case(f"multipart, file name with {about}, {what}", http(multipart(part(content, head)), FORM), EITHER)
    yield Case("multipart, 5 images", http(multipart(*[part()] * 5), FORM))
    yield Case("multipart, 10,000 files", http(multipart(*[part(b"a")] * 10_000), FORM))
    yield Case("multipart, 10,000 fields", http(multipart(*[part(b"a", 'form-data; name="a"')] * 10_000), FORM))
    yield Case("multipart, 10,000 empty parts", http(multipart(*[("", b"")] * 10_000), FORM))
    yield Case("multipart, a header of 1 MB", http(multipart(part(extra=f"X-A: {'a' * (1 << 20)}\r\n")), FORM))
    yield Case("multipart, 10,000 headers", http(multipart(part(extra="X-A: a\r\n" * 10_000)), FORM))
    yield Case("multipart, a header without a colon", http(multipart(part(extra="no colon\r\n")), FORM))
    yield Case("multipart, an empty file", http(multipart(part(b"")), FORM))
    yield Case("multipart, only the end", http(multipart(), FORM))
    yield Case("multipart, something after the end", http(body + b"more" * 1000, FORM), EITHER)
    yield Case("multipart, something before the start", http(b"preamble\r\n" + body, FORM), EITHER)
    yield Case("multipart, 3 MB of half boundaries", http(multipart(part(b"\r\n--cut-" * 350_000)), FORM))
    yield Case("multipart, 3 MB of line ends", http(multipart(part(b"\r\n" * 1_500_000)), FORM))
    yield Case("multipart in a multipart", http(multipart(part(body)), FORM))
    yield Case("multipart of base64", http(multipart(part(GOOD_TEXT.encode())), FORM))
    yield Case("multipart/mixed", http(body, f"multipart/mixed; boundary={BOUNDARY}"))


def query_cases() -> Iterator[Case]:
    for query in (
        "threshold=nan", "threshold=inf", "threshold=-inf", "threshold=-1", "threshold=2", "threshold=1e999",
        "threshold=", "threshold=a", "threshold=0x1", "threshold=0,5", "threshold=%00", "threshold=" + "9" * 5000,
        "threshold=[0.5]", "threshold=%FF", "threshold=%zz", "threshold", "overlap=2", "overlap=-0.1", "overlap=nan",
        "overlap=0.95", "tile=1", "tile=63", "tile=-64", "tile=99999999", "tile=nan", "tile=inf", "tile=a", "tile=",
        "tile=1e400", "classes=green", "classes=", "classes=red,", "classes=,", "classes=red,green", "classes=%00",
        "classes=RED", "classes=" + "x," * 20_000, "classes=red&classes=green", "color=red", "image=/etc/passwd",
        "=1", "&&&", "%00=1", "?", "a" * 40_000, "&".join(f"a{number}=1" for number in range(5000)),
        "url=http://169.254.169.254/", "Threshold=0.5", "threshold[]=0.5", "%74hreshold=0.5", "threshold=0.5;tile=0",
        "__proto__=1",
    ):  # fmt: skip
        statuses = ACCEPTED if query in ("&&&", "%74hreshold=0.5") else REFUSED
        yield Case(f"?{query[:40]}", http(GOOD, path=f"/predict?{query}"), statuses)
    for query in ("threshold=0.5&threshold=nan", "threshold=nan&threshold=0.5", "threshold=+0.5", "threshold=%D9%A0"):
        yield Case(f"?{query}", http(GOOD, path=f"/predict?{query}"), EITHER)
    large = png(2000, 2000, zlib.compress(bytes(2000 * 6001), 1))
    yield Case("100,000 tiles", http(large, path="/predict?tile=64&overlap=0.9"))


def header_cases() -> Iterator[Case]:
    for accept in ("text/html", "nothing", "image/gif", "application/xml;q=1", ",;,;", "\xff", "a" * 20_000):
        yield Case(f"Accept: {accept[:20]}", http(GOOD, headers={"Accept": accept}), EITHER)
    for host in ("evil.example", "", "localhost.evil.example", "evil.example:80", "[", "[::1", "127.0.0.1.evil",
                 "127.0.0.1@evil.example", "\xff", "a" * 10_000, "169.254.169.254", "0.0.0.0", "[::]"):  # fmt: skip
        yield Case(f"Host: {host[:30]}", http(GOOD, headers={"Host": host}))
    for origin in ("http://evil.example", "null", "http://localhost:1", "http://[", "http://[::1", "//", "\xff", ""):
        yield Case(f"Origin: {origin}", http(GOOD, headers={"Origin": origin}))
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        ";",
        "/",
        "image/png; charset=\xff",
        "a" * 9999,
    ):
        yield Case(f"Content-Type: {kind[:30]}, a text", http(b"a=b", kind))
        yield Case(f"Content-Type: {kind[:30]}, an image", http(GOOD, kind), ACCEPTED)
    for charset in ("utf-7", "utf-16", "no-such", "\xff"):
        yield Case(f"JSON, charset={charset}", http(b'{"image": 5}', f"{JSON}; charset={charset}"))
    for encoding in ("gzip", "br", "deflate, gzip"):
        yield Case(f"Content-Encoding: {encoding}", http(gzip.compress(GOOD), headers={"Content-Encoding": encoding}))
    yield Case("Expect: nonsense", http(GOOD, headers={"Expect": "nonsense"}), EITHER)
    yield Case(
        "Upgrade: websocket", http(GOOD, headers={"Upgrade": "websocket", "Connection": "Upgrade, close"}), EITHER
    )
    yield Case("Upgrade: h2c", http(GOOD, headers={"Upgrade": "h2c", "Connection": "Upgrade, close"}), EITHER)
    yield Case("a hostile X-Request-Id", http(b"", headers={"X-Request-Id": "a" * 5000}))
    yield Case("Range", http(GOOD, headers={"Range": "bytes=0-1,5-4,-99999999999999999999"}), EITHER)
    yield Case("500 headers", http(GOOD, headers={f"X-{number}": "a" for number in range(500)}), EITHER)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "post", "A" * 1000):
        yield Case(f"method {method[:10]}", http(GOOD, method=method))
    for path in ("/nothing", "/predict/", "//predict", "/%2e%2e/etc/passwd", "/page/..%2f..%2fapp.py",
                 "/page/../app.py", "/page/%2e%2e/app.py", "/page/%00", "/page/a%00.js", "/page//etc/passwd",
                 "/page/%5c..%5capp.py",
                 "/page/", "/page", "/%ff", "/%zz", "/a%0d%0aX:y", "/" + "a" * 30_000, "/" + "a/" * 10_000,
                 "/page/" + "a" * 30_000, "/.git/config", "/docs/../model", "http://localhost/nothing", "*",
                 "/page/" + "%2e%2e%2f" * 10 + "etc/passwd", "/predict;a=b", "/predict%00"):  # fmt: skip
        statuses = REFUSED | {307} if path in ("/predict/", "/page") else REFUSED
        yield Case(f"GET {path[:40]}", http(path=path, method="GET"), statuses)
    yield Case("CONNECT", raw("CONNECT localhost:22 HTTP/1.1", "Host: localhost", "Connection: close"))


def connection_cases() -> Iterator[Case]:
    good, host = f"Content-Length: {len(GOOD)}", "Host: localhost"
    start = ("POST /predict HTTP/1.1", host, "Connection: close")
    lengths = ("-1", "abc", "1e3", "+5", "0x10", "9" * 400, "9" * 19, "", " ", "5,6", "18446744073709551617", "\xb2")
    for length in lengths:
        yield Case(f"Content-Length: {length[:20]}", raw(*start, f"Content-Length: {length}", body=GOOD), is_http=False)
    yield Case("Content-Length: 5 MB", raw(*start, "Content-Length: 5000000", body=GOOD))
    yield Case("a body that never ends", raw(*start, "Content-Length: 100000", body=GOOD))
    yield Case("no body at all", raw(*start, good))
    yield Case("a body that is too short", raw(*start, "Content-Length: 10", body=GOOD), is_http=False)
    yield Case("two lengths", raw(*start, good, "Content-Length: 5", body=GOOD), is_http=False)
    yield Case("the same length twice", raw(*start, good, good, body=GOOD), EITHER, is_http=False)
    chunked = "Transfer-Encoding: chunked"
    chunks = {
        "no number": b"zz\r\nabc\r\n0\r\n\r\n",
        "a negative number": b"-5\r\nabc\r\n0\r\n\r\n",
        "a huge number": b"ffffffffffffffffffff\r\nabc\r\n",
        "a number of 100 kB": b"0" * 100_000 + b"5\r\nabcde\r\n0\r\n\r\n",
        "a wrong end": b"3\r\nabcd\r\n0\r\n\r\n",
        "nothing": b"",
        "no last chunk": b"3\r\nabc\r\n",
        "an endless header": b"3\r\nabc\r\n0\r\nX: " + b"a" * 100_000,
        "only line ends": b"\r\n" * 100,
    }
    for about, body in chunks.items():
        yield Case(f"chunks: {about}", raw(*start, chunked, body=body), is_http=False)
    many = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD) + b"0\r\n\r\n"
    yield Case("a chunk for each byte", raw(*start, chunked, body=many), ACCEPTED)
    yield Case("5 MB in chunks", raw(*start, chunked, body=(b"10000\r\n" + bytes(1 << 16) + b"\r\n") * 80))
    for name in ("identity", "gzip", "gzip, chunked", "chunked, chunked", "xchunked", " chunked\x0b", ""):
        yield Case(f"Transfer-Encoding: {name}", raw(*start, f"Transfer-Encoding: {name}", body=GOOD), is_http=False)
    yield Case("chunks and a length", raw(*start, chunked, good, body=GOOD), is_http=False)
    yield Case("chunks, obfuscated", raw(*start, "Transfer-Encoding : chunked", body=b"0\r\n\r\n"), is_http=False)
    yield Case("HTTP/1.0", raw("POST /predict HTTP/1.0", host, good, body=GOOD), ACCEPTED)
    yield Case("HTTP/1.0 without Host", raw("POST /predict HTTP/1.0", good, body=GOOD))
    yield Case("HTTP/1.1 without Host", raw("POST /predict HTTP/1.1", good, body=GOOD), is_http=False)
    yield Case("HTTP/0.9", b"GET /predict\r\n\r\n", is_http=False)
    for version in ("HTTP/2.0", "HTTP/9.9", "HTTP/1.1.1", "HTTP/-1.1", "ICY/1.1"):
        lines = (f"POST /predict {version}", host, "Connection: close", good)
        yield Case(version, raw(*lines, body=GOOD), EITHER, is_http=False)
    yield Case("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50), is_http=False)
    yield Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), is_http=False)
    yield Case("SSH", b"SSH-2.0-OpenSSH_9.0\r\n", is_http=False)
    yield Case("zeros", bytes(200_000), is_http=False)
    yield Case("nothing", b"", is_http=False)
    yield Case("a line that never ends", b"POST /predict HTTP/1.1\r\nHost", is_http=False)
    yield Case("200 kB of one header", raw(*start, f"X-A: {'a' * 200_000}", good, body=GOOD), is_http=False)
    yield Case("20,000 headers", raw(*start, *["X-A: a"] * 20_000, good, body=GOOD), is_http=False)
    yield Case("a path of 200 kB", raw(f"GET /{'a' * 200_000} HTTP/1.1", host), is_http=False)
    yield Case("two Hosts", raw(*start, "Host: evil.example", good, body=GOOD), is_http=False)
    yield Case("a header in two lines", raw(*start, "X-A: a", " b", good, body=GOOD), EITHER, is_http=False)
    yield Case("a header with NUL", raw(*start, "X-A: a\0b", good, body=GOOD), is_http=False)
    yield Case("a header without a name", raw(*start, ": b", good, body=GOOD), is_http=False)
    yield Case("a header without a colon", raw(*start, "nothing", good, body=GOOD), is_http=False)
    yield Case(
        "line ends without returns", raw(*start, good, body=GOOD).replace(b"\r\n", b"\n", 5), EITHER, is_http=False
    )
    yield Case("spaces in the path", raw("GET /a b c HTTP/1.1", host, "Connection: close"), is_http=False)
    yield Case("NUL in the path", raw("GET /a\0b HTTP/1.1", host, "Connection: close"), is_http=False)
    yield Case("a path that is not ASCII", raw("GET /\xff\xfe HTTP/1.1", host, "Connection: close"), is_http=False)
    one = raw("POST /predict HTTP/1.1", host, good, body=GOOD)
    yield Case("20 requests at once", one * 20 + http(GOOD), ACCEPTED)
    yield Case("a request after a bad one", raw("GET /nothing HTTP/1.1", host) + http(b"x"), REFUSED)
    yield Case("garbage after a request", http(GOOD) + b"\0\xff" * 1000, ACCEPTED)


@cache
def cases() -> list[Case]:
    found = [Case(name, http(body), statuses) for name, body, statuses in image_bodies()]
    for name, body, statuses in image_bodies():
        if statuses is not ACCEPTED and 0 < len(body) < 20_000 and "%" not in name:
            found.append(Case(f"multipart: {name}", http(multipart(part(body)), FORM), statuses))
    found += [Case(f"JSON: {name}", http(body, JSON)) for name, body in json_bodies()]
    return [*found, *multipart_cases(), *query_cases(), *header_cases(), *connection_cases()]


def check(case: Case, answers: list[Answer]) -> None:
    assert answers or not case.is_http, "no answer"
    for answer in answers:
        assert answer.status in case.statuses or (answer.status == 501 and not case.is_http), answer
        if answer.status < 400:
            continue
        if not case.is_http and answer.body == b"Invalid HTTP request received.":
            continue
        assert answer.type == JSON, answer
        content = json.loads(answer.body)
        assert list(content) == ["error"]
        sentence = content["error"]
        assert sentence
        assert len(sentence) < 900
        assert sentence.isprintable()
        assert not re.search(r"Traceback|File \"|/src/frcnn/|site-packages|Error\(|0x[0-9a-f]{6}", sentence), sentence


@pytest.fixture
def address(serve: Serve) -> str:
    service = serve(limits=LIMITS, max_batch=1)
    assert service.client.post("/predict", content=GOOD).status_code == 200  # what is opened once is open now
    return service.address


_seen: list[tuple[str, object]] | None = None
"""What the process opens, while a test looks."""


def _see(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event in ("open", "os.listdir", "socket.connect", "subprocess.Popen"):
        _seen.append((event, arguments[1] if event == "socket.connect" else arguments[0]))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    monkeypatch.setitem(globals(), "_seen", [])
    sys.addaudithook(_see)
    assert _seen is not None
    return _seen


def test_each_is_refused_and_the_next_good_request_is_answered(address: str, seen: list[tuple[str, object]]) -> None:
    assert len({case.name for case in cases()}) == len(cases()) > 500
    seen.clear()
    failures = []
    for case in cases():
        try:
            check(case, exchange(address, case.raw))
            (good,) = exchange(address, http(GOOD))
            assert good.status == 200
            assert json.loads(good.body)["detections"] == [{"class": "red", "score": 0.9, "box": list(BOX)}]
        except (AssertionError, OSError) as reason:
            failures.append(f"{case.name}: {str(reason)[:300]}")
    assert not failures, "\n".join(failures)
    where = urlsplit(address)
    strange = [each for each in seen if each != ("socket.connect", (where.hostname, where.port))]
    own = (str(Path(frcnn.serve.__file__).parent / "page"), sys.prefix, sys.base_prefix)  # modules of character sets
    assert not [each for each in strange if not str(each[1]).startswith(own)]  # no name in a request is opened


def test_they_leave_nothing_behind(address: str) -> None:
    process = psutil.Process()

    def left_after_all_cases() -> dict[str, int]:
        for case in cases():
            exchange(address, case.raw)
        time.sleep(0.2)
        gc.collect()
        return {
            "files": process.num_fds(),
            "threads": threading.active_count(),
            "tasks": sum(type(each) is asyncio.Task and not each.done() for each in gc.get_objects()),
        }

    # A pool starts a thread only when none is idle: its number of threads settles after some rounds. A leak never does.
    rounds = [left_after_all_cases()]
    memory = process.memory_info().rss
    while len(rounds) < 2 or rounds[-1] != rounds[-2]:
        assert len(rounds) < 10, rounds
        rounds.append(left_after_all_cases())
    assert process.memory_info().rss < memory + 15 * len(rounds) * 2**20
