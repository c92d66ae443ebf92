"""The review of labels that are probably wrong: what a person decides by keyboard, and what is in the files then."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect
from serving import Serve
from tiny import Box, detections_of, write_annotated

from frcnn.config import DataSettings
from frcnn.evaluation.suspects import Suspect, SuspectKind
from frcnn.tools.annotate.editing import Editor
from frcnn.tools.annotate.review import Review

Objects = list[tuple[str, Box]]

KINDS = list(SuspectKind)
PLACES: list[Box] = [(8, 8, 38, 40), (50, 10, 80, 44), (90, 50, 120, 90)]


def other(name: str) -> str:
    return {"blue": "red", "red": "blue"}[name]


def moved(box: Box, by: float) -> Box:
    x1, y1, x2, y2 = box
    return x1 + by, y1 + by, x2 + by, y2 + by


def damage(kind: SuspectKind, name: str, box: Box) -> tuple[Objects, Objects, Suspect]:
    """One object: its labels as they are, as they should be, and what a check would say."""
    label: Box | None = box
    if kind == SuspectKind.MISSING:
        return [], [(name, box)], Suspect(Path(), kind, 0.9, box, name, None, "")
    if kind == SuspectKind.CLASS:
        return [(other(name), box)], [(name, box)], Suspect(Path(), kind, 0.9, moved(box, 1), name, label, "")
    if kind == SuspectKind.PLACE:
        label = moved(box, 6)
        return [(name, label)], [(name, box)], Suspect(Path(), kind, 0.9, moved(box, 0.2), name, label, "")
    if kind == SuspectKind.EXTRA:
        return [(name, box)], [], Suspect(Path(), kind, 0.9, box, name, label, "nothing is detected there")
    label = moved(box, 2)
    return [(name, box), (name, label)], [(name, box)], Suspect(Path(), kind, 0.9, label, name, label, "")


def write_damaged(folder: Path, images: int) -> tuple[list[Suspect], list[tuple[Objects, Objects]]]:
    """Images of three objects each. Returns the suspects, and each one's labels as they are and as they should be."""
    suspects, objects = [], []
    for image in range(images):
        path = folder / f"{image:02}.png"
        there: Objects = []
        for place, box in enumerate(PLACES):
            kind = KINDS[(3 * image + place) % len(KINDS)]
            wrong, right, suspect = damage(kind, ("blue", "red")[place % 2], box)
            there += wrong
            suspects.append(suspect._replace(image=path))
            objects.append((wrong, right))
        write_annotated(path, there)
    return suspects, objects


def write_report(file: Path, suspects: Sequence[Suspect], folder: Path) -> Path:
    """What `frcnn check --json` writes, as far as a review reads it."""
    file.write_text(json.dumps({"problems": [], "suspects": [each.to_dict(folder) for each in suspects]}))
    return file


def labels(folder: Path, image: int) -> list[tuple[str, Box]]:
    names = (folder / f"{image:02}.bboxes.labels.tsv").read_text().splitlines()
    rows = (folder / f"{image:02}.bboxes.tsv").read_text().splitlines()
    boxes = [tuple(float(value) for value in row.split("\t")) for row in rows]
    return sorted(zip(names, boxes, strict=True))  # type: ignore[arg-type]


