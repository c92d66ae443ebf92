"""The programs of examples/ are built and run, and detect what Python detects."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network import identifiers, to_others, traced
from openvino.utils import get_cmake_path
from PIL import Image, ImageCms
from playwright.sync_api import Browser

from frcnn.data.images import read_image
from frcnn.detector import load
from frcnn.export.export import Export

EXAMPLES = Path(__file__).parents[2] / "examples"

Output = list[dict[str, object]]
Make = Callable[..., Export]


@pytest.fixture(scope="module")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """As they come out of cameras: large, a gray one, one with a color profile (which Pillow does not
    apply), and turned in every way that an EXIF tag can say."""
    folder = tmp_path_factory.mktemp("camera photos")
    files = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))
    shutil.copy(files[0], folder / "0 whole.jpg")
    read_image(files[1]).convert("L").resize((333, 421)).save(folder / "0 gray.jpg")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    read_image(files[1]).resize((400, 500)).save(folder / "0 profile.jpg", quality=95, icc_profile=swapped)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        read_image(files[2]).resize((401, 310)).save(folder / f"{orientation}.jpg", exif=exif, quality=95)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def expected(exported: Make, photos: list[Path]) -> Output:
    return of_python(exported("onnx").files[0], photos)


def of_python(file: Path, photos: list[Path], score_threshold: float = 0.05) -> Output:
    found: Output = [each.to_dict() for each in load(file).predict_iter(photos, threshold=score_threshold)]
    # What a detector of rectangles sees in real photos depends on rounding: in a photo or two, it may be nothing.
    assert sum(len(one["detections"]) > 0 for one in found) > len(found) / 2  # type: ignore[arg-type]
    return found


def assert_same(found: Output, expected: Output) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one["image"] == other["image"]
        detections, wanted = one["detections"], other["detections"]
        assert [d["class"] for d in detections] == [d["class"] for d in wanted], one["image"]  # type: ignore[attr-defined]
        for detection, want in zip(detections, wanted, strict=True):  # type: ignore[call-overload]
            assert detection["box"] == pytest.approx(want["box"], abs=0.1), one["image"]
            assert detection["score"] == pytest.approx(want["score"], abs=1e-3), one["image"]


def require(*programs: str) -> None:
    """Skip where a program is missing; in CI none may be."""
    for program in programs:
        if shutil.which(program) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{program} is not installed, and CI may not skip the tests of the examples")
            pytest.skip(f"{program} is not installed")


def installed(name: str, folder: Path) -> Path:
    """A copy of an example (and of what it shares), with its packages."""
    require("node", "npm")
    ignore = shutil.ignore_patterns("node_modules", "*.onnx", "build")
    shutil.copytree(EXAMPLES, folder, ignore=ignore)
    subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder / name, check=True)
    return folder / name


def test_node(exported: Make, photos: list[Path], expected: Output, tmp_path: Path) -> None:
    folder = installed("node", tmp_path / "examples")

    def detect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", "detect.js", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )

    for options in ({}, {"image_size": (96, 160), "batch": 2, "images_as": "float"}):
        file = exported("onnx", **options).files[0]
        done = detect(file, *photos, "--threshold", "0.05")
        assert done.returncode == 0, done.stderr
        assert_same(json.loads(done.stdout), expected if not options else of_python(file, photos))
    assert to_others(traced(folder, "node", "detect.js", file, photos[0])) == []
    assert identifiers(folder) == []
    done = detect(photos[0], photos[0])
    assert done.returncode == 2
    assert done.stderr.startswith("detect.js: ")


def test_cpp(exported: Make, photos: list[Path], tmp_path: Path) -> None:
    require("cmake", "g++")
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", EXAMPLES / "cpp", "-B", build, f"-DOpenVINO_DIR={get_cmake_path()}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr

    def detect(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([build / "detect", *arguments], capture_output=True, text=True, timeout=120, check=False)

    fixed = {"image_size": (96, 160), "batch": 2, "images_as": "float"}
    for to, options in (("openvino", {}), ("onnx", {}), ("openvino", fixed)):
        file = exported(to, **options).files[0]
        done = detect(file, *photos, "--threshold", "0.05")
        assert done.returncode == 0, done.stderr
        assert_same(json.loads(done.stdout), of_python(file, photos))
    assert to_others(traced(tmp_path, build / "detect", file, photos[0])) == []
    for arguments, message in (
        (["none.xml", photos[0]], "none.xml: "),
        ([exported("openvino").files[0], "none.jpg"], "none.jpg: cannot be opened"),
        ([exported("openvino").files[0], __file__], "Not a JPEG file"),
    ):
        done = detect(*arguments)
        assert done.returncode == 2
        assert message in done.stderr


@pytest.mark.slow
def test_csharp(exported: Make, photos: list[Path], expected: Output, tmp_path: Path) -> None:
    if shutil.which("dotnet") is None:
        pytest.skip("dotnet is not installed")
    folder = tmp_path / "csharp"
    shutil.copytree(EXAMPLES / "csharp", folder)
    command = ["dotnet", "run", "--", exported("onnx").files[0], *photos]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sure = [{**one, "detections": [d for d in one["detections"] if d["score"] >= 0.5]} for one in expected]  # type: ignore[attr-defined]
    assert_same(found, sure)


@pytest.fixture
def page_address(tmp_path: Path, exported: Make) -> Iterator[str]:
    folder = installed("browser", tmp_path / "examples")
    shutil.copy(exported("onnx").files[0], folder / "model.onnx")
    with subprocess.Popen(["node", "serve.js", "0"], cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("open ").strip()
        finally:
            server.terminate()


def test_browser(browser: Browser, page_address: str, photos: list[Path], expected: Output) -> None:
    wanted = {str(one["image"]): one for one in expected}
    with browser.new_page() as page:
        problems: list[str] = []
        asked: list[tuple[str, str]] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append((request.method, request.url)))
        page.goto(page_address)
        page.get_by_text("The model knows: blue, red.").wait_for()
        loaded = len(asked)
        for photo in photos:
            page.set_input_files("#files", photo)
            page.wait_for_function("name => window.result?.image === name", arg=photo.name)
            found = page.evaluate("window.result")
            assert_same([{**found, "image": str(photo)}], [wanted[str(photo)]])
        assert len(asked) == loaded  # nothing was sent or fetched
        assert all(method == "GET" and url.startswith((page_address, "data:", "blob:")) for method, url in asked)

        rows = page.locator("#found tbody tr")
        page.locator("#slider").fill("0.05")
        assert rows.count() == len(found["detections"])
        page.locator("#slider").fill("0.95")
        assert rows.count() == sum(one["score"] >= 0.95 for one in found["detections"])
        page.set_input_files("#files", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no photo"})
        page.get_by_text("x.jpg: The source image could not be decoded").wait_for()
        page.set_input_files("#files", {"name": "x.onnx", "mimeType": "", "buffer": b"no model"})
        page.get_by_text("The model cannot be used: damaged, or not an ONNX file").wait_for()
        assert problems == []
