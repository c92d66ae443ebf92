"""The pages in a real browser: a person tries the model, copies requests, and reads about the addresses."""

import ast
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, FilePayload, Page, Route, expect
from service import BOX, TOKEN, FakeRuntime, Serve, Service, photo

from frcnn.data.transforms import PaddedBatch
from frcnn.inference.results import Detections
from frcnn.inference.runtimes import BatchResult

LAPTOP = {"width": 1366, "height": 768}
PHONE = {"width": 390, "height": 844}
TEXT = "'\"`$(touch pwned)`touch pwned`;touch pwned #\\\n%s{a,b}[1-3]!&|<>*~ é\u202e😀"
MARKUP = "<img src=x onerror=\"document.body.id='pwned'\"><script>document.body.id='pwned'</script>"


class Many(FakeRuntime):
    """Finds 300 objects of two classes in every image; their scores go from 0.9 to 0.02."""

    def detect(self, batch: PaddedBatch) -> BatchResult:
        self.batches.append(len(batch.images))
        left = np.arange(300, dtype=np.float32)[:, None] % 20 * 6
        top = np.arange(300, dtype=np.float32)[:, None] // 20 * 6
        boxes = np.concatenate([left, top, left + 8, top + 8], axis=1)
        scores, classes = np.linspace(0.9, 0.02, 300, dtype=np.float32), np.arange(300) % 2
        size = tuple(round(float(value)) for value in batch.original_sizes[0])
        return BatchResult([Detections(boxes, scores, classes, self.classes, size=(size[0], size[1]))], None)


# ------------------------------------------------------------------------------------------------------------ fixtures


def watched(context: BrowserContext, failures: list[str]) -> Page:
    """A tab. Scripts that fail, what the security policy blocks, and requests to other origins are failures."""
    page = context.new_page()

    def check(address: str) -> None:
        own, other = urlsplit(page.url), urlsplit(address)
        if other.scheme not in ("data", "blob") and own.netloc and other.netloc != own.netloc:
            failures.append(f"{page.url} asks {address}")

    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda request: check(request.url))
    return page


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """At the size of a laptop."""
    failures: list[str] = []
    with browser.new_context(viewport=LAPTOP, permissions=["clipboard-read", "clipboard-write"]) as context:
        yield watched(context, failures)
    assert not failures


