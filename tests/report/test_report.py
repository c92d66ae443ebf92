"""The report: one page, whose numbers are those of the metrics, and which shows what went wrong."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from tiny import detections_of, draw_image, tiny_model

from frcnn.data.records import Record, make_record
from frcnn.evaluation.metrics import Metrics, compute_metrics
from frcnn.files import write_text
from frcnn.inference.results import Detections
from frcnn.nn.faster_rcnn import FasterRCNN
from frcnn.report.evidence import KINDS, Evidence, _names, collect
from frcnn.report.page import Background, render, verdict, warnings

CLASSES = ("cat", "dog </script><b>x", "émeu")
HOSTILE = "<img src=x onerror=alert(1)>.png"
BOXES = [(10.0, 10.0, 50.0, 50.0), (60.0, 10.0, 100.0, 50.0), (10.0, 60.0, 50.0, 90.0)]


def write_data(folder: Path) -> tuple[list[Detections], list[Record]]:
    """Three images: everything right; a missed object and a duplicate; a wrong class and a badly placed box."""
    records, detections = [], []
    for number, name in enumerate(("a.png", HOSTILE, "c.png")):
        draw_image([], seed=number, size=(100, 120)).save(folder / name)
        records.append(make_record(folder / name, list(zip(BOXES, CLASSES, strict=True)), (100, 120)))
    cat, dog, emu = CLASSES
    detections.append(detections_of((cat, 0.9, BOXES[0]), (dog, 0.8, BOXES[1]), (emu, 0.7, BOXES[2])))
    detections.append(detections_of((cat, 0.95, BOXES[0]), (cat, 0.6, (11, 10, 50, 50)), (emu, 0.3, BOXES[2])))
    detections.append(
        detections_of(
            (cat, 0.85, BOXES[1]), (cat, 0.75, BOXES[0]), (emu, 0.65, (10, 75, 50, 105)), (emu, 0.1, (90, 60, 110, 80))
        )
    )
    classes = [each.__class__ for each in detections]
    assert classes
    return [_with_classes(each) for each in detections], records


def _with_classes(found: Detections) -> Detections:
    """`detections_of` knows only the classes that it is given."""
    ids = np.array([CLASSES.index(name) for name in found.class_name.tolist()], np.int64)
    return Detections(found.xyxy, found.confidence, ids, CLASSES, path=found.path)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    return compute_metrics(*write_data(tmp_path_factory.mktemp("data")), CLASSES, seconds_per_image=0.1)


@pytest.fixture(scope="module")
def evidence(metrics: Metrics) -> Evidence:
    return collect(metrics, threshold=0.5)


@pytest.fixture(scope="module")
def file(metrics: Metrics, evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    other = ("other <b>run", metrics.to_dict())
    background = Background("my <i>run", data=["<u>found"], others=[other], store_command="frcnn report RUN_DIR")
    write_text(path, render(metrics, evidence, background))
    return path


@pytest.fixture
def tab(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, at the size of a laptop. A script that fails, a message in the console or a request fails the test."""
    with browser.new_context(viewport={"width": 1366, "height": 768}) as context:
        page, wrong = context.new_page(), list[str]()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: None if request.url[:5] in ("file:", "data:") else wrong.append(request.url))
        page.goto(file.as_uri())
        yield page
        assert not wrong


def set_threshold(page: Page, value: float) -> None:
    page.evaluate(
        "value => { const slider = document.getElementById('slider'); slider.value = value;"
        "slider.dispatchEvent(new Event('input')); }",
        value,
    )


# ------------------------------------------------------------------------------------------------------------ evidence


