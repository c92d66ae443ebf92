"""The drawing of docs/how-it-works.md: it computes what frcnn computes, and it can be used with every device."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page

from frcnn.ops.boxes import inside, iou
from frcnn.ops.matcher import match_anchors
from frcnn.ops.nms import nms
from frcnn.ops.roi_pooling import pool_rois, roi_align
from frcnn.types import Level

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "how-it-works.md"
SCRIPT = DOCS / "assets" / "how-it-works.js"

Numbers = dict[str, Any]
Node = Callable[..., Any]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """docs/make_drawing.py"""
    spec = spec_from_file_location("make_drawing", DOCS / "make_drawing.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(maker: ModuleType) -> Numbers:
    numbers: Numbers = maker.read()
    return numbers


@pytest.fixture(scope="module")
def node(maker: ModuleType) -> Node:
    """Evaluates an expression with the functions of the drawing (`ops`), its data (`scene`) and values (`given`)."""
    if shutil.which("node") is None:
        if os.environ.get("CI"):
            pytest.fail("node is not installed, and CI may not skip the tests of the drawing")
        pytest.skip("node is not installed")

    def evaluate(expression: str, **given: object) -> Any:
        program = (
            f"const ops = require({json.dumps(str(SCRIPT))}); require({json.dumps(str(maker.DATA))});\n"
            f"const scene = ops.makeScene(globalThis.howItWorksData), given = {json.dumps(given)};\n"
            f"console.log(JSON.stringify({expression}));"
        )
        done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


# ------------------------------------------------------------------------------------------------- the same as in frcnn


def test_anchors_and_moved_boxes(node: Node, maker: ModuleType, data: Numbers) -> None:
    anchors, boxes = node("[scene.anchors, scene.boxes]")
    assert torch.equal(torch.tensor(anchors), maker.anchors_of(data))
    torch.testing.assert_close(torch.tensor(boxes), maker.boxes_of(data), rtol=0, atol=1e-3)


def test_labels_of_anchors(node: Node, maker: ModuleType, data: Numbers) -> None:
    anchors, objects = maker.anchors_of(data), torch.tensor(data["objects"])[:, 1:]
    positive, negative = data["train_ious"]
    eligible = inside(anchors, torch.tensor([data["height"], data["width"]], dtype=torch.float32))
    wanted = torch.full((len(anchors),), -2)
    wanted[eligible] = match_anchors(iou(anchors[eligible], objects), positive_iou=positive, negative_iou=negative)[0]
    assert torch.equal(torch.tensor(node("scene.labels")), wanted)
    assert {-2, -1, 0, 1} == set(wanted.tolist())


def test_nms_with_many_ties(node: Node) -> None:
    generator = torch.Generator().manual_seed(1)
    for threshold in (0.25, 1 / 3, 0.5, 0.7):
        corners = torch.randint(0, 8, (150, 2), generator=generator)
        boxes = torch.cat((corners, corners + torch.randint(1, 6, (150, 2), generator=generator)), dim=1).float() * 8
        scores = torch.randint(0, 40, (150,), generator=generator).float()
        wanted = nms(boxes[None], scores[None], threshold, 60)[0]
        given = {"boxes": boxes.tolist(), "scores": scores.tolist(), "threshold": threshold}
        kept = node("ops.nms(given.boxes, given.scores, given.threshold, 60)", **given)
        assert kept == wanted[wanted >= 0].tolist()
        assert 5 < len(kept) < 150


@pytest.mark.parametrize("pre", [10, 300, 6000])
@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.0])
def test_proposals(node: Node, maker: ModuleType, data: Numbers, pre: int, threshold: float) -> None:
    selected = node("ops.selectProposals(scene, given)", pre=pre, threshold=threshold)
    assert selected["kept"] == maker.proposals_of(data, pre, threshold).tolist()
    assert len(selected["before"]) == min(pre, selected["large"])


@pytest.mark.parametrize(("score", "threshold"), [(0.05, 0.5), (0.5, 0.3), (0.5, 1.0)])
def test_detections(node: Node, maker: ModuleType, data: Numbers, score: float, threshold: float) -> None:
    kept = maker.proposals_of(data, 300, 0.7)
    found = maker.detections_of(data, kept, score, threshold)
    wanted = int(found.valid.sum())
    got = node(
        "ops.selectDetections(scene, given.kept, given).found", kept=kept.tolist(), score=score, threshold=threshold
    )
    assert len(got) == wanted > 0
    by_place = sorted(range(wanted), key=lambda index: found.boxes[0, index].tolist())
    for one, index in zip(sorted(got, key=lambda each: each["box"]), by_place, strict=True):
        assert one["box"] == pytest.approx(found.boxes[0, index].tolist(), abs=1e-2)
        assert one["score"] == pytest.approx(float(found.scores[0, index]), abs=3e-3)
        assert one["label"] == int(found.labels[0, index])


def test_roi_align(node: Node, maker: ModuleType, data: Numbers) -> None:
    rois = maker.boxes_of(data)[::90]
    rois = rois[(rois[:, 2:] - rois[:, :2] > 1).all(dim=1)]
    assert len(rois) > 15
    features = torch.tensor(data["map"], dtype=torch.float32).view(1, 1, data["rows"], data["columns"])
    level = Level(data["stride"], data["offset"])
    wanted = pool_rois([features], rois[None], levels=[level], size=7, pool=roi_align).flatten(1)
    arguments = "scene.data.map, scene.data.rows, scene.data.columns, roi, 7, scene.data.stride, scene.data.offset"
    got = node(f"given.rois.map((roi) => ops.roiAlign({arguments}))", rois=rois.tolist())
    torch.testing.assert_close(torch.tensor(got), wanted, rtol=1e-3, atol=0.5)  # of values in thousandths


# ------------------------------------------------------------------------------------------------------------ the files


def test_the_data_is_complete_and_small(maker: ModuleType, data: Numbers) -> None:
    count = data["rows"] * data["columns"] * len(data["sizes"]) * len(data["ratios"])
    assert len(data["logits"]) == count
    assert len(data["deltas"]) == 4 * count
    assert len(data["map"]) == data["rows"] * data["columns"]
    assert len(data["colors"]) == len(data["classes"])
    assert all(0 <= anchor < count and 1 <= label <= len(data["classes"]) for anchor, label, *_ in data["outputs"])
    assert maker.as_script(data) == maker.DATA.read_text(encoding="utf-8")
    assert maker.DATA.stat().st_size < 250_000
    assert len(data["image"]) < 40_000


def test_the_picture_shows_the_data(maker: ModuleType, data: Numbers) -> None:
    assert maker.PICTURE.read_text(encoding="utf-8") == maker.picture(data), "run `python docs/make_drawing.py`"
    assert maker.PICTURE.stat().st_size < 200_000


def test_the_page_has_a_place_for_the_drawing_and_a_heading_for_each_step() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.search(r"^<!-- drawing: how-it-works -->\n!\[[^\]]+\]\(images/how-it-works\.svg\)$", text, re.MULTILINE)
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    linked = re.findall(r'more: "([\w-]+)"', SCRIPT.read_text(encoding="utf-8"))
    assert len(linked) == 9
    assert set(linked) <= headings


def test_the_named_code_exists() -> None:
    code = re.findall(r'code: "([^"]+)"', SCRIPT.read_text(encoding="utf-8"))
    assert len(code) == 9
    named = [
        (file, name)
        for one in code
        for file, names in re.findall(r"([\w/]+\.py): ([\w, ]+?)(?=, \w+/|$)", one)
        for name in names.split(", ")
    ]
    assert len(named) >= 11
    for file, name in named:
        source = (DOCS.parent / "src" / "frcnn" / file).read_text(encoding="utf-8")
        assert re.search(rf"^(class|def) {name}\b", source, re.MULTILINE), f"{file}: {name}"
    text = PAGE.read_text(encoding="utf-8")
    sources = "".join(file.read_text(encoding="utf-8") for file in (DOCS.parent / "src" / "frcnn").rglob("*.py"))
    for line in re.findall(r"^\* Code: (.+(?:\n  .+)*)", text, re.MULTILINE):
        for name in re.findall(r"`([\w.]+)`", line):
            if not name.endswith(".py"):
                assert re.search(rf"^ *(class|def) {name.rpartition('.')[2]}\b", sources, re.MULTILINE), name


# ---------------------------------------------------------------------------------------------------------- the browser

HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>How it works</title><style>body {{ margin: 12px; font: 16px/1.5 sans-serif; color-scheme: light dark; }}</style>
</head><body {scheme}><div id="how-it-works" class="drawing"></div>
<link rel="stylesheet" href="{folder}/assets/how-it-works.css"><script src="{folder}/assets/how-it-works.js"></script>
<p><img src="{folder}/images/how-it-works.svg" alt="the static picture"></p></body></html>"""