@pytest.fixture(scope="module")
def browser_with_camera(browser: Browser) -> Iterator[Browser]:
    """The camera shows a green picture that moves, and nobody is asked."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert path is not None  # `browser` has found one
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    started = browser.browser_type.launch(executable_path=path, args=["--no-sandbox", *camera])
    yield started
    started.close()


@pytest.fixture
def tab_with_camera(browser_with_camera: Browser) -> Iterator[Page]:
    failures: list[str] = []
    with browser_with_camera.new_context(viewport=LAPTOP) as context:
        yield watched(context, failures)
    assert not failures


# ------------------------------------------------------------------------------------------------------------- helpers


def start(tab: Page, service: Service) -> None:
    tab.goto(service.address)
    expect(tab.locator("#model")).to_have_text("model.onnx")


def file(name: str = "photo.png", content: bytes | None = None, kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": photo() if content is None else content}


def choose(tab: Page, *files: FilePayload) -> None:
    tab.locator("#files").set_input_files(files or [file()])


def rows(tab: Page) -> list[str]:
    """The rows of the table that can be seen, with a space between the cells."""
    return [" ".join(row.split()) for row in tab.locator("#detections tr:visible").all_inner_texts()]


def counts(tab: Page) -> dict[str, str]:
    """Number of objects of each class in the list."""
    visible = tab.locator("#classes li:visible").all()
    return {row.locator("bdi").inner_text(): row.locator(".detail").inner_text() for row in visible}


def color_at(tab: Page, x: float, y: float) -> list[int]:
    """Red, green, blue and opacity of what is drawn over a pixel of the image."""
    return tab.evaluate(
        """async ([x, y]) => {
          const canvas = document.getElementById("boxes");
          for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
          const shown = [...document.querySelectorAll("#photo, #camera")].find((element) => !element.hidden);
          const [across, down] = [shown.naturalWidth ?? shown.videoWidth, shown.naturalHeight ?? shown.videoHeight];
          const scale = Math.min(canvas.width / across, canvas.height / down);
          const left = (canvas.width - across * scale) / 2, top = (canvas.height - down * scale) / 2;
          return [...canvas.getContext("2d").getImageData(left + x * scale, top + y * scale, 1, 1).data];
        }""",
        [x, y],
    )


def slide(tab: Page, value: float) -> None:
    tab.locator("#threshold").fill(str(value))


def send(tab: Page, event: str, *files: FilePayload) -> None:
    """A drop or paste of files, as the browser reports it."""
    tab.evaluate(
        """([event, files]) => {
          const transfer = new DataTransfer();
          for (const { name, type, content } of files) {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
          }
          const made = event === "paste"
            ? new ClipboardEvent(event, { clipboardData: transfer, bubbles: true, cancelable: true })
            : new DragEvent(event, { dataTransfer: transfer, bubbles: true, cancelable: true });
          document.querySelector("#requests").dispatchEvent(made);
        }""",
        [
            event,
            [
                {"name": each["name"], "type": each["mimeType"], "content": base64.b64encode(each["buffer"]).decode()}
                for each in files
            ],
        ],
    )


# ------------------------------------------------------------------------------------------------------------- results


def test_choosing_a_photo_draws_boxes_and_counts(tab: Page, serve: Serve) -> None:
    service = serve()
    start(tab, service)
    expect(tab.locator("#save-json")).to_be_disabled()
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")
    expect(tab.locator("#time")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(tab.locator("#size")).to_have_text("128 × 96 pixels")
    expect(tab.locator("#status")).to_have_text("1 object in photo.png")
    assert rows(tab) == ["red 0.90 10, 20, 50, 60"]
    red = service.client.get("/model").json()["colors"]["red"]
    assert color_at(tab, BOX[2], 40) == [*bytes.fromhex(red[1:]), 255]
    assert color_at(tab, 30, 40)[3] == 0


def test_slider_and_classes_act_without_another_request(tab: Page, serve: Serve) -> None:
    runtime = FakeRuntime()
    start(tab, serve(runtime, threshold=0.425))
    expect(tab.locator("#least")).to_have_text("0.425")
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    slide(tab, 0.38)
    assert counts(tab) == {"blue": "1", "red": "1"}
    slide(tab, 0.5)
    assert (tab.locator("#count").inner_text(), len(rows(tab)), counts(tab)) == ("1 object", 1, {"red": "1"})
    slide(tab, 0.95)
    assert (tab.locator("#count").inner_text(), rows(tab), counts(tab)) == ("0 objects", [], {})
    assert color_at(tab, BOX[2], 40)[3] == 0
    slide(tab, 0.01)
    assert [row.split()[0] for row in rows(tab)] == ["red", "blue"]
    tab.get_by_label("red").uncheck()
    assert [row.split()[0] for row in rows(tab)] == ["blue"]
    assert counts(tab) == {"blue": "1", "red": "1"}
    tab.locator("#none").click()
    assert (rows(tab), counts(tab)) == ([], {"blue": "1", "red": "1"})
    tab.locator("#all").click()
    assert len(rows(tab)) == 2
    assert (asked, runtime.batches) == ([], [1])


def test_rows_and_boxes_stand_out_together(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")
    tab.locator("#detections tr:visible").hover()
    assert color_at(tab, 30, 40)[3] > 0
    tab.mouse.move(0, 0)
    assert color_at(tab, 30, 40)[3] == 0
    frame = tab.locator("#stage").bounding_box()
    assert frame is not None
    scale = min(frame["width"] / 128, frame["height"] / 96)
    middle = (frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    tab.mouse.move(middle[0] + (30 - 64) * scale, middle[1] + (40 - 48) * scale)
    expect(tab.locator("#detections tr.marked")).to_have_count(1)
    tab.mouse.move(middle[0] + (100 - 64) * scale, middle[1] + (80 - 48) * scale)
    expect(tab.locator("#detections tr.marked")).to_have_count(0)


def test_several_photos(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    choose(tab, file("a.png"), file("b.jpg", b"no image", "image/jpeg"), file("c.png"))
    marks = tab.locator("#photos .mark")
    expect(marks).to_have_text(["1", "error", "1"])
    expect(tab.locator("#status")).to_have_text("1 object in a.png")
    tab.locator("#photos button").nth(1).click()
    expect(tab.locator("#status")).to_have_class("failed")
    expect(tab.locator("#count")).to_have_text("–")
    tab.locator("#photos button").nth(2).click()
    expect(tab.locator("#status")).to_have_text("1 object in c.png")
    expect(tab.locator("#photos button[aria-current] img")).to_have_attribute("alt", "c.png")
    slide(tab, 0.3)
    expect(marks).to_have_text(["2", "error", "2"])


def test_an_older_answer_does_not_replace_a_newer_photo(tab: Page, serve: Serve) -> None:
    blocked = threading.Event()
    start(tab, serve(FakeRuntime(lambda batch: blocked.wait(10) and None)))
    choose(tab, file("a.png"))
    expect(tab.locator("#status")).to_have_text("Detecting …")
    choose(tab, file("b.png"))
    tab.wait_for_timeout(200)
    expect(tab.locator("#stage")).to_have_class("busy")
    blocked.set()
    expect(tab.locator("#status")).to_have_text("1 object in b.png")
    tab.wait_for_timeout(200)
    expect(tab.locator("#photo")).to_have_attribute("alt", "b.png")


def test_many_detections_stay_fast(tab: Page, serve: Serve) -> None:
    start(tab, serve(Many()))
    choose(tab)
    expect(tab.locator("#count")).to_have_text(re.compile(r"^1\d\d objects"))
    slide(tab, 0.01)
    expect(tab.locator("#count")).to_have_text("300 objects")
    milliseconds = tab.evaluate(
        """async () => {
          const slider = document.getElementById("threshold");
          const start = performance.now();
          for (let step = 0; step < 20; step += 1) {
            slider.value = step % 2 ? 0.01 : 0.5;
            slider.dispatchEvent(new Event("input"));
            await new Promise(requestAnimationFrame);
          }
          return (performance.now() - start) / 20;
        }"""
    )
    assert milliseconds < 500  # of one step; the machines of tests are slow and busy


def test_drop_and_paste(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    send(tab, "dragover", file())
    expect(tab.locator("body")).to_have_class("drop")
    send(tab, "drop", file("dropped.png"))
    expect(tab.locator("#status")).to_have_text("1 object in dropped.png")
    expect(tab.locator("body")).not_to_have_class("drop")
    send(tab, "paste", file("pasted.png"))
    expect(tab.locator("#status")).to_have_text("1 object in pasted.png")
    send(tab, "paste")  # text
    expect(tab.locator("#status")).to_have_text("1 object in pasted.png")


def test_an_upright_photo_that_is_stored_on_its_side(tab: Page, serve: Serve) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    start(tab, serve())
    choose(tab, file("phone.jpg", photo(form="JPEG", exif=exif), "image/jpeg"))
    expect(tab.locator("#size")).to_have_text("96 × 128 pixels")
    assert tab.locator("#photo").evaluate("photo => [photo.naturalWidth, photo.naturalHeight]") == [96, 128]


def test_a_photo_that_the_browser_cannot_show(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    choose(tab, file("scan.tif", photo(form="TIFF"), "image/tiff"))
    expect(tab.locator("#status")).to_have_text("1 object in scan.tif; the browser cannot show this photo")
    expect(tab.locator("#save-json")).to_be_enabled()
    expect(tab.locator("#save-picture")).to_be_disabled()


def test_downloads(tab: Page, serve: Serve, tmp_path: Path) -> None:
    start(tab, serve())
    choose(tab, file("my photo.png"))
    expect(tab.locator("#count")).to_have_text("1 object")
    with tab.expect_download() as download:
        tab.locator("#save-json").click()
    assert download.value.suggested_filename == "my photo.json"
    assert json.loads(download.value.path().read_text()) == {
        "image": "my photo.png",
        "width": 128,
        "height": 96,
        "detections": [{"class": "red", "score": 0.9, "box": list(BOX)}],
    }
    with tab.expect_download() as download:
        tab.locator("#save-picture").click()
    assert download.value.suggested_filename == "my photo.boxes.jpg"
    picture = Image.open(BytesIO(download.value.path().read_bytes()))
    assert picture.size == (128, 96)
    before = np.asarray(Image.open(BytesIO(photo())), int)
    changed = np.abs(np.asarray(picture, int) - before)
    assert changed[20:60, 8:12].mean() > 40  # the left side of the box
    assert changed[70:, 70:].mean() < 20  # noise, which JPEG changes too


# -------------------------------------------------------------------------------------------------------------- camera


def test_camera_snapshot(tab_with_camera: Page, serve: Serve) -> None:
    tab, runtime = tab_with_camera, FakeRuntime()
    start(tab, serve(runtime))
    tab.locator("#use-camera").click()
    expect(tab.locator("#camera")).to_be_visible()
    expect(tab.locator("#snap")).to_have_text("Detect")
    tab.wait_for_timeout(300)
    assert runtime.batches == []
    tab.locator("#snap").click()
    expect(tab.locator("#status")).to_have_text("1 object in camera.jpg")
    expect(tab.locator("#photo")).to_be_visible()
    assert tab.locator("#photo").evaluate("photo => photo.naturalWidth") > 100
    tab.get_by_role("button", name="Live").click()
    expect(tab.locator("#camera")).to_be_visible()
    expect(tab.locator("#count")).to_have_text("–")
    track = tab.evaluate_handle("document.getElementById('camera').srcObject.getVideoTracks()[0]")
    tab.locator("#use-camera").click()
    assert track.evaluate("track => track.readyState") == "ended"
    expect(tab.locator("#camera")).to_be_hidden()
    expect(tab.locator("#camera-tools")).to_be_hidden()
    expect(tab.locator("#hint")).to_be_visible()
    assert tab.locator("#camera").evaluate("video => video.srcObject") is None
    assert runtime.batches == [1]


def test_camera_sends_the_next_frame_after_each_answer(tab_with_camera: Page, serve: Serve) -> None:
    tab, both, runs, most = tab_with_camera, threading.Lock(), [0], [0]

    def count(batch: PaddedBatch) -> None:
        with both:
            runs[0] += 1
            most[0] = max(most[0], len(batch.images))

    start(tab, serve(FakeRuntime(count)))
    tab.locator("#use-camera").click()
    tab.locator("#continuous").check()
    expect(tab.locator("#snap")).to_be_disabled()
    expect(tab.locator("#count")).to_have_text("1 object")
    expect(tab.locator("#camera")).to_be_visible()
    before = runs[0]
    tab.wait_for_timeout(1500)
    assert runs[0] > before + 1
    assert most[0] == 1
    assert color_at(tab, BOX[2], 40)[3] > 0
    tab.locator("#continuous").uncheck()
    expect(tab.locator("#photo")).to_be_visible()  # the frame that the boxes belong to
    tab.wait_for_timeout(300)
    before = runs[0]
    tab.wait_for_timeout(500)
    assert runs[0] == before
    choose(tab)  # stops the camera
    expect(tab.locator("#status")).to_have_text("1 object in photo.png")
    expect(tab.locator("#camera-tools")).to_be_hidden()


def test_a_snapshot_is_answered_though_the_camera_is_stopped(tab_with_camera: Page, serve: Serve) -> None:
    tab, may_answer = tab_with_camera, threading.Event()

    def wait(batch: PaddedBatch) -> None:
        may_answer.wait(10)

    start(tab, serve(FakeRuntime(wait)))
    tab.locator("#use-camera").click()
    expect(tab.locator("#camera")).to_be_visible()
    tab.wait_for_timeout(300)
    tab.locator("#snap").click()
    expect(tab.locator("#status")).to_have_text("Detecting …")
    tab.locator("#use-camera").click()
    expect(tab.locator("#camera-tools")).to_be_hidden()
    may_answer.set()
    expect(tab.locator("#status")).to_have_text("1 object in camera.jpg")
    expect(tab.locator("#stage")).not_to_have_class("busy")


def test_camera_goes_on_after_an_error(tab_with_camera: Page, serve: Serve) -> None:
    tab, fails = tab_with_camera, True

    def broken(batch: PaddedBatch) -> None:
        if fails:
            raise ValueError("no luck")

    start(tab, serve(FakeRuntime(broken)))
    tab.locator("#use-camera").click()
    tab.locator("#continuous").check()
    expect(tab.locator("#status")).to_have_class("failed")
    fails = False
    expect(tab.locator("#count")).to_have_text("1 object")
    expect(tab.locator("#status")).to_be_empty()


def test_no_camera(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    tab.locator("#use-camera").click()
    expect(tab.locator("#status")).to_contain_text("The browser gives no camera")
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_in_the_words_of_the_service(tab: Page, serve: Serve) -> None:
    service = serve()
    start(tab, service)
    choose(tab, file("text.jpg", b"a text", "image/jpeg"))
    answer = service.client.post("/predict", content=b"a text")
    expect(tab.locator("#status")).to_have_text(answer.json()["error"])
    expect(tab.locator("#status")).to_have_class("failed")
    choose(tab, file("list.json", b"[1]", "application/json"))  # not read as a body of JSON
    expect(tab.locator("#status")).to_have_text(service.client.post("/predict", content=b"[1]").json()["error"])
    choose(tab)
    expect(tab.locator("#status")).to_have_text("1 object in photo.png")
    service.stop()
    service.thread.join()
    choose(tab)
    expect(tab.locator("#status")).to_have_text("No answer from the service; is it still running?")


def test_token(tab: Page, serve: Serve) -> None:
    service = serve(token=TOKEN)
    tab.goto(service.address)
    words = service.client.get("/model").json()["error"]
    expect(tab.locator("#status")).to_have_text(words)
    expect(tab.locator("#token")).to_be_focused()
    choose(tab)  # it waits for the token
    expect(tab.locator("#photo")).to_be_visible()
    for wrong in ("wrong-token", "é"):
        tab.locator("#token").fill(wrong)
        tab.keyboard.press("Enter")
        expect(tab.locator("#status")).to_contain_text("token")
        expect(tab.locator("#status")).to_have_class("failed")
        expect(tab.locator("#sign-in")).to_be_visible()
    tab.locator("#token").fill("wrong-token")
    tab.keyboard.press("Enter")
    expect(tab.locator("#status")).to_have_text(f"This token is wrong. {words}")
    tab.locator("#token").fill(TOKEN)
    tab.keyboard.press("Enter")
    expect(tab.locator("#status")).to_have_text("1 object in photo.png")
    expect(tab.locator("#sign-in")).to_be_hidden()
    assert TOKEN not in tab.content()
    tab.reload()
    expect(tab.locator("#model")).to_have_text("model.onnx")
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")
    assert all("FRCNN_TOKEN" in text for text in samples(tab, "curl"))
    assert tab.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_names_stay_text(tab: Page, serve: Serve) -> None:
    names = (MARKUP, "__proto__", TEXT)
    service = serve(FakeRuntime(classes=names), threshold=0.3)
    start(tab, service)
    choose(tab, file(f"{MARKUP.replace('/', '')}.png"))
    expect(tab.locator("#count")).to_have_text("2 objects")
    assert tab.locator("#detections bdi").all_text_contents() == [TEXT, MARKUP]
    assert tab.locator("#classes bdi").all_text_contents() == list(names)
    assert tab.locator("#detections img, #classes img, #status img, script").count() == 1  # the page's own script
    expect(tab.locator("#status")).to_contain_text("<img")
    tab.locator("#detections tr").first.hover()
    assert color_at(tab, BOX[2], 40)[3] > 0
    expect(tab.locator("body")).not_to_have_attribute("id", "pwned")


# ------------------------------------------------------------------------------------------------------------ keyboard


def test_keyboard_only(tab: Page, serve: Serve) -> None:
    tab.on("filechooser", lambda chooser: None)  # from now on: `expect_file_chooser` alone may be too late
    start(tab, serve(threshold=0.3))
    press = tab.keyboard.press

    def go_to(selector: str) -> None:
        for _ in range(12):
            press("Tab")
            if tab.locator(selector).evaluate("element => element === document.activeElement"):
                break
        expect(tab.locator(selector)).to_be_focused()
        shown = (
            "element => getComputedStyle(element.id === 'files' ? element.nextElementSibling : element).outlineStyle"
        )
        assert tab.locator(selector).evaluate(shown) == "solid"

    go_to("#files")
    with tab.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files([file()])
    expect(tab.locator("#count")).to_have_text("2 objects")
    go_to("#threshold")
    for _ in range(15):
        press("ArrowRight")
    expect(tab.locator("#least")).to_have_text("0.45")
    expect(tab.locator("#count")).to_have_text("1 object")
    press("Home")
    expect(tab.locator("#count")).to_have_text("2 objects")
    go_to("#classes li:nth-child(2) input")
    press("Space")
    expect(tab.locator("#count")).to_have_text("1 object")
    press("Space")
    go_to("#detections tr:nth-child(1)")
    press("ArrowDown")
    expect(tab.locator("#detections tr:nth-child(2)")).to_be_focused()
    expect(tab.locator("#detections tr.marked")).to_contain_text("blue")
    press("Home")
    expect(tab.locator("#detections tr.marked")).to_contain_text("red")
    go_to("#save-json")
    with tab.expect_download():
        press("Enter")
    go_to("#languages input[value=curl]")
    press("ArrowRight")
    expect(tab.locator("#samples section:visible")).to_have_attribute("aria-label", "Python")
    press("Tab")
    press("Enter")
    expect(tab.locator("#samples section:visible .sample button").first).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == samples(tab, "Python")[0]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_phone_needs_no_scrolling_sideways(tab: Page, serve: Serve, path: str) -> None:
    service = serve(FakeRuntime(classes=("a" * 300, "b" * 300)), threshold=0.3)
    tab.set_viewport_size(PHONE)
    tab.goto(service.address + path)
    if path == "/":
        choose(tab)
        expect(tab.locator("#count")).to_have_text("2 objects")
    else:
        tab.locator("article").first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_every_control_has_a_name(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    choose(tab)
    expect(tab.locator("#count")).to_have_text("1 object")
    tree = tab.locator("body").aria_snapshot()
    assert not re.findall(r"^\s*- (?:button|checkbox|radio|slider|textbox|link)(?! [\"/]).*$", tree, re.MULTILINE)


# ------------------------------------------------------------------------------------------------------------- samples


def samples(tab: Page, language: str) -> list[str]:
    return tab.locator(f"#samples section[aria-label={language}] code").all_text_contents()


def run(command: Sequence[str], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment["FRCNN_TOKEN"] = TOKEN
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def size_of(path: Path) -> tuple[int, int]:
    return Image.open(BytesIO(path.read_bytes())).size


def check_answers(answers: Sequence[Any], name: str) -> None:
    """Those of nine samples; one gives a picture."""
    one, several, encoded, least, one_class, tiles, coco, token, model = answers
    assert [each["class"] for each in one["detections"]] == ["red", name]
    assert len(several) == 2
    assert least["detections"] == one["detections"][:1]
    assert {each["class"] for each in one_class["detections"]} == {name}
    assert len(encoded["detections"]) == len(tiles["detections"]) == len(token["detections"]) == len(coco) == 2
    assert (coco[0]["category_id"], model["name"]) == (2, "model.onnx")


@pytest.fixture(params=[None, TOKEN], ids=["no token", "token"])
def tab_with_samples(request: pytest.FixtureRequest, tab: Page, serve: Serve) -> Page:
    """Of a model whose first class has a hostile name; the threshold of the page is 0.6, that of the service 0.3."""
    service = serve(FakeRuntime(classes=(TEXT, "red")), threshold=0.3, token=request.param)
    tab.goto(service.address)
    if request.param:
        tab.locator("#token").fill(TOKEN)
        tab.keyboard.press("Enter")
    expect(tab.locator("#model")).to_have_text("model.onnx")
    slide(tab, 0.6)
    return tab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photo.jpg", "photo1.jpg", "photo2.jpg"):
        (tmp_path / name).write_bytes(photo(form="JPEG"))
    return tmp_path


def test_thirty_samples_with_a_button_each(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    assert [len(samples(tab, language)) for language in ("curl", "Python", "JavaScript")] == [10, 10, 10]
    assert tab.locator("#samples .sample button").count() == 30
    topics = [section.locator("h3").all_text_contents() for section in tab.locator("#samples section").all()]
    assert topics[0] == topics[1] == topics[2]
    assert len(set(topics[0])) == 10


def test_curl_samples_run(tab_with_samples: Page, folder: Path) -> None:
    texts = samples(tab_with_samples, "curl")
    said = [run(["bash", "-c", text], folder) for text in texts]
    assert size_of(folder / "boxes.jpg") == (128, 96)
    check_answers([json.loads(text) for text in said if text], TEXT)
    assert not (folder / "pwned").exists()


def test_python_samples_run(tab_with_samples: Page, folder: Path) -> None:
    texts = samples(tab_with_samples, "Python")
    said = [run([sys.executable, "-I", "-X", "utf8", "-W", "error", "-c", text], folder) for text in texts]
    assert size_of(folder / "boxes.jpg") == (128, 96)
    check_answers([ast.literal_eval(text) for text in said if text], TEXT)
    assert max(len(line) for text in texts for line in text.split("\n") if "touch" not in line) <= 88


def test_javascript_samples_run(tab_with_samples: Page) -> None:
    tab = tab_with_samples
    tab.locator("#files").set_input_files([file("1.png"), file("2.png")])
    expect(tab.locator("#photos .mark")).to_have_text(["1", "1"])
    answers, downloads = [], []
    tab.on("download", lambda download: downloads.append(download))
    for text in samples(tab, "JavaScript"):
        said = text.replace("console.log(await answer.json());", "return await answer.json();")
        answers.append(tab.evaluate(f"async () => {{ {said} }}"))
    tab.wait_for_timeout(300)
    assert [download.suggested_filename for download in downloads] == ["boxes.jpg"]
    assert size_of(downloads[0].path()) == (128, 96)
    check_answers([answer for answer in answers if answer is not None], TEXT)


@pytest.mark.parametrize("text", [TEXT, MARKUP, "", "\\", "a\x00b\r\x1b"], ids=["shell", "markup", "", "\\", "control"])
def test_literals_mean_the_text(tab: Page, serve: Serve, text: str, tmp_path: Path) -> None:
    start(tab, serve())
    written = tab.evaluate(
        """async (text) => {
          const { shellWord, pythonText, scriptText } = await import("/page/samples.js");
          return [shellWord(text), pythonText(text), scriptText(text)];
        }""",
        text,
    )
    assert ast.literal_eval(written[1]) == text
    assert tab.evaluate(written[2]) == text
    assert written[1].isascii()
    assert written[1].isprintable()
    if "\0" not in text:  # no word of a shell can have it
        assert run(["bash", "-c", f"printf %s {written[0]}"], tmp_path) == text
        assert not (tmp_path / "pwned").exists()


def test_hostile_addresses_stay_one_word(tab: Page, serve: Serve, folder: Path) -> None:
    start(tab, serve())
    base = f"http://host{TEXT}"
    made = tab.evaluate(
        """async (base) => {
          const { makeSamples } = await import("/page/samples.js");
          const groups = makeSamples({ base, threshold: 0.123456, name: "\\ud800", needsToken: true });
          return groups.map(({ samples }) => samples.map(({ text }) => text));
        }""",
        base,
    )
    for text in made[0]:
        said = run(["bash", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}\n{text}"], folder)
        assert said.split("\0")[-2].startswith((f"{base}/predict", f"{base}/model"))
    assert not (folder / "pwned").exists()
    for text in made[1]:
        constants = [each.value for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Constant)]
        assert any(value in (f"{base}/predict", f"{base}/model") for value in constants)
    assert "threshold=0.123'" in made[0][3]


# ---------------------------------------------------------------------------------------------------------------- docs


def test_docs_show_every_address_and_schema(tab: Page, serve: Serve) -> None:
    service = serve()
    tab.goto(f"{service.address}/docs")
    document = service.client.get("/openapi.json").json()
    expect(tab.locator("#status")).to_be_hidden()
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            article = tab.locator(f"[id='{method}-{path}']")
            expect(article.locator("h3")).to_have_text(f"{method.upper()} {path}")
            expect(article).to_contain_text(about["summary"])
            for parameter in about.get("parameters", ()):
                expect(article).to_contain_text(parameter["description"])
            for status, answer in about["responses"].items():
                expect(article.locator("tr", has_text=status)).to_contain_text([answer["description"]])
            for kind in about.get("requestBody", {"content": {}})["content"]:
                expect(article).to_contain_text(kind)
    for name, schema in document["components"]["schemas"].items():
        for key in schema["properties"]:
            expect(tab.locator(f"#schema-{name}")).to_contain_text(key)
    assert "[object" not in tab.locator("body").inner_text()
    tab.locator("article a", has_text="Detection").first.click()
    expect(tab.locator("#schema-Detection")).to_be_in_viewport()


def test_pages_link_to_each_other(tab: Page, serve: Serve) -> None:
    start(tab, serve())
    tab.get_by_role("link", name="Endpoints").click()
    expect(tab.locator("article").first).to_be_visible()
    tab.get_by_role("link", name="Try the model").click()
    expect(tab.locator("#model")).to_have_text("model.onnx")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"info": 1, "paths": [], "components": None},
        {"info": {"title": MARKUP, "description": MARKUP}, "paths": {MARKUP: {"get": {"summary": MARKUP}}}},
        {
            "paths": {
                "/a": {
                    "parameters": [{"$ref": "#/components/parameters/p"}, None, {"$ref": "#/nothing/here"}],
                    "put": {"parameters": "x", "requestBody": {"$ref": "#/components/x"}, "responses": {"200": None}},
                    "get": {
                        "responses": {
                            "default": {"content": {"a/b": {"schema": False}, "c/d": {"schema": True}, "e/f": {}}},
                            "200": {"content": {"x/y": {"schema": {"$ref": "#/components/schemas/Tree"}}}},
                        }
                    },
                }
            },
            "components": {
                "parameters": {"p": {"name": MARKUP, "in": "path", "required": True, "schema": {"enum": [MARKUP]}}},
                "schemas": {
                    "Tree": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                    "__proto__": {"anyOf": [{"const": MARKUP}, 3, None], "pattern": MARKUP},
                },
            },
        },
    ],
    ids=["empty", "other types", "markup", "references"],
)
def test_docs_of_any_content(tab: Page, serve: Serve, document: dict[str, Any]) -> None:
    def answer(route: Route) -> None:
        route.fulfill(status=200, content_type="application/json", body=json.dumps(document))

    service = serve()
    tab.route("**/openapi.json", answer)
    tab.goto(f"{service.address}/docs#%")
    expect(tab.locator("#status")).to_be_hidden()
    assert tab.locator("#content img, #content script").count() == 0
    if "info" in document and isinstance(document["info"], dict):
        expect(tab.locator("#content")).to_contain_text(MARKUP)
    if document.get("components"):
        expect(tab.locator("#content")).to_contain_text("list of Tree")
        expect(tab.locator("#content")).to_contain_text("path, required")
    expect(tab.locator("body")).not_to_have_attribute("id", "pwned")


def test_docs_of_a_service_that_fails(tab: Page, serve: Serve) -> None:
    service = serve()
    tab.route("**/openapi.json", lambda route: route.fulfill(status=500, json={"error": "It failed."}))
    tab.goto(f"{service.address}/docs")
    expect(tab.locator("#status")).to_have_text("It failed.")
    tab.unroute("**/openapi.json")
    tab.route("**/openapi.json", lambda route: route.abort())
    tab.reload()
    expect(tab.locator("#status")).to_have_text("No answer from the service; is it still running?")