def test_each_detection_and_object_has_its_kind(metrics: Metrics, evidence: Evidence) -> None:
    kinds = [KINDS[kind] for kind in evidence.detections["kind"]]
    assert evidence.detections["score"] == sorted(evidence.detections["score"], reverse=True)
    by_score = dict(zip(evidence.detections["score"], kinds, strict=True))
    assert by_score[0.95] == "correct"
    assert by_score[0.6] == "duplicate"
    assert by_score[0.85] == "class"
    assert by_score[0.65] == "location"
    assert by_score[0.1] == "background"
    assert len(kinds) == sum(len(each) for each in metrics.detections)
    assert evidence.left_out == 0
    found = [detection for detection in evidence.objects["detection"] if detection >= 0]
    assert len(found) == len(set(found)) == kinds.count("correct") == 6


def test_pictures_show_the_errors(evidence: Evidence) -> None:
    shown = {(KINDS.index(each.kind), each.number) for each in evidence.pictures}
    for number, kind in enumerate(evidence.detections["kind"]):
        assert ((kind, number) in shown) == (KINDS[kind] not in ("correct", "ignored"))
    missed = [each for each in evidence.pictures if each.kind == "missed"]
    assert {each.number for each in missed} >= {n for n, d in enumerate(evidence.objects["detection"]) if d < 0}
    for each in evidence.pictures:
        x1, y1, x2, y2 = each.window
        box = (evidence.objects if each.kind == "missed" else evidence.detections)["box"][each.number]
        assert 0 <= x1 < x2 <= 120
        assert 0 <= y1 < y2 <= 100
        assert x1 <= box[0]
        assert x2 >= min(box[2], 120)
        with Image.open(BytesIO(each.jpeg)) as picture:
            assert picture.width / picture.height == pytest.approx((x2 - x1) / (y2 - y1), rel=0.05)


def test_a_model_says_why_objects_were_missed(metrics: Metrics) -> None:
    model = tiny_model(classes=CLASSES)
    found = collect(metrics, threshold=0.5, model=model)
    reasons = [each.why for each in found.pictures if each.kind == "missed"]
    assert all(reasons)
    assert all(not each.why for each in found.pictures if each.kind != "missed")


def test_suspects_are_labels_that_the_detector_disagrees_with(evidence: Evidence) -> None:
    texts = [each.text for each in evidence.suspects]
    assert evidence.suspects_in_all == len(texts)
    assert "wrong class" in "".join(texts)
    places = {each.text.split(" (")[0]: each for each in evidence.suspects}
    moved = places[f"{CLASSES[2]}: badly placed box"]
    assert evidence.images[moved.image] == "c.png"
    assert (moved.label, moved.proposed) == ([10, 60, 50, 90], [10, 75, 50, 105])
    extra = next(each for each in evidence.suspects if "label without object" in each.text)
    assert extra.proposed is None
    assert extra.label is not None


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/home/me/a.jpg", "/home/me/b.jpg"], ["a.jpg", "b.jpg"]),
        (["/home/me/x/a.jpg", "/home/me/y/a.jpg"], ["x/a.jpg", "y/a.jpg"]),
        (["/home/me/x/z/a.jpg", "/home/me/y/z/a.jpg", "/home/me/b.jpg"], ["x/z/a.jpg", "y/z/a.jpg", "b.jpg"]),
        (["/home/me/a.jpg", "/home/me/a.jpg"], ["a.jpg", "a.jpg"]),
        (["/home/me/a.jpg", "x/a.jpg"], ["me/a.jpg", "x/a.jpg"]),
        (["/home/me/a.jpg", "/mnt/d/a.jpg", "/home/me/b.jpg"], ["me/a.jpg", "d/a.jpg", "b.jpg"]),
        ([], []),
    ],
)
def test_images_are_named_without_their_whole_path(paths: list[str], expected: list[str]) -> None:
    assert _names([make_record(Path(path), []) for path in paths]) == expected


def test_classes_without_any_label_are_not_suspects(tmp_path: Path) -> None:
    """The detector may know classes that nobody labeled in these images."""
    draw_image([], seed=0, size=(100, 120)).save(tmp_path / "a.png")
    record = make_record(tmp_path / "a.png", [(BOXES[0], "cat")], (100, 120))
    found = _with_classes(detections_of(("cat", 0.9, BOXES[0]), (CLASSES[2], 0.9, BOXES[1])))
    assert not collect(compute_metrics([found], [record], CLASSES), threshold=0.5).suspects