Open = Callable[..., Page]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the drawing from a file. A script that fails, a message in the console or a request fails the test."""
    wrong: list[str] = []
    contexts = []

    def start(width: int = 1200, scheme: str = "", **options: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(HTML.format(folder=DOCS.as_uri(), scheme=scheme), encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: None if request.url[:5] in ("file:", "data:") else wrong.append(request.url))
        page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            page.get_by_role("tab").first.wait_for()
        return page

    yield start
    for context in contexts:
        context.close()
    assert not wrong


def said(page: Page) -> str:
    return page.locator(".hiw-say").inner_text()


def drawn(page: Page, selector: str) -> Locator:
    """What is drawn on the picture."""
    return page.locator(f".hiw-picture > svg > g > {selector}")


def open_step(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def move(page: Page, slider: str, value: str) -> None:
    """Move a slider to the position where it shows this value."""
    handle = page.get_by_label(slider, exact=False)
    handle.focus()
    page.keyboard.press("Home")
    while handle.get_attribute("aria-valuetext") != value:
        before = handle.input_value()
        page.keyboard.press("ArrowRight")
        assert handle.input_value() != before, f"{slider}: {value} is not there"


def test_all_steps_by_the_keyboard(show: Open) -> None:
    page = show()
    page.get_by_role("tab", name="1, Image").focus()
    texts = [said(page)]
    for number in range(2, 10):
        page.keyboard.press("ArrowRight")
        assert page.locator("[role=tab]:focus").get_attribute("aria-label").startswith(f"{number}, ")  # type: ignore[union-attr]
        assert page.locator("h3").inner_text().startswith(f"{number}. ")
        assert drawn(page, "*").count() > 0
        texts.append(said(page))
    assert len(set(texts)) == 9
    assert all(texts)
    assert page.get_by_role("button", name="Next", exact=True).is_disabled()
    page.keyboard.press("Home")
    assert page.get_by_role("button", name="Back").is_disabled()
    page.get_by_role("button", name="Next", exact=True).click()
    assert page.locator("h3").inner_text() == "2. Feature map"
    assert not page.get_by_alt_text("the static picture").is_visible()


def test_cells_by_pointer_and_keyboard(show: Open, data: Numbers) -> None:
    page = show()
    open_step(page, "3, Anchors")
    picture = page.get_by_role("application")
    frame = picture.bounding_box()
    assert frame is not None
    scale = frame["width"] / data["width"]
    x, y = ((index + data["offset"]) * data["stride"] * scale for index in (4, 2))
    picture.hover(position={"x": x, "y": y})
    assert said(page).startswith("Cell at row 3, column 5: 9 anchors.")
    page.mouse.move(0, 0)
    assert not said(page).startswith("Cell at row 3, column 5:")
    picture.click(position={"x": x, "y": y})
    page.mouse.move(0, 0)
    assert said(page).startswith("Cell at row 3, column 5:")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert said(page).startswith("Cell at row 4, column 6:")
    assert page.locator(".hiw-table tbody tr").count() == 9


def test_sliders_change_counts_and_boxes(show: Open, maker: ModuleType, data: Numbers) -> None:
    page = show()
    open_step(page, "6, Proposals")
    for pre, threshold in ((300, 0.7), (20, 0.7), (6000, 0.3)):
        move(page, "Boxes before NMS", f"{pre:,}")
        move(page, "NMS threshold of proposals", f"{threshold:.2f}")
        kept = maker.proposals_of(data, pre, threshold)
        assert f" {len(kept)} proposals after NMS" in said(page)
        assert drawn(page, "rect.hiw-kept").count() == len(kept)
    page.get_by_role("button", name="Reset").click()
    open_step(page, "9, Detections")
    kept = maker.proposals_of(data, data["first_pre"], data["nms"])
    for score in (0.5, 0.05, 0.95):
        move(page, "Score threshold", f"{score:.2f}")
        count = int(maker.detections_of(data, kept, score, data["class_nms"]).valid.sum())
        assert f"After NMS: {count} detection" in said(page)
        assert page.locator(".hiw-table tbody tr").count() == count


def test_a_proposal_is_followed(show: Open) -> None:
    page = show()
    open_step(page, "6, Proposals")
    first = said(page)
    number = int(re.findall(r"Proposal (\d+): ", first)[0])
    page.get_by_role("button", name="Next proposal").click()
    assert f"Proposal {number + 1}: " in said(page)
    page.get_by_role("application").focus()
    page.keyboard.press("ArrowLeft")
    assert said(page) == first
    box = drawn(page, "rect.hiw-kept").last.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    chosen = re.findall(r"Proposal (\d+): ", said(page))[0]
    open_step(page, "7, RoI pooling")
    assert page.locator(".hiw-follow span").inner_text().startswith(f"Proposal {chosen} of ")
    assert page.locator(".hiw-pooled rect").count() == 49
    assert drawn(page, "circle.hiw-sample").count() % 49 == 0
    open_step(page, "8, RoI head")
    assert "probability" in page.locator(".hiw-table").inner_text()
    open_step(page, "9, Detections")
    page.locator(".hiw-table tbody tr").last.click()
    assert page.locator(".hiw-table tr.hiw-bold").count() >= 1
    assert drawn(page, "rect.hiw-anchor").count() == 1


@pytest.mark.parametrize("width", [360, 1366])
def test_it_fits_the_screen(show: Open, width: int) -> None:
    page = show(width, has_touch=True)
    for index in range(9):
        page.get_by_role("tab").nth(index).tap()
        assert page.locator("[role=tab][aria-selected=true]").get_attribute("id") == f"hiw-tab-{index}"
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(
    ("body", "preferred", "dark"),
    [
        ('data-md-color-scheme="slate"', "light", True),
        ('data-md-color-scheme="default"', "dark", False),
        ("", "dark", True),
        ("", "light", False),
    ],
)
def test_dark_and_light(show: Open, body: str, preferred: str, dark: bool) -> None:
    page = show(scheme=body, color_scheme=preferred)
    back = page.evaluate("getComputedStyle(document.querySelector('.hiw-say')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 300) == dark


def test_nothing_moves_for_those_who_want_no_motion(show: Open) -> None:
    for motion, seconds in (("reduce", "0s"), ("no-preference", "0.6s, 0.6s, 0.6s, 0.6s")):
        page = show(reduced_motion=motion)
        open_step(page, "5, RPN")
        assert page.evaluate("getComputedStyle(document.querySelector('.hiw-moving')).transitionDuration") == seconds


def test_without_a_script_the_picture_is_there(show: Open) -> None:
    page = show(java_script_enabled=False)
    assert page.get_by_alt_text("the static picture").is_visible()
