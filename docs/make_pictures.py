"""Make the pictures of the pages: screenshots and detections.

    frcnn train GROCERY --seed 1 --no-plan --out RUN_DIR    # for grocery-detections: without --no-plan
    frcnn demo --out DEMO
    python docs/make_pictures.py GROCERY RUN_DIR DEMO [NAME ...]

GROCERY is the folder of the Grocery photos (github.com/Azure/ObjectDetectionUsingCntk). NAME is a picture, e.g.
report; without names, all are made. Needs the extras `annotate` and `serve`, Playwright and an installed Chromium.

Three pictures come from elsewhere: browser.jpg is the page of examples/browser, bccd-detections.jpg a test image of
benchmarks/bccd.py, and graph-evaluation.png is written by a training with `train.draw_graph=true`.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parent / "images"
LAPTOP = {"width": 1366, "height": 768}
MOVED = "12.bboxes.tsv"
"""In the review, the first box of this photo is in a wrong place."""


class Inputs(NamedTuple):
    grocery: Path
    run: Path
    """Trained on it."""
    demo: Path
    """Of `frcnn demo`."""
    folder: Path
    """Empty, to work in."""
    page: Page


def grocery_detections(inputs: Inputs) -> None:
    save(side_by_side(sorted(inputs.run.glob("images/*-detections.jpg"))[:4], height=640), "grocery-detections")


def demo_detections(inputs: Inputs) -> None:
    save(side_by_side(sorted(inputs.demo.glob("run/images/*-detections.jpg"))[:2], height=480), "demo-detections")


def annotate(inputs: Inputs) -> None:
    photos = inputs.folder / "fridge"
    shutil.copytree(inputs.grocery / "positive", photos)
    with served("annotate", photos) as address:
        inputs.page.goto(address)
        inputs.page.locator("#images li").nth(1).click()
        inputs.page.get_by_role("button", name="joghurt").last.click()
        screenshot(inputs.page, "annotate")


def check_mislabeled(inputs: Inputs) -> tuple[Path, Path, Path]:
    """A copy with a wrong label, what `frcnn check` suspects, and its folder of pictures."""
    data, suspects, sheets = (inputs.folder / name for name in ("fridge-labels", "suspects.json", "sheets"))
    if data.exists():
        return data, suspects, sheets
    shutil.copytree(inputs.grocery, data)
    labels = data / "positive" / MOVED
    first, *others = labels.read_text(encoding="utf-8").splitlines()
    x1, y1, x2, y2 = map(int, first.split())
    moved = (x1 + (x2 - x1) // 3, y1 - (y2 - y1) // 3, x2 + (x2 - x1) // 3, y2 - (y2 - y1) // 3)
    labels.write_text("\n".join(["\t".join(map(str, moved)), *others]) + "\n", encoding="utf-8")
    frcnn("check", data, "--model", inputs.run, "--json", suspects, "--pictures", sheets)
    return data, suspects, sheets


def suspects(inputs: Inputs) -> None:
    _, _, sheets = check_mislabeled(inputs)
    with Image.open(sheets / "suspects-1.jpg") as sheet:
        save(sheet.convert("RGB").crop((0, 0, sheet.width // 2, sheet.height)), "suspects")  # the rest is empty


def review(inputs: Inputs) -> None:
    data, suspects, _ = check_mislabeled(inputs)
    kinds = [suspect["kind"] for suspect in json.loads(suspects.read_text(encoding="utf-8"))["suspects"]]
    with served("annotate", data, "--review", suspects) as address:
        inputs.page.goto(address)
        inputs.page.locator("#images li").nth(kinds.index("badly placed box")).click()
        screenshot(inputs.page, "review")


def report(inputs: Inputs) -> None:
    inputs.page.goto((inputs.run / "report.html").resolve().as_uri())
    screenshot(inputs.page, "report")


def threshold(inputs: Inputs) -> None:
    inputs.page.goto((inputs.run / "report.html").resolve().as_uri())
    inputs.page.get_by_role("button", name="Highest F1").click()
    inputs.page.locator("#threshold").evaluate("section => section.scrollIntoView()")
    screenshot(inputs.page, "threshold")


def serve(inputs: Inputs) -> None:
    with served("serve", inputs.run) as address:
        inputs.page.goto(address)
        inputs.page.locator("#files").set_input_files(sorted(inputs.grocery.glob("testImages/*.jpg"))[0])
        inputs.page.locator("#detections tr").first.wait_for()
        screenshot(inputs.page, "serve")


PICTURES: tuple[Callable[[Inputs], None], ...] = (
    *(grocery_detections, demo_detections),
    *(annotate, suspects, review, report, threshold, serve),
)


def side_by_side(files: list[Path], height: int) -> Image.Image:
    """One picture of several, with white between them."""
    parts = [Image.open(file) for file in files]
    parts = [part.resize((round(part.width * height / part.height), height)) for part in parts]
    whole = Image.new("RGB", (sum(part.width + 8 for part in parts) - 8, height), "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + 8
    return whole


def screenshot(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # images are decoded
    page.screenshot(path=OUT / f"{name}.jpg", type="jpeg", quality=85)


def save(picture: Image.Image, name: str) -> None:
    picture.save(OUT / f"{name}.jpg", quality=85)


def frcnn(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "frcnn", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def served(*arguments: object) -> Iterator[str]:
    """Run a command that serves a page. Gives its address."""
    command = [sys.executable, "-u", "-m", "frcnn", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("grocery", "run_dir", "demo"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    known = {make.__name__.replace("_", "-"): make for make in PICTURES}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all: {', '.join(known)}")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no picture {unknown[0]}; there are: {', '.join(known)}")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name in options.names or known:
            page = browser.new_page(viewport=LAPTOP)
            known[name](Inputs(options.grocery, options.run_dir, options.demo, Path(folder), page))
            page.close()
            print(f"{OUT / name}.jpg: {(OUT / name).with_suffix('.jpg').stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