def test_suspects_whose_images_cannot_be_read_are_counted(tmp_path: Path) -> None:
    record = make_record(tmp_path / "gone.png", [(BOXES[0], "cat")], (100, 120))
    found = _with_classes(detections_of(("cat", 0.9, BOXES[0]), ("cat", 0.8, BOXES[1])))
    metrics = compute_metrics([found], [record], CLASSES)
    evidence = collect(metrics, threshold=0.5)
    assert (evidence.suspects, evidence.suspects_in_all) == ([], 1)
    assert "1 labels may be wrong" not in render(metrics, evidence, Background("run"))
    assert "1 label may be wrong" in render(metrics, evidence, Background("run"))


def test_a_page_of_images_without_labels_does_not_say_that_labels_are_right(tmp_path: Path) -> None:
    draw_image([], seed=0, size=(100, 120)).save(tmp_path / "a.png")
    record = make_record(tmp_path / "a.png", [], (100, 120))
    metrics = compute_metrics([_with_classes(detections_of(("cat", 0.9, BOXES[0])))], [record], CLASSES)
    page = render(metrics, collect(metrics, threshold=0.5), Background("run"))
    assert "The evaluated images have no labels, so frcnn judges none." in page


# ------------------------------------------------------------------------------------------------------------ sentences


def test_the_verdict(metrics: Metrics) -> None:
    assert verdict(metrics, 0.5) == (
        "At a confidence threshold of 0.50, the detector finds 56% of the 9 objects, and 62% of its 8 detections are "
        "correct."
    )
    assert verdict(metrics, 1.0) == "At a confidence threshold of 1.00, nothing is detected of 9 objects."
    nothing = compute_metrics([Detections.empty(CLASSES)], [make_record(Path("a.png"), [])], CLASSES)
    assert "nothing can be said" in verdict(nothing, 0.5)


def test_few_images_are_said_to_be_few(metrics: Metrics) -> None:
    found = list(warnings(metrics))
    assert found[0].startswith("The evaluation has only 9 objects in 3 images")
    assert found[1].startswith("These classes have fewer than 10 objects")
    unknown = replace(metrics, left_out={"owl": 2, "yak": 1})
    assert list(warnings(unknown))[-1] == (
        "Left out of all figures, because the detector does not know the class: owl (2 objects), yak (1 object)."
    )


# ----------------------------------------------------------------------------------------------------------------- page


def test_names_and_files_stay_text(tab: Page, file: Path) -> None:
    assert tab.locator("i, u, #comparison b, b, img").count() == 0
    expect(tab.locator("h1")).to_have_text("my <i>run")
    expect(tab.locator("#class-table tbody tr th").nth(1)).to_have_text(CLASSES[1])
    expect(tab.locator("#pictures .file").filter(has_text=HOSTILE).first).to_be_visible()
    text = file.read_text(encoding="utf-8")
    assert text.count("</script>") == 2
    assert str(file.parent) not in text
    assert "/tmp" not in re.sub(r'"jpeg":"[^"]*"', "", text)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.72, 0.9])