def review_of(file: Path, folder: Path) -> Review:
    return Review(file, Editor(folder, DataSettings()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def saved(tab: Page) -> None:
    expect(tab.locator("#saving")).to_have_text("saved")


def shows(tab: Page, number: int, suspects: Sequence[Suspect]) -> None:
    kind = suspects[number].kind
    expect(tab.locator("#suspect")).to_contain_text(f"{number + 1} of {len(suspects)}: {kind.value}")


def test_thirty_suspects_by_keyboard(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, objects = write_damaged(folder, 10)
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    address = serve(folder, review=report)
    tab.goto(address)
    kept = {4, 11, 18, 25}
    for number in range(len(suspects)):
        shows(tab, number, suspects)
        tab.keyboard.press("k" if number in kept else "a")
    expect(tab.locator("#progress")).to_have_text("30 of 30 suspects reviewed")
    expect(tab.locator("#decision")).to_contain_text("All suspects are reviewed")
    saved(tab)
    for image in range(10):
        numbers = range(3 * image, 3 * image + 3)
        expected = [each for number in numbers for each in objects[number][number not in kept]]
        assert labels(folder, image) == sorted(expected)
    assert review_of(report, folder).counts() == "30 of 30 suspects reviewed: 26 accepted, 4 kept"
    assert {url.partition("://")[2].partition("/")[0] for url in asked if not url.startswith("data:")} == {
        address.partition("://")[2].partition("/")[0]
    }


def test_decisions_are_kept_and_undone(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, objects = write_damaged(folder, 2)
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    before = [labels(folder, image) for image in range(2)]
    tab.goto(serve(folder, review=report))
    for number, key in enumerate("aakaa"):
        shows(tab, number, suspects)
        tab.keyboard.press(key)
    saved(tab)
    for number in (4, 3, 2):
        tab.keyboard.press("Control+z")
        shows(tab, number, suspects)
    saved(tab)
    assert review_of(report, folder).counts() == "2 of 6 suspects reviewed: 2 accepted, 0 kept"
    assert labels(folder, 1) == before[1]
    tab.keyboard.press("Control+Shift+z")
    tab.keyboard.press("Control+Shift+z")
    expect(tab.locator("#progress")).to_have_text("4 of 6 suspects reviewed")
    saved(tab)
    assert labels(folder, 1) == sorted([*objects[3][1], *objects[4][0], *objects[5][0]])
    tab.goto(serve(folder, review=report))  # a new start of the command goes on
    shows(tab, 4, suspects)
    expect(tab.locator("#progress")).to_have_text("4 of 6 suspects reviewed")
    tab.keyboard.press("PageUp")
    shows(tab, 3, suspects)
    expect(tab.locator("#decision")).to_have_text("accepted")
    expect(tab.locator("#accept-suspect")).to_be_disabled()  # the label is gone, or right


def test_a_change_by_hand_is_undone_before_the_decision(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, objects = write_damaged(folder, 1)
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    tab.goto(serve(folder, review=report))
    shows(tab, 0, suspects)
    tab.keyboard.press("a")
    shows(tab, 1, suspects)
    for key in ("Tab", "Delete"):
        tab.keyboard.press(key)
    saved(tab)
    assert len(labels(folder, 0)) == len([*objects[0][1], *objects[1][0], *objects[2][0]]) - 1
    tab.keyboard.press("Control+z")
    saved(tab)
    assert labels(folder, 0) == sorted([*objects[0][1], *objects[1][0], *objects[2][0]])
    expect(tab.locator("#progress")).to_have_text("1 of 3 suspects reviewed")
    tab.keyboard.press("Control+z")
    expect(tab.locator("#progress")).to_have_text("0 of 3 suspects reviewed")
    saved(tab)
    assert labels(folder, 0) == sorted([*objects[0][0], *objects[1][0], *objects[2][0]])


def test_undo_that_is_faster_than_the_images_loses_no_step(
    tab: Page, folder: Path, tmp_path: Path, serve: Serve
) -> None:
    for image in range(3):
        write_annotated(folder / f"{image:02}.png", [])
    suspects = [
        Suspect(folder / f"{image:02}.png", SuspectKind.MISSING, 0.9, PLACES[0], "red", None, "") for image in range(3)
    ]
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    tab.goto(serve(folder, review=report))
    for number in range(2):
        shows(tab, number, suspects)
        tab.keyboard.press("a")
    shows(tab, 2, suspects)
    saved(tab)

    def wait(route: Route) -> None:
        tab.wait_for_timeout(300)
        route.continue_()

    tab.route("**/annotations/**", lambda route: wait(route) if route.request.method == "GET" else route.continue_())
    for _ in range(2):
        tab.keyboard.press("Control+z")
    expect(tab.locator("#progress")).to_have_text("0 of 3 suspects reviewed")
    saved(tab)
    assert [labels(folder, image) for image in range(2)] == [[], []]
    for _ in range(2):
        tab.keyboard.press("Control+Shift+z")
    expect(tab.locator("#progress")).to_have_text("2 of 3 suspects reviewed")
    saved(tab)
    assert [labels(folder, image) for image in range(2)] == [[("red", PLACES[0])]] * 2


def test_accepting_twice_changes_once(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    """The last suspect stays on the screen; of a duplicate, the other label is like it."""
    wrong, right, suspect = damage(SuspectKind.TWICE, "red", PLACES[0])
    write_annotated(folder / "00.png", wrong)
    suspects = [suspect._replace(image=folder / "00.png")]
    tab.goto(serve(folder, review=write_report(tmp_path / "suspects.json", suspects, folder)))
    shows(tab, 0, suspects)
    for _ in range(3):
        tab.keyboard.press("a")
    tab.keyboard.press("k")
    expect(tab.locator("#decision")).to_contain_text("accepted")
    expect(tab.locator("#accept-suspect")).to_be_disabled()
    saved(tab)
    assert labels(folder, 0) == right
    tab.keyboard.press("Control+z")
    expect(tab.locator("#accept-suspect")).to_be_enabled()
    saved(tab)
    assert labels(folder, 0) == sorted(wrong)


def test_taking_the_annotation_of_another_tab_takes_the_decision_back(
    tab: Page, folder: Path, tmp_path: Path, serve: Serve
) -> None:
    write_annotated(folder / "00.png", [])
    suspects = [Suspect(folder / "00.png", SuspectKind.MISSING, 0.9, PLACES[0], "red", None, "")]
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    tab.goto(serve(folder, review=report))
    shows(tab, 0, suspects)
    write_annotated(folder / "00.png", [("blue", PLACES[1])])
    tab.keyboard.press("a")
    tab.get_by_role("button", name="Take theirs").click()
    expect(tab.locator("#progress")).to_have_text("0 of 1 suspect reviewed")
    saved(tab)
    assert review_of(report, folder).counts() == "0 of 1 suspect reviewed: 0 accepted, 0 kept"
    assert labels(folder, 0) == [("blue", PLACES[1])]


def test_two_labels_in_one_place_are_told_apart_by_their_class(
    tab: Page, folder: Path, tmp_path: Path, serve: Serve
) -> None:
    box = PLACES[0]
    write_annotated(folder / "00.png", [("red", box), ("blue", box)])
    suspects = [
        Suspect(folder / "00.png", SuspectKind.CLASS, 0.9, box, "owl", box, "", name) for name in ("red", "blue")
    ]
    tab.goto(serve(folder, review=write_report(tmp_path / "suspects.json", suspects, folder)))
    shows(tab, 0, suspects)
    tab.keyboard.press("a")
    shows(tab, 1, suspects)
    tab.keyboard.press("a")
    expect(tab.locator("#progress")).to_have_text("2 of 2 suspects reviewed")
    saved(tab)
    assert labels(folder, 0) == [("owl", box), ("owl", box)]


def test_an_image_that_cannot_be_read_is_kept(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, _ = write_damaged(folder, 1)
    report = write_report(tmp_path / "suspects.json", suspects[:1], folder)
    (folder / "00.bboxes.tsv").write_text("1\t2\n")
    tab.goto(serve(folder, review=report))
    expect(tab.locator("#accept-suspect")).to_be_disabled()
    tab.keyboard.press("k")
    expect(tab.locator("#progress")).to_have_text("1 of 1 suspect reviewed")


def test_nothing_is_proposed_in_a_review(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, _ = write_damaged(folder, 1)
    report = write_report(tmp_path / "suspects.json", suspects, folder)
    answer = detections_of(("red", 0.9, PLACES[0]))
    tab.goto(serve(folder, review=report, propose=lambda image: answer))
    shows(tab, 0, suspects)
    for key in ("Tab", "Escape"):
        tab.keyboard.press(key)
        for name in ("propose", "accept", "copy", "empty"):
            expect(tab.locator(f"#{name}")).to_be_hidden()


def test_names_and_reasons_stay_text(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    write_annotated(folder / "00.png", [])
    name = "<img src=x onerror=alert(1)>"
    hostile = Suspect(folder / "00.png", SuspectKind.MISSING, 0.9, PLACES[0], name, None, "<b>sure</b>")
    tab.goto(serve(folder, review=write_report(tmp_path / "suspects.json", [hostile], folder)))
    expect(tab.locator("#suspect")).to_have_text(f"1 of 1: object without label, {name}")
    expect(tab.locator("#reason")).to_have_text("<b>sure</b>")
    expect(tab.locator("#accept-suspect")).to_have_text(f"Accept: add the label {name}")
    tab.keyboard.press("a")
    saved(tab)
    assert labels(folder, 0) == [(name, PLACES[0])]


def test_the_list_shows_what_is_left(tab: Page, folder: Path, tmp_path: Path, serve: Serve) -> None:
    suspects, _ = write_damaged(folder, 1)
    tab.goto(serve(folder, review=write_report(tmp_path / "suspects.json", suspects, folder)))
    shows(tab, 0, suspects)
    tab.keyboard.press("k")
    shows(tab, 1, suspects)
    marks = tab.locator("#images .mark")
    expect(marks).to_have_text([f"✓ kept · {KINDS[0].value}", *(each.value for each in KINDS[1:3])])
    tab.locator("#filter").select_option("todo")
    expect(marks).to_have_count(2)
    tab.locator("#filter").select_option("done")
    expect(marks).to_have_text([re.compile("kept"), KINDS[1].value])  # the one that is shown stays


def test_invalid_files_are_refused(folder: Path, tmp_path: Path) -> None:
    suspects, _ = write_damaged(folder, 1)
    file = tmp_path / "suspects.json"
    file.write_text('{"problems": []}')
    with pytest.raises(ValueError, match=r"suspects\.json.*suspects.*frcnn check DATA --model RUN_DIR --json FILE"):
        review_of(file, folder)
    write_report(file, [suspects[0]._replace(image=folder / "gone.png")], folder)
    with pytest.raises(
        ValueError, match=r"none of its images is in .*photos, e\.g\. gone\.png; run `frcnn annotate` on"
    ):
        review_of(file, folder)
    for name in ("\0", "\ud800"):  # no file can have them
        write_report(file, [suspects[0]._replace(image=folder / name)], folder)
        with pytest.raises(ValueError, match="none of its images is in"):
            review_of(file, folder)
    file.write_text(json.dumps({"suspects": [{"kind": "x" * 10_000}]}))
    with pytest.raises(ValueError, match=r"suspects\.json: .{1,500}; it must hold the list"):
        review_of(file, folder)
    write_report(file, [suspects[0], suspects[1]._replace(image=folder / "gone.png")], folder)
    review = review_of(file, folder)
    assert (len(review.suspects), review.not_shown) == (1, "1 suspect not shown: the image is not there, e.g. gone.png")
    (tmp_path / "suspects.decisions.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"decisions\.json.*rename or delete it to start the review again"):
        review_of(file, folder)


def test_file_names_that_are_not_utf_8(folder: Path, tmp_path: Path) -> None:
    suspects, _ = write_damaged(folder, 1)
    os.rename(folder / "00.png", os.fsencode(folder) + b"/\xff.png")
    named = [each._replace(image=folder / "\udcff.png") for each in suspects]
    review = review_of(write_report(tmp_path / "suspects.json", named, folder), folder)
    review.decide(2, "kept")
    assert review_of(tmp_path / "suspects.json", folder).decision(2) == "kept"


def test_decisions_outlive_a_new_check(folder: Path, tmp_path: Path) -> None:
    suspects, _ = write_damaged(folder, 2)
    review = review_of(write_report(tmp_path / "suspects.json", suspects, folder), folder)
    review.decide(1, "kept")
    review.decide(2, "accepted")
    review.decide(2, None)
    again = [suspects[4], suspects[1]._replace(score=0.4, reason="another one")]
    review = review_of(write_report(tmp_path / "suspects.json", again, folder), folder)
    assert [review.decision(number) for number in range(2)] == [None, "kept"]
    review.decide(0, "accepted")
    review = review_of(write_report(tmp_path / "suspects.json", suspects, folder), folder)
    assert [review.decision(number) for number in range(6)] == [None, "kept", None, None, "accepted", None]


def test_two_reviews_of_the_same_suspects_keep_the_decisions_of_both(folder: Path, tmp_path: Path) -> None:
    suspects, _ = write_damaged(folder, 1)
    file = write_report(tmp_path / "suspects.json", suspects, folder)
    one, two = review_of(file, folder), review_of(file, folder)
    one.decide(0, "kept")
    two.decide(1, "accepted")
    two.decide(0, "accepted")  # the later one stays
    one.decide(2, "kept")
    two.decide(1, None)
    assert [review_of(file, folder).decision(number) for number in range(3)] == ["accepted", None, "kept"]
    assert [each["decision"] for each in one.for_page()] == ["accepted", None, "kept"]
