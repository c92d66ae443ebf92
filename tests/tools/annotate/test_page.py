"""The page in a real browser: what a person does with it, and what is in the folder then."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Dialog, Page, Route, expect
from serving import Serve
from tiny import detections_of, draw_image, train_tiny, write_tiny

from frcnn.inference.results import Detections

Point = tuple[float, float]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(3):
        draw_image([], seed=number).save(tmp_path / f"{number}.png")
    return tmp_path


def start(tab: Page, address: str) -> None:
    tab.goto(address)
    expect(tab.locator("#about")).to_contain_text("pixels")
    expect(tab.locator("#photo")).to_be_visible()


def on_screen(tab: Page, point: Point) -> Point:
    """Where a pixel of the image is."""
    frame = tab.locator("#photo").bounding_box()
    assert frame is not None
    width, height = tab.locator("#photo").evaluate("photo => [photo.naturalWidth, photo.naturalHeight]")
    return frame["x"] + point[0] * frame["width"] / width, frame["y"] + point[1] * frame["height"] / height


def drag(tab: Page, start: Point, end: Point) -> None:
    tab.mouse.move(*on_screen(tab, start))
    tab.mouse.down()
    tab.mouse.move(*on_screen(tab, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)))
    tab.mouse.move(*on_screen(tab, end))
    tab.mouse.up()


def click(tab: Page, point: Point) -> None:
    tab.mouse.click(*on_screen(tab, point))


def draw_in_another_tab(tab: Page, address: str) -> Page:
    other = tab.context.new_page()
    start(other, address)
    drag(other, (60, 20), (100, 70))
    saved(other)
    return other


def saved(tab: Page) -> None:
    expect(tab.locator("#saving")).to_have_text("saved")


def boxes(folder: Path, stem: str) -> list[list[float]]:
    lines = (folder / f"{stem}.bboxes.tsv").read_text().splitlines()
    return [[float(value) for value in line.split("\t")] for line in lines]


def labels(folder: Path, stem: str) -> list[str]:
    return (folder / f"{stem}.bboxes.labels.tsv").read_text().splitlines()


def test_draw_label_move_resize_undo_save_reload(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos))
    expect(tab.locator("#progress")).to_contain_text("0 of 3 done")
    drag(tab, (10, 20), (50, 70))
    tab.locator("#name").fill("cat")  # no class is known yet, so the page asks
    tab.keyboard.press("Enter")
    expect(tab.locator("#about")).to_contain_text("1 object")
    saved(tab)
    assert (boxes(photos, "0"), labels(photos, "0")) == ([[10, 20, 50, 70]], ["cat"])

    drag(tab, (30, 40), (45, 30))  # the box is selected: it moves
    saved(tab)
    assert boxes(photos, "0") == [[25, 10, 65, 60]]
    drag(tab, (65, 60), (100, 90))  # its lower right handle
    saved(tab)
    assert boxes(photos, "0") == [[25, 10, 100, 90]]
    tab.keyboard.press("Control+z")
    tab.keyboard.press("Control+z")
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]
    tab.locator("#redo").click()
    saved(tab)
    assert boxes(photos, "0") == [[25, 10, 65, 60]]

    tab.locator("#new-class").fill("dog")
    tab.locator("#add-class button").click()
    click(tab, (120, 90))  # on nothing: no box is selected
    tab.keyboard.press("2")
    drag(tab, (70, 10), (120, 40))
    saved(tab)
    assert labels(photos, "0") == ["cat", "dog"]

    tab.reload()
    expect(tab.locator("#about")).to_contain_text("2 objects")
    expect(tab.locator(".box .label")).to_have_text(["cat", "dog"])
    expect(tab.locator("#progress")).to_contain_text("1 of 3 done")
    assert tab.locator("#images .mark").all_inner_texts() == ["✓ 2", "to do", "to do"]


def test_a_box_inside_another_can_be_drawn_reached_and_deleted(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 10), (110, 90))
    tab.keyboard.press("Escape")
    drag(tab, (40, 30), (70, 60))
    tab.keyboard.press("Escape")
    click(tab, (50, 50))
    expect(tab.locator(".box.selected")).to_have_attribute("aria-label", "cat, 2 of 2")
    tab.keyboard.press("Delete")
    saved(tab)
    assert boxes(photos, "0") == [[10, 10, 110, 90]]
    drag(tab, (100, 80), (127, 95))  # the remaining one is selected, so it moves, and stays inside
    saved(tab)
    assert boxes(photos, "0") == [[28, 16, 128, 96]]


def test_keyboard_only(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat", "dog")))
    press = tab.keyboard.press
    press("b")
    saved(tab)
    ((x1, y1, x2, y2),) = boxes(photos, "0")
    for key in ("2", "ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"):
        press(key)
    saved(tab)
    assert (boxes(photos, "0"), labels(photos, "0")) == ([[x1 + 2, y1 - 1, x2 + 3, y2 + 1]], ["dog"])
    press("Enter")
    tab.keyboard.type("owl")
    press("Enter")
    press("Escape")
    press("b")
    saved(tab)
    assert labels(photos, "0") == ["owl", "owl"]
    press("Escape")
    press("ArrowRight")
    expect(tab.locator("#about")).to_contain_text("1.png")
    press("c")  # the boxes of the previous image
    expect(tab.locator("#about")).to_contain_text("2 objects")
    saved(tab)
    assert (boxes(photos, "1"), labels(photos, "1")) == (boxes(photos, "0"), labels(photos, "0"))
    press("Tab")
    expect(tab.locator(".box.selected")).to_have_attribute("aria-label", "owl, 1 of 2")
    press("Tab")
    expect(tab.locator(".box.selected")).to_have_attribute("aria-label", "owl, 2 of 2")
    press("Backspace")
    saved(tab)
    assert len(boxes(photos, "1")) == 1
    press("Escape")
    press("t")
    expect(tab.locator("#about")).to_contain_text("2.png")
    press("e")
    expect(tab.locator("#about")).to_contain_text("no objects")
    saved(tab)
    assert (boxes(photos, "2"), labels(photos, "2")) == ([], [])
    press("PageUp")
    expect(tab.locator("#about")).to_contain_text("1.png")
    press("Control+z")
    saved(tab)
    assert len(boxes(photos, "1")) == 2  # each image has its own history, and keeps it
    expect(tab.locator("#progress")).to_contain_text("3 of 3 done")


def test_an_image_goes_back_to_be_done_only_if_it_was(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    tab.keyboard.press("Delete")
    expect(tab.locator("#about")).to_contain_text("to do")
    saved(tab)
    assert not list(photos.glob("*.tsv"))
    tab.keyboard.press("Control+z")
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]
    # In another session, an annotation that was there is emptied, not taken away.
    start(tab, serve(photos))
    tab.locator("#images button").first.click()
    expect(tab.locator("#photo")).to_be_visible()
    click(tab, (30, 40))
    tab.keyboard.press("Delete")
    expect(tab.locator("#about")).to_contain_text("no objects")
    saved(tab)
    assert boxes(photos, "0") == []


def test_two_tabs(browser: Browser, tab: Page, photos: Path, serve: Serve) -> None:
    address = serve(photos, class_names=("cat",))
    start(tab, address)
    other = draw_in_another_tab(tab, address)
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#saving")).to_have_text("not saved")
    expect(tab.locator("#message")).to_contain_text("was changed elsewhere")
    expect(tab.locator("#message")).to_contain_text("there: 1 object; here: 1")
    assert boxes(photos, "0") == [[60, 20, 100, 70]]  # nothing was overwritten
    tab.get_by_role("button", name="Take theirs").click()
    saved(tab)
    expect(tab.locator("#message")).to_be_hidden()
    expect(tab.locator(".box")).to_have_count(1)
    tab.keyboard.press("Control+z")  # and mine is not lost
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]

    drag(other, (70, 40), (75, 45))
    expect(other.locator("#saving")).to_have_text("not saved")
    other.get_by_role("button", name="Keep mine").click()
    saved(other)
    assert boxes(photos, "0") == [[65, 25, 105, 75]]
    tab.bring_to_front()
    tab.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(tab.locator(".box")).to_have_attribute("style", other.locator(".box").get_attribute("style") or "")


def test_what_somebody_else_has_labeled_is_done(tab: Page, photos: Path, serve: Serve) -> None:
    address = serve(photos, class_names=("cat",))
    start(tab, address)
    tab.keyboard.press("PageDown")
    expect(tab.locator("#about")).to_contain_text("1.png")
    draw_in_another_tab(tab, address)
    tab.bring_to_front()
    tab.keyboard.press("PageUp")
    expect(tab.locator("#images .mark").first).to_have_text("✓ 1")
    expect(tab.locator("#progress")).to_contain_text("1 of 3 done")
    for name in ("1.png", "2.png", "1.png"):
        tab.keyboard.press("t")
        expect(tab.locator("#about")).to_contain_text(name)


def test_work_is_not_lost_while_the_server_is_away(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    place = tab.locator("#photo").bounding_box()
    tab.context.set_offline(True)
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#message")).to_contain_text("The page tries again")
    assert tab.locator("#photo").bounding_box() == place  # under the hand of somebody who draws
    assert tab.evaluate("() => !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    drag(tab, (30, 40), (35, 45))
    tab.context.set_offline(False)
    saved(tab)
    assert boxes(photos, "0") == [[15, 25, 55, 75]]
    expect(tab.locator("#message")).to_be_hidden()
    assert tab.evaluate("() => window.dispatchEvent(new Event('beforeunload', {cancelable: true}))")


def test_a_message_is_said_once_while_the_server_is_away(tab: Page, photos: Path, serve: Serve) -> None:
    """Not at every attempt to save: a screen reader would read it aloud, and its buttons would lose the focus."""
    start(tab, serve(photos, class_names=("cat",)))
    tab.context.set_offline(True)
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#message")).to_contain_text("The page tries again")
    tab.evaluate("""() => {
      window.changes = 0;
      const observer = new MutationObserver(() => { window.changes += 1; });
      for (const id of ["message", "saving"]) observer.observe(document.getElementById(id), { childList: true });
    }""")
    tab.wait_for_timeout(2500)
    assert tab.evaluate("window.changes") == 0
    tab.context.set_offline(False)
    saved(tab)
    expect(tab.locator("#message")).to_be_hidden()


def test_an_answer_that_is_lost_is_no_change_by_others(tab: Page, photos: Path, serve: Serve) -> None:
    ways: list[Callable[[Route], None]] = [lambda route: route.abort()]

    def lose(route: Route) -> None:
        if route.request.method == "PUT" and ways:
            route.fetch()  # the server has saved it
            ways.pop()(route)
        else:
            route.continue_()

    start(tab, serve(photos, class_names=("cat",)))
    tab.route("**/annotations/**", lose)
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#message")).to_contain_text("The page tries again")
    drag(tab, (30, 40), (35, 45))
    saved(tab)
    assert boxes(photos, "0") == [[15, 25, 55, 75]]
    ways.append(lambda route: route.fulfill(status=200, body="{"))  # half of an answer
    drag(tab, (30, 40), (35, 45))
    expect(tab.locator("#message")).to_contain_text("The page tries again")
    saved(tab)
    expect(tab.locator("#message")).to_be_hidden()
    assert boxes(photos, "0") == [[20, 30, 60, 80]]


def test_an_image_that_did_not_come_is_asked_for_again(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    tab.keyboard.press("PageDown")
    expect(tab.locator("#about")).to_contain_text("1.png · 128 × 96 pixels")
    tab.context.set_offline(True)
    tab.keyboard.press("c")
    expect(tab.locator("#message")).to_contain_text("The boxes of the previous image cannot be copied: No answer")
    tab.keyboard.press("PageDown")
    expect(tab.locator("#message")).to_contain_text("No answer from frcnn annotate")
    tab.context.set_offline(False)
    tab.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(tab.locator("#about")).to_contain_text("2.png · 128 × 96 pixels")
    expect(tab.locator("#message")).to_be_hidden()


def test_a_photo_that_comes_later_has_no_message(tab: Page, photos: Path, serve: Serve) -> None:
    tab.route("**/images/1", lambda route: route.abort())
    start(tab, serve(photos))
    tab.keyboard.press("PageDown")
    expect(tab.locator("#message")).to_have_text("The browser cannot show this photo.")
    tab.unroute("**/images/1")
    for name in ("2.png", "1.png"):
        tab.keyboard.press("PageDown" if name == "2.png" else "PageUp")
        expect(tab.locator("#about")).to_contain_text(name)
    expect(tab.locator("#photo")).to_be_visible()
    expect(tab.locator("#message")).to_be_hidden()


def test_a_page_that_cannot_start_says_why(tab: Page, photos: Path, serve: Serve) -> None:
    tab.route("**/overview", lambda route: route.fulfill(status=422, json={"error": "the decisions are damaged"}))
    tab.goto(serve(photos))
    expect(tab.locator("#message")).to_have_text("the decisions are damaged")


def test_a_newer_change_that_is_saved_ends_the_error_of_an_older_one(tab: Page, photos: Path, serve: Serve) -> None:
    refused: list[Route] = []

    def refuse(route: Route) -> None:
        if route.request.method == "PUT" and not refused:
            refused.append(route)
            tab.wait_for_timeout(1000)
            route.fulfill(status=422, json={"error": "the disk is full"})
        else:
            route.continue_()

    start(tab, serve(photos, class_names=("cat",)))
    tab.route("**/annotations/**", refuse)
    drag(tab, (10, 20), (50, 70))
    drag(tab, (30, 40), (35, 45))
    saved(tab)
    expect(tab.locator("#message")).to_be_hidden()
    assert boxes(photos, "0") == [[15, 25, 55, 75]]


def test_what_cannot_be_saved_says_why(tab: Page, tmp_path: Path, serve: Serve) -> None:
    draw_image([], seed=0).save(tmp_path / "1.png")
    (tmp_path / "data.yaml").write_text("train: .\nnames: [cat]\n")
    start(tab, serve(tmp_path))
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    tab.keyboard.press("Enter")
    tab.locator("#name").fill("dog")
    tab.keyboard.press("Enter")
    expect(tab.locator("#message")).to_contain_text("there is no class 'dog' in")
    expect(tab.locator("#saving")).to_have_text("not saved")
    assert (tmp_path / "1.txt").read_text().startswith("0 ")
    (tmp_path / "data.yaml").write_text("train: .\nnames: [cat, dog]\n")
    tab.get_by_role("button", name="Try again").click()
    saved(tab)
    assert (tmp_path / "1.txt").read_text().startswith("1 ")


def test_proposals_are_accepted_corrected_and_dismissed(tab: Page, photos: Path, serve: Serve) -> None:
    answer = detections_of(
        ("cat", 0.9, (10, 10, 40, 40)),
        ("cat", 0.8, (50, 10, 90, 40)),
        ("dog", 0.7, (10, 50, 40, 90)),
        ("dog", 0.6, (60, 50, 90, 90)),
    )
    start(tab, serve(photos, propose=lambda image: answer))
    expect(tab.locator(".box.proposed .label")).to_have_text(["cat 0.90", "cat 0.80", "dog 0.70", "dog 0.60"])
    assert not list(photos.glob("*.tsv"))  # nothing is saved that nobody has accepted
    click(tab, (20, 20))
    tab.keyboard.press("Enter")
    click(tab, (70, 20))
    drag(tab, (70, 20), (75, 25))
    click(tab, (20, 60))
    tab.keyboard.press("Delete")
    saved(tab)
    assert boxes(photos, "0") == [[10, 10, 40, 40], [55, 15, 95, 45]]
    tab.keyboard.press("Escape")
    tab.keyboard.press("y")
    saved(tab)
    assert labels(photos, "0") == ["cat", "cat", "dog"]
    expect(tab.locator(".box.proposed")).to_have_count(0)
    tab.keyboard.press("p")  # only what is not drawn yet
    expect(tab.locator(".box.proposed")).to_have_count(1)


def test_zoom_and_pan(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    before = on_screen(tab, (64, 48))
    tab.mouse.move(*before)
    tab.mouse.wheel(0, -400)
    after = on_screen(tab, (64, 48))
    assert after == pytest.approx(before, abs=1)  # the point under the mouse stays
    wide = tab.locator("#photo").bounding_box()
    assert wide is not None
    tab.keyboard.down(" ")
    tab.mouse.down()
    tab.mouse.move(before[0] + 50, before[1] - 30)
    tab.mouse.up()
    tab.keyboard.up(" ")
    assert on_screen(tab, (64, 48)) == pytest.approx((before[0] + 50, before[1] - 30), abs=1)
    drag(tab, (60, 50), (70, 60))  # drawn where it was meant, also now
    saved(tab)
    assert boxes(photos, "0") == [[60, 50, 70, 60]]
    tab.keyboard.press("0")
    narrow = tab.locator("#photo").bounding_box()
    assert narrow is not None
    assert narrow["width"] < wide["width"]


def test_the_list_shows_what_is_to_do(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos))
    tab.keyboard.press("e")
    saved(tab)
    tab.keyboard.press("t")
    expect(tab.locator("#about")).to_contain_text("1.png")
    tab.locator("#filter").select_option("todo")
    expect(tab.locator("#images .name")).to_have_text(["1.png", "2.png"])
    tab.keyboard.press("PageDown")
    tab.locator("#filter").select_option("done")
    expect(tab.locator("#images .mark.done")).to_have_text("✓ no objects")
    assert tab.locator("#images img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(scheme: str, tab: Page, photos: Path, serve: Serve) -> None:
    tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    start(tab, serve(photos, class_names=("cat",)))
    script = """() => [...document.querySelectorAll('h1, h2, button:enabled, #progress, #about, .mark')].map(e => {
        let below = e;
        while (getComputedStyle(below).backgroundColor === 'rgba(0, 0, 0, 0)') below = below.parentElement;
        return [e.textContent, getComputedStyle(e).color, getComputedStyle(below).backgroundColor];
    })"""
    for text, ink, paper in tab.evaluate(script):
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)  # WCAG 2, level AA
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width <= 1366


def contrast(one: str, other: str) -> float:
    """Of WCAG 2."""

    def luminance(color: str) -> float:
        shares = np.array([float(value) / 255 for value in re.findall(r"[\d.]+", color)[:3]])
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_detector_trains_on_what_the_page_wrote(tab: Page, tmp_path: Path, serve: Serve) -> None:
    drawn = write_tiny(tmp_path / "drawn")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes((drawn / "positive" / f"{number}.png").read_bytes())
    start(tab, serve(photos, class_names=("red", "blue")))
    for number in range(4):
        expect(tab.locator("#about")).to_contain_text(f"{number}.png")
        expect(tab.locator("#photo")).to_be_visible()
        x, y = 6 + 4 * number, 8 + 6 * number
        tab.keyboard.press("1")
        drag(tab, (x, y), (x + 40, y + 44))
        tab.keyboard.press("Escape")
        tab.keyboard.press("2")
        drag(tab, (x + 48, 50 - y / 2), (x + 88, 82 - y / 2))
        tab.keyboard.press("Escape")
        tab.keyboard.press("ArrowRight")
    saved(tab)
    result = train_tiny(photos, tmp_path / "run", "train.epochs=1", "data.split=[0.5,0,0.5]")
    assert result.detector.classes == ("blue", "red")
    assert (result.run_dir / "model.safetensors").is_file()


# ------------------------------------------------------------------------------------------- faster than the server is


def slow(tab: Page, milliseconds: int, kind: str = "annotations") -> None:
    """Answers about images take this long."""

    def wait(route: Route) -> None:
        tab.wait_for_timeout(milliseconds)
        route.continue_()

    tab.route(f"**/{kind}/**", lambda route: wait(route) if route.request.method == "GET" else route.continue_())


def test_keys_that_come_before_the_next_image_are_meant_for_it(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    tab.keyboard.press("Escape")
    saved(tab)
    slow(tab, 300)
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("e")
    expect(tab.locator("#about")).to_contain_text("1.png · 128 × 96 pixels · no objects")
    saved(tab)
    assert (boxes(photos, "0"), boxes(photos, "1")) == ([[10, 20, 50, 70]], [])
    tab.keyboard.press("PageUp")
    drag(tab, (60, 20), (100, 70))  # on neither: the image is not there yet
    expect(tab.locator("#about")).to_contain_text("0.png")
    assert (boxes(photos, "0"), boxes(photos, "1")) == ([[10, 20, 50, 70]], [])


def test_a_key_before_another_page_is_meant_for_the_image_between(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    slow(tab, 300)
    for key in ("ArrowRight", "e", "ArrowRight"):
        tab.keyboard.press(key)
    expect(tab.locator("#about")).to_contain_text("2.png · 128 × 96 pixels · to do")
    saved(tab)
    assert [file.name for file in sorted(photos.glob("*.bboxes.tsv"))] == ["1.bboxes.tsv"]
    tab.keyboard.press("PageUp")
    tab.keyboard.press("e")
    tab.locator("#images button").first.click()  # passes that image by
    expect(tab.locator("#about")).to_contain_text("0.png · 128 × 96 pixels · to do")
    saved(tab)
    assert [file.name for file in sorted(photos.glob("*.bboxes.tsv"))] == ["1.bboxes.tsv"]


def test_keys_of_the_browser_work_while_an_image_is_opened(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    slow(tab, 1000)
    tab.keyboard.press("ArrowRight")
    for event, stays in (
        ({"key": "F5"}, True),
        ({"key": "r", "ctrlKey": True}, True),
        ({"key": "ArrowLeft", "altKey": True}, True),
        ({"key": "e"}, False),
    ):
        init = {"bubbles": True, "cancelable": True, **event}
        assert tab.evaluate("(init) => document.body.dispatchEvent(new KeyboardEvent('keydown', init))", init) == stays
    expect(tab.locator("#about")).to_contain_text("1.png · 128 × 96 pixels · no objects")


def test_paging_counts_every_key_and_the_last_image_asked_for_is_shown(tab: Page, photos: Path, serve: Serve) -> None:
    for number in range(3, 9):
        draw_image([], seed=number).save(photos / f"{number}.png")
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    click(tab, (30, 40))
    saved(tab)
    slow(tab, 100)
    for _ in range(5):
        tab.keyboard.press("PageDown")
    tab.keyboard.press("ArrowRight")  # the selected box is of the image that is left
    tab.keyboard.press("PageUp")
    expect(tab.locator("#about")).to_contain_text("5.png")
    assert boxes(photos, "0") == [[10, 20, 50, 70]]
    tab.locator("#images button").nth(1).click()
    tab.locator("#images button").nth(3).click()
    expect(tab.locator("#about")).to_contain_text("3.png")
    tab.wait_for_timeout(300)
    expect(tab.locator("#about")).to_contain_text("3.png")


def test_a_box_drawn_while_the_page_looks_for_news_stays(tab: Page, photos: Path, serve: Serve) -> None:
    address = serve(photos, class_names=("cat",))
    start(tab, address)
    draw_in_another_tab(tab, address)
    slow(tab, 500)
    tab.evaluate("window.dispatchEvent(new Event('focus'))")
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#message")).to_contain_text("was changed elsewhere")
    tab.wait_for_timeout(700)
    expect(tab.locator("#saving")).to_have_text("not saved")
    expect(tab.locator("#undo")).to_be_enabled()
    tab.get_by_role("button", name="Keep mine").click()
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]


def test_keys_are_meant_for_the_boxes_after_a_click_elsewhere(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    tab.keyboard.press("Escape")
    tab.locator("#new-class").click()
    click(tab, (30, 40))
    tab.keyboard.press("d")
    tab.keyboard.press("Delete")
    expect(tab.locator("#about")).to_contain_text("to do")
    assert tab.locator("#new-class").input_value() == ""
    tab.locator("#undo").click()
    tab.keyboard.press(" ")  # does not press the button again
    expect(tab.locator("#about")).to_contain_text("1 object")
    drag(tab, (60, 20), (90, 70))
    tab.keyboard.press("Control+z")
    tab.mouse.move(*on_screen(tab, (80, 30)))
    tab.mouse.down()
    tab.mouse.move(*on_screen(tab, (100, 60)))
    tab.keyboard.press("Control+z")  # not while something is drawn
    tab.mouse.up()
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70], [80, 30, 100, 60]]


def test_a_turned_photo_is_drawn_on_as_it_is_seen(tab: Page, tmp_path: Path, serve: Serve) -> None:
    turned = draw_image([("red", (0, 0, 128, 20))], seed=0)
    exif = turned.getexif()
    exif[0x0112] = 6  # the top is on the right
    turned.save(tmp_path / "1.jpg", exif=exif)
    start(tab, serve(tmp_path, class_names=("red",)))
    assert tab.locator("#photo").evaluate("photo => [photo.naturalWidth, photo.naturalHeight]") == [96, 128]
    drag(tab, (76, 10), (96, 120))
    saved(tab)
    assert boxes(tmp_path, "1") == [[76, 10, 96, 120]]


def test_a_model_that_fails_says_so(tab: Page, photos: Path, serve: Serve) -> None:
    def fail(image: Path) -> Detections:
        raise ValueError(f"{image}: too large")

    start(tab, serve(photos, class_names=("cat",), propose=fail))
    expect(tab.locator("#message")).to_contain_text("The model cannot propose boxes: ")
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]


def test_an_image_that_cannot_be_read_can_be_passed(tab: Page, photos: Path, serve: Serve) -> None:
    (photos / "1.png").write_bytes(b"")
    start(tab, serve(photos, class_names=("cat",)))
    tab.keyboard.press("PageDown")
    expect(tab.locator("#message")).to_contain_text("1.png: the file is empty")
    tab.locator("#empty").click()
    tab.keyboard.press("e")
    saved(tab)
    tab.keyboard.press("t")
    expect(tab.locator("#about")).to_contain_text("2.png")
    assert not list(photos.glob("*.tsv"))


def test_a_tab_of_an_earlier_start_says_so(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    tab.route("**/annotations/**", lambda route: route.fulfill(status=404, json={"error": "Not Found"}))
    drag(tab, (10, 20), (50, 70))
    expect(tab.locator("#message")).to_contain_text("This page belongs to an earlier run of frcnn annotate")
    expect(tab.locator("#saving")).to_have_text("not saved")


# ---------------------------------------------------------------------------------------------- what people stumble on


def test_no_objects_asks_before_boxes_go_and_can_be_taken_back(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    answers = [False, True]
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if answers.pop(0) else dialog.dismiss()

    tab.on("dialog", answer)
    tab.keyboard.press("e")
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]
    tab.keyboard.press("e")
    expect(tab.locator("#about")).to_contain_text("no objects")
    saved(tab)
    assert (asked, boxes(photos, "0")) == (["Remove 1 object and mark this image as without objects?"] * 2, [])
    tab.keyboard.press("e")
    expect(tab.locator("#about")).to_contain_text("to do")
    saved(tab)
    assert not list(photos.glob("*.tsv"))


def test_a_box_may_begin_beside_the_one_just_drawn_and_the_next_image_is_a_key_away(
    tab: Page, photos: Path, serve: Serve
) -> None:
    start(tab, serve(photos, class_names=("cat", "dog")))
    drag(tab, (10, 20), (50, 70))
    tab.keyboard.press("1")
    drag(tab, (50.5, 70.5), (90, 90))  # where the handle of the first one would be
    tab.keyboard.press("2")
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("#about")).to_contain_text("1.png")
    saved(tab)
    assert labels(photos, "0") == ["cat", "dog"]
    first, second = boxes(photos, "0")
    assert first == [10, 20, 50, 70]
    assert second == pytest.approx([50.5, 70.5, 90, 90], abs=1)


def test_a_key_that_is_held_down_adds_no_boxes(tab: Page, photos: Path, serve: Serve) -> None:
    """Boxes in the same place look like one."""

    def hold(key: str) -> None:
        for _ in range(3):
            tab.keyboard.down(key)
        tab.keyboard.up(key)

    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    saved(tab)
    tab.keyboard.press("PageDown")
    expect(tab.locator("#about")).to_contain_text("1.png")
    hold("c")
    tab.keyboard.press("c")  # they are there already
    expect(tab.locator("#about")).to_contain_text("1 object")
    hold("b")
    hold("ArrowRight")  # moves it by 1, 5 and 5 pixels
    expect(tab.locator("#about")).to_contain_text("2 objects")
    saved(tab)
    assert boxes(photos, "1") == [[10, 20, 50, 70], [62, 38, 88, 58]]


def test_tab_goes_on_from_the_selected_box(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    for x in (5, 45, 85):
        drag(tab, (x, 5), (x + 30, 30))
    tab.keyboard.press("Escape")
    chosen = tab.locator(".box.selected")
    tab.keyboard.press("Tab")
    expect(chosen).to_have_attribute("aria-label", "cat, 1 of 3")
    tab.locator("#zoom-out").click()  # nothing has the focus then
    tab.keyboard.press("Tab")
    expect(chosen).to_have_attribute("aria-label", "cat, 2 of 3")
    tab.keyboard.press("Delete")
    expect(chosen).to_have_attribute("aria-label", "cat, 2 of 2")
    expect(chosen).to_be_focused()
    tab.keyboard.press("Shift+Tab")
    expect(chosen).to_have_attribute("aria-label", "cat, 1 of 2")


def test_a_box_out_of_view_comes_into_view_and_boxes_are_drawn_where_they_are_seen(
    tab: Page, photos: Path, serve: Serve
) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (5, 5), (20, 20))
    drag(tab, (100, 60), (110, 70))
    tab.keyboard.press("Escape")
    tab.mouse.move(*on_screen(tab, (10, 10)))
    tab.mouse.wheel(0, -400)
    for _ in range(2):
        tab.keyboard.press("Tab")
    expect(tab.locator(".box.selected")).to_have_attribute("aria-label", "cat, 2 of 2")
    expect(tab.locator(".box.selected")).to_be_in_viewport(ratio=0.9)
    drag(tab, (85, 50), (95, 58))
    saved(tab)
    assert boxes(photos, "0") == [[5, 5, 20, 20], [100, 60, 110, 70], [85, 50, 95, 58]]


def test_keys_of_the_number_pad_without_num_lock_are_no_classes(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat", "dog", "owl")))
    drag(tab, (10, 20), (50, 70))
    click(tab, (30, 40))
    tab.keyboard.press("Numpad2")  # the arrow down
    tab.keyboard.press("Numpad3")  # Page down
    expect(tab.locator("#about")).to_contain_text("1.png")
    saved(tab)
    assert (boxes(photos, "0"), labels(photos, "0")) == ([[10, 21, 50, 71]], ["cat"])


def test_a_class_may_have_any_name(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos))
    drag(tab, (10, 20), (50, 70))
    for name in ("constructor", "__proto__", "a#b%2F?\"'<i>é"):
        tab.locator("#name").fill(name)
        tab.keyboard.press("Enter")
        expect(tab.locator(".box .label")).to_have_text(name)
        saved(tab)
        assert labels(photos, "0") == [name]
        tab.keyboard.press("Enter")


def test_the_filter_is_chosen_by_keyboard(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    drag(tab, (10, 20), (50, 70))
    click(tab, (30, 40))
    saved(tab)
    tab.locator("#help").focus()
    tab.keyboard.press("Tab")
    expect(tab.locator("#filter")).to_be_focused()
    for _ in range(2):
        tab.keyboard.press("ArrowDown")
    expect(tab.locator("#filter")).to_have_value("done")
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]


def test_space_that_comes_up_in_another_window_does_not_stay_down(tab: Page, photos: Path, serve: Serve) -> None:
    start(tab, serve(photos, class_names=("cat",)))
    tab.keyboard.down(" ")
    tab.evaluate("window.dispatchEvent(new Event('blur'))")
    drag(tab, (10, 20), (50, 70))
    tab.keyboard.up(" ")
    saved(tab)
    assert boxes(photos, "0") == [[10, 20, 50, 70]]


def test_proposals_come_though_another_tab_has_asked(tab: Page, photos: Path, serve: Serve) -> None:
    answer = detections_of(("cat", 0.9, (10, 10, 40, 40)))
    busy = {"error": "another image was asked for in the meantime"}
    tab.route("**/proposals/**", lambda route: route.fulfill(status=409, json=busy), times=1)
    start(tab, serve(photos, propose=lambda image: answer))
    expect(tab.locator(".box.proposed")).to_have_count(1)
    expect(tab.locator("#propose")).to_have_text("Propose")
    expect(tab.locator("#propose")).to_be_enabled()


def test_undo_brings_back_what_was_dismissed_or_accepted(tab: Page, photos: Path, serve: Serve) -> None:
    answer = detections_of(("cat", 0.9, (10, 10, 40, 40)), ("dog", 0.8, (50, 10, 90, 40)))
    start(tab, serve(photos, propose=lambda image: answer))
    expect(tab.locator(".box.proposed")).to_have_count(2)
    click(tab, (20, 20))
    tab.keyboard.press("Enter")
    expect(tab.locator("#images .mark").first).to_have_text("✓ 1, 1 proposed")
    expect(tab.locator(".box.proposed.selected")).to_have_count(1)  # the next one
    tab.keyboard.press("Delete")
    expect(tab.locator(".box.proposed")).to_have_count(0)
    tab.keyboard.press("Control+z")
    expect(tab.locator(".box.proposed")).to_have_count(1)
    expect(tab.locator(".box")).to_have_count(2)
    tab.keyboard.press("Control+z")
    expect(tab.locator(".box.proposed")).to_have_count(2)
    saved(tab)
    assert not list(photos.glob("*.tsv"))
    tab.keyboard.press("Control+Shift+z")
    saved(tab)
    assert labels(photos, "0") == ["cat"]