def test_the_slider_changes_every_number(tab: Page, metrics: Metrics, threshold: float) -> None:
    set_threshold(tab, threshold)
    counts = metrics.counts(threshold)
    expect(tab.locator("#value")).to_have_text(f"{threshold:.2f}")
    for name, value in (("right", counts.correct), ("false", counts.false), ("missed", counts.missed)):
        expect(tab.locator(f"#{name}")).to_have_text(str(value))
    expect(tab.locator("#shown-precision")).to_have_text(f"{100 * counts.precision:.1f}%")
    expect(tab.locator("#f1")).to_have_text(f"{100 * counts.f1:.1f}%")
    for label, name in enumerate(CLASSES):
        own = metrics.curves[name].at(threshold)
        row = tab.locator(f"#class-table tr[data-class='{label}']")
        expect(row.locator(".recall")).to_have_text(f"{100 * own.recall:.1f}%")
    expected = compute_metrics(metrics.detections, metrics.records, CLASSES, threshold=threshold).confusion_matrix
    rows = tab.locator("#confusion tbody tr").all()
    shown = [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]
    assert [[int(cell or 0) for cell in row] for row in shown] == expected.tolist()
    expect(tab.locator("#command")).to_have_text(f"frcnn report RUN_DIR {threshold:.2f}")
    boxes = tab.locator("#pictures li").first.locator("rect").count()
    set_threshold(tab, 0.99)
    assert tab.locator("#pictures li").count() > 0
    assert boxes > 0


@pytest.mark.parametrize("threshold", [0.05, 0.62, 0.9])
def test_the_curve_of_a_class_has_its_dot_at_the_threshold(tab: Page, metrics: Metrics, threshold: float) -> None:
    set_threshold(tab, threshold)
    for name in CLASSES:
        tab.locator("#curve-class").select_option(name)
        counts = metrics.curves[name].at(threshold)
        assert tab.locator("#pr circle").count() == 1
        x, y = (float(tab.locator("#dot").get_attribute(axis) or "nan") for axis in ("cx", "cy"))
        assert (x - 42) / 308 == pytest.approx(counts.recall, abs=0.001)
        assert (240 - y) / 230 == pytest.approx(1 if np.isnan(counts.precision) else counts.precision, abs=0.001)
        assert f"curve of {name}; at the threshold" in (tab.locator("#pr").get_attribute("aria-label") or "")
        ends = re.findall(r"[ML]([\d.]+) ([\d.]+)", tab.locator("#pr path.curve").get_attribute("d") or "")
        everything = metrics.curves[name].at(0)
        assert (float(ends[-1][0]) - 42) / 308 == pytest.approx(everything.recall, abs=0.001)
        assert (240 - float(ends[-1][1])) / 230 == pytest.approx(everything.precision, abs=0.001)
    tab.locator("#curve-class").select_option("all classes together")
    set_threshold(tab, 0.3)
    x = float(tab.locator("#dot").get_attribute("cx") or "nan")
    assert (x - 42) / 308 == pytest.approx(metrics.counts(0.3).recall, abs=0.001)


def test_suspects_have_a_picture_and_a_reason(tab: Page, evidence: Evidence) -> None:
    pictures = tab.locator("#suspects li")
    assert pictures.count() == len(evidence.suspects)
    for number, suspect in enumerate(evidence.suspects):
        expect(pictures.nth(number).locator("p").first).to_have_text(suspect.text)
        expect(pictures.nth(number).locator(".file")).to_have_text(evidence.images[suspect.image])
        drawn = evidence.objects["image"].count(suspect.image) + sum(map(bool, (suspect.label, suspect.proposed)))
        expect(pictures.nth(number).locator("rect")).to_have_count(drawn)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.8, 0.9])
def test_errors_are_counted_at_the_threshold(tab: Page, metrics: Metrics, threshold: float) -> None:
    set_threshold(tab, threshold)
    for kind, count in metrics.error_counts(threshold).items():
        expect(tab.locator(f"#error-table tr[data-kind='{kind.value}'] .count")).to_have_text(str(count))


def test_the_buttons_find_thresholds(tab: Page, metrics: Metrics) -> None:
    for button, option in (("#best-f1", {}), ("#by-precision", {"precision": 0.9}), ("#by-recall", {"recall": 0.6})):
        for name, value in option.items():
            tab.locator(f"#{name}").fill(str(round(100 * value)))
        tab.locator(button).click()
        found = metrics.best_threshold(**option)
        assert found is not None
        assert float(tab.locator("#value").inner_text()) == pytest.approx(found, abs=0.006)
    tab.locator("#recall").fill("100")
    tab.locator("#by-recall").click()
    expect(tab.locator("#message")).to_have_text("No threshold of the slider reaches this recall.")


