"""How long the page of `frcnn annotate` takes on 5,000 photos of 12 megapixels, and write benchmarks/annotate.md.

    python benchmarks/annotate.py

Needs the extra `annotate`, Playwright and an installed Chromium. The photos are links to 20 different ones (JPEG, about
3 MB each), in a temporary folder.
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from compare.machine import machine
from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
IMAGES, DIFFERENT, SIZE = 5000, 20, (4000, 3000)
STEPS = 30


def write_photos(folder: Path) -> float:
    """Returns megabytes of one."""
    for number in range(DIFFERENT):
        generator = np.random.default_rng(number)
        small = Image.fromarray(generator.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8))
        small.resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    for number in range(DIFFERENT, IMAGES):
        (folder / f"{number}.jpg").hardlink_to(folder / f"{number % DIFFERENT}.jpg")
    return (folder / "0.jpg").stat().st_size / 1e6


def shown(page: Page, number: int) -> None:
    page.wait_for_function(
        f"""() => document.getElementById('about').textContent.startsWith('{number}.jpg')
            && document.getElementById('photo').complete"""
    )


def measure(page: Page, address: str) -> dict[str, float]:
    """Seconds."""
    times: dict[str, float] = {}
    start = time.perf_counter()
    page.goto(address)
    shown(page, 0)
    times["open the page, first photo seen"] = time.perf_counter() - start
    nexts, draws = [], []
    for number in range(1, STEPS + 1):
        start = time.perf_counter()
        page.keyboard.press("ArrowRight")
        shown(page, number)
        page.evaluate("document.getElementById('photo').decode()")
        nexts.append(time.perf_counter() - start)
        start = time.perf_counter()
        page.keyboard.press("b")
        page.wait_for_function("document.getElementById('saving').textContent === 'saved'")
        draws.append(time.perf_counter() - start)
        page.keyboard.press("Escape")
        page.wait_for_timeout(300)
    times["next photo, median"] = statistics.median(nexts)
    times["next photo, slowest of 30"] = max(nexts)
    times["draw a box until it is saved, median"] = statistics.median(draws)
    times["draw a box until it is saved, slowest of 30"] = max(draws)
    frames = page.evaluate(
        """async () => {
            const list = document.getElementById('images');
            const gaps = [];
            let last = performance.now();
            for (let step = 1; step <= 120; step++) {
                list.scrollTop = list.scrollHeight * step / 120;
                await new Promise(requestAnimationFrame);
                gaps.push(performance.now() - last);
                last = performance.now();
            }
            return gaps;
        }"""
    )
    times["scroll the list from end to end: a frame, median"] = statistics.median(frames) / 1000
    times["scroll the list from end to end: a frame, slowest"] = max(frames) / 1000
    start = time.perf_counter()
    page.wait_for_function(
        """() => [...document.querySelectorAll('#images li')].slice(-5).every(
            row => row.querySelector('img').complete && row.querySelector('img').naturalWidth)"""
    )
    times["then, until the last thumbnails are there"] = time.perf_counter() - start
    return times


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder)
        megabytes = write_photos(photos)
        start = time.perf_counter()
        command = [sys.executable, "-u", "-m", "frcnn", "annotate", folder, "--port", "0", "--classes", "thing"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                lines = [server.stdout.readline() for _ in range(2)]
                times = {"start the command": time.perf_counter() - start}
                found = re.search(r"http://\S+", lines[1])
                assert found is not None, lines
                path = shutil.which("chromium") or shutil.which("google-chrome")
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                    times |= measure(
                        browser.new_page(viewport={"width": 1366, "height": 768}, bypass_csp=True), found.group(0)
                    )
                    browser.close()
                status = Path(f"/proc/{server.pid}/status").read_text()
                memory = int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]
            finally:
                server.terminate()
    rows = "".join(f"| {what} | {seconds:.2f} s |\n" for what, seconds in times.items())
    text = f"""# The page of `frcnn annotate`

{IMAGES} JPEG photos, {SIZE[0]} pixels wide and {SIZE[1]} high (links to {DIFFERENT} different files of
{megabytes:.1f} MB each), in headless Chromium on the same machine. `benchmarks/annotate.py` writes this
file.

| what | time |
| --- | --- |
{rows}
Peak memory of the server: {memory:.0f} MB. Machine: {machine()}.
"""
    (HERE / "annotate.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
