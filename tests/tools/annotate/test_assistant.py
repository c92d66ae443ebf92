"""Which images to label next, and a training that the page starts."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from serving import Serve
from tiny import SETTINGS, draw_image, trained_run, write_annotated

from frcnn.cli import main
from frcnn.config import DataSettings
from frcnn.detector import load
from frcnn.tools.annotate import next_images
from frcnn.tools.annotate.assistant import Assistant
from frcnn.tools.annotate.editing import Editor
from frcnn.tools.annotate.next_images import choose_next, farthest_first

OBJECTS = [("red", (10.0, 10.0, 60.0, 60.0)), ("blue", (70.0, 30.0, 120.0, 90.0))]


def write_photos(folder: Path, *, labeled: int, new: int) -> Path:
    folder.mkdir()
    for number in range(labeled):
        write_annotated(folder / f"{number}.png", OBJECTS, seed=number)
    for number in range(labeled, labeled + new):
        draw_image(OBJECTS[: 1 + number % 2], seed=number).save(folder / f"{number}.png")
    return folder


def train_arguments(folder: Path, run: Path) -> list[str]:
    settings = [part for setting in (*SETTINGS, "train.epochs=1") for part in ("--set", setting)]
    return ["train", str(folder), "--out", str(run), "--weights", "none", "--offline", *settings]


def assistant_that_trains(editor: Editor, run: Path, *, count: int = 0) -> Assistant:
    command = [sys.executable, "-m", "frcnn", *train_arguments(editor.folder, run)]
    return Assistant(editor, threshold=0.0, count=count, train=lambda: (command, run))


def ended(assistant: Assistant, *, state: str = "running") -> str:
    """The state when the training has ended.

    Args:
        state: until then.
    """
    deadline = time.monotonic() + 120
    while assistant.training().state == state and time.monotonic() < deadline:
        time.sleep(0.05)
    return assistant.training().state


# ----------------------------------------------------------------------------------------------------- which images


def test_the_farthest_image_comes_first() -> None:
    features = np.array([[0.0, 0], [1, 0], [10, 0], [10, 1], [0, 8]])
    assert farthest_first(features, np.array([[0.0, 0]]), 3) == [3, 4, 1]
    assert farthest_first(features, np.zeros((0, 2)), 1) == [1]  # the one nearest to the mean
    assert sorted(farthest_first(features, features[:1], 9)) == [0, 1, 2, 3, 4]  # never one twice
    assert farthest_first(features[:0], features, 3) == []


def test_images_unlike_the_labeled_ones_and_each_other_are_chosen() -> None:
    labeled = [np.array([1.0, 0, 0])]
    new = [np.array([0.99, 0.01, 0]), np.array([0, 1.0, 0]), np.array([0, 0, 1.0]), np.array([0, 0.1, 1.0])]
    assert set(choose_next(new, labeled, 2)) in ({1, 2}, {1, 3})  # 0 is like what is labeled, 3 is like 2
    assert set(choose_next(new, labeled, 3)) == {1, 2, 3}
    assert choose_next([], labeled, 2) == []
    assert choose_next(new[:1], [], 5) == [0]


def test_images_to_do_are_chosen(tmp_path: Path) -> None:
    editor = Editor(write_photos(tmp_path / "photos", labeled=2, new=4), DataSettings())
    assistant = Assistant(editor, load(trained_run()), count=3)
    progress: list[tuple[int, int]] = []
    assistant.choose_next(lambda done, total: progress.append((done, total)))
    assert progress == [(number, 6) for number in range(1, 7)]
    assert len(assistant.next_images) == 3
    assert set(assistant.next_images) <= {2, 3, 4, 5}
    again = Assistant(editor, load(trained_run()), count=3)
    again.choose_next()
    assert again.next_images == assistant.next_images


def test_choosing_needs_a_detector_with_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", labeled=1, new=1)
    assert main(["annotate", str(photos), "--next", "5"]) == 2
    assert "--next: choosing images needs a detector; add --model RUN_DIR" in capsys.readouterr().err
    assert main(["annotate", str(photos), "--next", "5", "--review", "suspects.json"]) == 2
    assert "--next and --review exclude each other" in capsys.readouterr().err
    exported = load(trained_run()).export("onnx", tmp_path / "model.onnx").files[0]
    assert main(["annotate", str(photos), "--next", "5", "--model", str(exported)]) == 2
    assert "an exported file has no PyTorch model; load the run directory instead" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["annotate", str(photos), "--next", "0"])


def chosen(editor: Editor) -> Assistant:
    """As `--next 2` made it."""
    assistant = Assistant(editor)
    assistant.next_images = [4, 2]
    return assistant


def test_the_page_shows_the_chosen_images_in_their_order(tab: Page, tmp_path: Path, serve: Serve) -> None:
    photos = write_photos(tmp_path / "photos", labeled=1, new=5)
    tab.goto(serve(photos, assist=chosen))
    expect(tab.locator("#about")).to_contain_text("4.png")
    assert tab.locator("#filter option:checked").inner_text() == "to label next (2)"
    expect(tab.locator("#images .name")).to_have_text(["4.png", "2.png"])
    expect(tab.locator("#previous")).to_be_disabled()
    tab.keyboard.press("ArrowRight")
    expect(tab.locator("#about")).to_contain_text("2.png")
    expect(tab.locator("#next")).to_be_disabled()
    tab.keyboard.press("e")  # without objects: done
    expect(tab.locator("#saving")).to_have_text("saved")
    tab.keyboard.press("t")
    expect(tab.locator("#about")).to_contain_text("4.png")
    tab.locator("#filter").select_option("all")
    expect(tab.locator("#images .name")).to_have_text([f"{number}.png" for number in range(6)])


def test_boxes_are_copied_from_the_image_before_in_the_list(tab: Page, tmp_path: Path, serve: Serve) -> None:
    photos = write_photos(tmp_path / "photos", labeled=2, new=4)
    tab.goto(serve(photos, assist=chosen))
    expect(tab.locator("#about")).to_contain_text("4.png · 128 × 96 pixels")
    expect(tab.locator("#copy")).to_be_disabled()
    for key in ("b", "Escape", "ArrowRight"):
        tab.keyboard.press(key)
    expect(tab.locator("#about")).to_contain_text("2.png · 128 × 96 pixels")
    tab.keyboard.press("c")
    expect(tab.locator("#about")).to_contain_text(re.compile("1 object$"))
    expect(tab.locator("#saving")).to_have_text("saved")
    assert (photos / "2.bboxes.tsv").read_text() == (photos / "4.bboxes.tsv").read_text()


# ----------------------------------------------------------------------------------------------------------- training


def test_the_page_without_a_detector_does_not_wait_for_pytorch() -> None:
    code = "import sys; from frcnn.tools.annotate import assistant, review, server; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_page_trains_and_proposals_come_from_the_new_detector(tab: Page, tmp_path: Path, serve: Serve) -> None:
    photos = write_photos(tmp_path / "photos", labeled=4, new=2)
    made: list[Assistant] = []

    def assist(editor: Editor) -> Assistant:
        made.append(assistant_that_trains(editor, tmp_path / "run", count=1))
        return made[0]

    tab.goto(serve(photos, assist=assist))
    expect(tab.locator("#about")).to_contain_text("4.png")
    expect(tab.locator("#propose")).to_be_hidden()
    tab.locator("#train").click()
    expect(tab.locator("#train")).to_be_disabled()
    expect(tab.locator("#training")).to_contain_text("Proposals now come from", timeout=120_000)
    expect(tab.locator("#train")).to_be_enabled()
    assert load(tmp_path / "run").classes == ("blue", "red")
    expect(tab.locator("#propose")).to_be_visible()
    expect(tab.locator(".box.proposed").first).to_be_visible()
    expect(tab.locator("#filter [value=next]")).to_have_text("to label next (1)")
    assert len(made[0].next_images) == 1


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    editor = Editor(write_photos(tmp_path / "photos", labeled=0, new=2), DataSettings())
    assistant = assistant_that_trains(editor, tmp_path / "run")
    assert assistant.start_training().state == "running"
    assert ended(assistant) == "failed"
    assert re.search(r"The training failed: (.|\n)*no annotations", assistant.training().message)
    assert assistant.detector is None


def test_after_a_training_images_are_chosen_and_a_failure_of_this_is_no_failure_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor(write_photos(tmp_path / "photos", labeled=1, new=2), DataSettings())
    said: list[str] = []
    command = [sys.executable, "-c", ""]
    assistant = Assistant(editor, count=1, train=lambda: (command, trained_run()))
    monkeypatch.setattr(assistant, "_say", lambda state, message: said.append(message))
    assistant.start_training()
    assert ended(assistant, state="idle") == "done"
    assert said[-1] == "choosing the images to label next: looked at 3 of 3 images"
    finished = f"The training has finished. Proposals now come from {trained_run()}."
    assert assistant.training().message == finished

    def fail(*arguments: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(next_images, "choose_next", fail)
    assistant.start_training()
    deadline = time.monotonic() + 60
    while assistant.training().finished < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert assistant.training().state == "done"
    assert (
        assistant.training().message == f"{finished} The images to label next were not chosen again: the disk is gone"
    )


def test_one_training_at_a_time_and_none_after_the_end(tmp_path: Path) -> None:
    editor = Editor(write_photos(tmp_path / "photos", labeled=1, new=1), DataSettings())
    started: list[int] = []
    waits = [sys.executable, "-c", "import time; print('a, step 3/10: loss, 150 s left', flush=True); time.sleep(600)"]

    def train() -> tuple[list[str], Path]:
        started.append(1)
        return waits, tmp_path / "run"

    assistant = Assistant(editor, train=train)
    assert assistant.training().state == "idle"
    assistant.start_training()
    assistant.start_training()
    assert len(started) == 1
    deadline = time.monotonic() + 60
    while "step" not in assistant.training().message and time.monotonic() < deadline:
        time.sleep(0.05)
    assert assistant.training().message == "training: step 3 of 10, 2.5 min left"
    process = assistant._process
    assert isinstance(process, subprocess.Popen)
    assistant.stop()
    assert process.poll() is not None
    assert ended(assistant) == "failed"