def show(tab: Page, folder: Path, metrics: Metrics, model: FasterRCNN | None = None) -> None:
    write_text(folder / "report.html", render(metrics, collect(metrics, threshold=0.5, model=model), Background("run")))
    tab.goto((folder / "report.html").as_uri())


def test_a_button_keeps_the_precision_at_the_threshold_that_the_slider_can_have(tab: Page, tmp_path: Path) -> None:
    """A threshold of 0.8635 has a precision of 75%. The steps of the slider beside it have 60% and 50%."""
    record = write_data(tmp_path)[1][0]
    cat, dog, emu = CLASSES
    right, wrong = [(cat, BOXES[0]), (dog, BOXES[1]), (emu, BOXES[2])], (cat, (80.0, 60.0, 110.0, 90.0))
    found = detections_of(
        (right[0][0], 0.95, right[0][1]),
        (wrong[0], 0.94, wrong[1]),
        (right[1][0], 0.867, right[1][1]),
        (right[2][0], 0.865, right[2][1]),
        (wrong[0], 0.862, (80.0, 5.0, 110.0, 35.0)),
    )
    show(tab, tmp_path, compute_metrics([_with_classes(found)], [record], CLASSES))
    tab.locator("#precision").fill("70")
    tab.locator("#by-precision").click()
    assert float(tab.locator("#shown-precision").inner_text().rstrip("%")) >= 70
    tab.locator("#precision").fill("101")
    tab.locator("#by-precision").click()
    expect(tab.locator("#message")).to_have_text("No threshold of the slider reaches this precision.")


def test_detections_inside_an_ignored_region_do_not_count(tab: Page, tmp_path: Path) -> None:
    record = write_data(tmp_path)[1][0]
    crowd = make_record(record.image, [((0, 0, 100, 100), CLASSES[0])], ignore=[True])
    found = _with_classes(detections_of((CLASSES[0], 0.9, BOXES[0]), (CLASSES[0], 0.8, BOXES[2])))
    show(tab, tmp_path, compute_metrics([found], [crowd], CLASSES))
    cells = tab.locator("#confusion tbody td").all_inner_texts()
    assert {cell or "0" for cell in cells} == {"0"}
    expect(tab.locator("#false")).to_have_text("0")
    expect(tab.locator("#labels")).to_contain_text("frcnn found no label that is probably wrong.")


def test_a_missed_object_with_a_weak_detection_has_its_reason_too(tab: Page, tmp_path: Path) -> None:
    record = write_data(tmp_path)[1][0]
    found = _with_classes(detections_of((CLASSES[0], 0.2, BOXES[0])))
    show(tab, tmp_path, compute_metrics([found], [record], CLASSES), tiny_model(classes=CLASSES))
    text = tab.locator("#pictures li p:first-of-type").filter(has_text="0.20").inner_text()
    assert re.fullmatch(r"cat: missed; detected with a confidence of only 0\.20; .+", text)


def test_the_page_says_which_ap_it_shows(tab: Page, tmp_path: Path) -> None:
    metrics = compute_metrics(*write_data(tmp_path), CLASSES, iou_threshold=0.7, use_07_metric=True)
    usual = compute_metrics(metrics.detections, metrics.records, CLASSES)
    background = Background("run", others=[("same", metrics.to_dict()), ("usual", usual.to_dict())])
    write_text(tmp_path / "report.html", render(metrics, collect(metrics, threshold=0.5), background))
    tab.goto((tmp_path / "report.html").as_uri())
    first = tab.locator("#summary tbody th").first
    expect(first).to_have_text("mAP70: mean over the classes of the average precision at IoU 0.7 (11-point)")
    expect(tab.locator("#class-table thead th").nth(2)).to_have_text("AP70")
    expect(tab.locator("#comparison thead th").nth(2)).to_have_text("mAP70")
    cells = [tab.locator(f"#comparison tbody tr:nth-child({row}) td").nth(1).inner_text() for row in (1, 2, 3)]
    assert cells[0] == cells[1]
    assert cells[2] == "-"  # of another IoU


def test_filters_by_kind_and_class_with_the_keyboard_alone(tab: Page) -> None:
    set_threshold(tab, 0.05)
    everything = tab.locator("#pictures li").count()
    tab.locator("#kind").focus()
    tab.keyboard.press("ArrowDown")  # missed
    descriptions = tab.locator("#pictures li p:first-of-type").all_inner_texts()
    assert 0 < len(descriptions) < everything
    assert all("missed" in text for text in descriptions)
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowDown")  # cat
    assert all(text.startswith("cat") for text in tab.locator("#pictures li p:first-of-type").all_inner_texts())
    tab.locator("#slider").focus()
    before = float(tab.locator("#value").inner_text())
    tab.keyboard.press("ArrowRight")
    assert float(tab.locator("#value").inner_text()) == pytest.approx(before + 0.01)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1366, "light")])
def test_it_fits_a_phone_and_a_laptop(browser: Browser, file: Path, width: int, scheme: str) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        back, front = page.evaluate(
            "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]; })()"
        )
        dark = sum(map(int, re.findall(r"\d+", back)[:3])) < sum(map(int, re.findall(r"\d+", front)[:3]))
        assert dark == (scheme == "dark")


def test_long_names_of_classes_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    draw_image([], seed=0, size=(100, 120)).save(tmp_path / "a.png")
    classes = ("connector with twelve pins, soldered, seen from below, " + "x" * 40, "dog")
    record = make_record(tmp_path / "a.png", [(BOXES[0], classes[0]), (BOXES[1], "dog")], (100, 120))
    metrics = compute_metrics([Detections.empty(classes)], [record], classes)
    write_text(tmp_path / "a.html", render(metrics, collect(metrics, threshold=0.5), Background("run")))
    with browser.new_context(viewport={"width": 390, "height": 800}) as context:
        page = context.new_page()
        page.goto((tmp_path / "a.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_thousands_of_images_make_a_page_that_can_be_sent(tmp_path: Path) -> None:
    """5,000 images and 100,000 detections: under 60 s, 2 GB and 10 MB."""
    rng = np.random.default_rng(0)
    draw_image([], size=(480, 640)).save(tmp_path / "a.png")
    records, detections = [], []
    for number in range(5000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "a.png")
        corner = rng.uniform(0, 500, (5, 2)).clip(max=(560, 400))
        boxes = np.concatenate((corner, corner + rng.uniform(20, 80, (5, 2))), axis=1)
        names = rng.integers(0, 3, 5)
        records.append(
            make_record(
                tmp_path / f"{number}.png", [(b, CLASSES[n]) for b, n in zip(boxes.tolist(), names, strict=True)]
            )
        )
        around = np.repeat(boxes, 4, axis=0) + rng.normal(0, 12, (20, 4))
        scores = np.sort(rng.uniform(0.06, 1, 20))[::-1].astype(np.float32)
        ids = np.where(rng.random(20) < 0.8, np.repeat(names, 4), rng.integers(0, 3, 20))
        detections.append(Detections(around.astype(np.float32), scores, ids, CLASSES))
    start, before = time.perf_counter(), psutil.Process().memory_info().rss
    metrics = compute_metrics(detections, records, CLASSES, seconds_per_image=0.1)
    page = render(metrics, collect(metrics, threshold=0.5), Background("large"))
    assert psutil.Process().memory_info().rss - before < 1e9
    assert len(page.encode()) < 10e6
    assert time.perf_counter() - start < 180  # 20 s on a quiet machine
    content = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert len(content["detections"]["score"]) == 100_000
    assert len(content["pictures"]) > 100
