"""The steps of the Dockerfile, in an environment of their own: Docker is not needed, and not tested."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml
from service import TOKEN
from tiny import trained_run
from uv import find_uv_bin

import frcnn
from frcnn.data.images import read_image

ROOT = Path(__file__).parents[2]
NOBODY = 65534
BASE_MEGABYTES = 150
"""python:3.13-slim, unpacked, as its users report it."""


class Instruction(NamedTuple):
    stage: int
    name: str
    value: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, in its order; continued lines are joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    found, stage = [], -1
    for line in filter(None, text.splitlines()):
        name, _, value = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, " ".join(value.split())))
    return found


def of(name: str) -> str:
    """The last value of an instruction."""
    return [each.value for each in instructions() if each.name == name][-1]


class Image(NamedTuple):
    """What the image would have."""

    folder: Path
    python: Path
    environment: dict[str, str]


def readable_python(folder: Path) -> Path:
    """The Python of the tests; a copy of it in the folder if other users cannot read it."""
    installed = Path(sys.base_prefix)
    python = Path("bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if all(each.stat().st_mode & 0o005 == 0o005 for each in (installed, *installed.parents)):
        return installed / python
    unused = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a", "idlelib", "tkinter")
    shutil.copytree(installed, folder / "python", symlinks=True, ignore=unused)
    return folder / "python" / python


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """An environment made by the pip commands of the Dockerfile, which anyone can read."""
    with tempfile.TemporaryDirectory(prefix="frcnn-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        python = folder / "venv" / "bin" / "python"
        uv = find_uv_bin()
        subprocess.run([uv, "venv", "--quiet", "--python", readable_python(folder), folder / "venv"], check=True)
        wheels = folder / "wheels"
        subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True)  # pip wheel
        shutil.copy(ROOT / "constraints.txt", wheels)
        commands = [
            shlex.split(command)
            for each in instructions()
            if (each.stage, each.name) == (1, "RUN")
            for command in each.value.split("&&")
        ]
        assert commands
        for program, action, *arguments in commands:
            assert (program, action) == ("pip", "install")
            paths = [each.replace("/wheels", str(wheels)) for each in arguments if each != "--no-cache-dir"]
            files = [str(file) for each in paths for file in (sorted(wheels.glob("*.whl")) if "*" in each else [each])]
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *files]
            subprocess.run(install, check=True)
        shutil.rmtree(wheels)
        variables = dict(each.split("=", 1) for each in shlex.split(of("ENV")))
        path = f"{python.parent}:{os.environ['PATH']}"
        variables |= {"PATH": path, "HOME": "/nonexistent", "FRCNN_TOKEN": TOKEN}
        variables["LD_LIBRARY_PATH"] = str(folder / "python" / "lib")  # of a copied Python
        yield Image(folder, python, variables)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    frcnn.load(trained_run()).export("onnx", file)
    return file


def files_in(*folders: Path) -> dict[Path, int]:
    """File -> time of its last change."""
    return {file: file.lstat().st_mtime_ns for folder in folders for file in folder.rglob("*")}


def as_nobody() -> dict[str, object]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}


def test_the_image_serves_a_model(image: Image, model: Path, shared: Path) -> None:
    mounted, scratch = image.folder / "model", image.folder / "tmp"
    mounted.mkdir()
    shutil.copy(model, mounted / "model.onnx")
    (mounted / "model.onnx").chmod(0o444)
    scratch.mkdir()
    scratch.chmod(0o777)
    without_torch = [image.python, "-c", "import torch"]
    found = subprocess.run(without_torch, capture_output=True, text=True, env=image.environment, check=False)
    assert "No module named 'torch'" in found.stderr

    entry = json.loads(of("ENTRYPOINT")) + [
        each.replace("/model", str(mounted), 1) if each.startswith("/model/") else each
        for each in json.loads(of("CMD"))
    ]
    entry[entry.index("--port") + 1] = "0"
    before = files_in(image.folder / "venv", mounted, ROOT / "src")
    environment = image.environment | {"TMPDIR": str(scratch)}
    with subprocess.Popen(
        entry, cwd=scratch, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **as_nobody()
    ) as process:
        try:
            assert process.stdout is not None
            shown = [process.stdout.readline() for _ in range(3)]
            port = re.search(r":(\d+) to try it", shown[1])
            assert port is not None, (shown, process.stderr.read() if process.stderr else "")
            address = f"http://127.0.0.1:{port.group(1)}"
            check_health(image, int(port.group(1)))
            photo = sorted((shared / "datasets" / "grocery" / "testImages").glob("*.jpg"))[0]
            small = scratch / "photo.png"
            read_image(photo).resize((400, 300)).save(small)
            header = {"authorization": f"Bearer {TOKEN}"}
            predict, content = f"{address}/predict?threshold=0.01", small.read_bytes()
            assert httpx.post(predict, content=content).status_code == 401
            answer = httpx.post(predict, content=content, headers=header, timeout=30).raise_for_status().json()
            assert "frcnn_images_total" in httpx.get(f"{address}/metrics", headers=header).text
            expected = frcnn.load(model).predict(small, threshold=0.01).to_dict()["detections"]
            assert answer["detections"]
            assert [each["class"] for each in answer["detections"]] == [each["class"] for each in expected]
            for one, other in zip(answer["detections"], expected, strict=True):
                assert one["box"] == pytest.approx(other["box"], abs=0.05)
                assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            process.send_signal(signal.Signals[of("STOPSIGNAL")])
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert files_in(image.folder / "venv", mounted, ROOT / "src") == before  # so it can be read-only
    assert [file.name for file in scratch.iterdir()] == ["photo.png"]


def check_health(image: Image, port: int) -> None:
    """HEALTHCHECK says healthy of the service, and unhealthy where there is none."""
    _, _, command = of("HEALTHCHECK").partition("CMD ")
    for number, healthy in ((port, True), (1, False)):
        arguments = [each.replace(":8000/", f":{number}/") for each in json.loads(command)]
        done = subprocess.run(arguments, env=image.environment, capture_output=True, check=False, **as_nobody())
        assert (done.returncode == 0) == healthy


def test_the_image_is_small(image: Image) -> None:
    packages = next((image.folder / "venv" / "lib").glob("python*/site-packages"))
    megabytes = sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6
    assert megabytes + BASE_MEGABYTES < 600


def test_the_image_is_safe() -> None:
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", of("USER"))
    assert of("EXPOSE") == "8000"
    assert "FRCNN_TOKEN" not in of("ENV")
    options = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["frcnn"]
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert options["environment"]["FRCNN_TOKEN"].startswith("${FRCNN_TOKEN:?")
    assert all(volume.endswith(":ro") for volume in options["volumes"])
    assert "healthcheck" not in options  # that of the Dockerfile applies


def test_the_wheel_needs_only_what_is_sent_to_docker() -> None:
    """.dockerignore excludes all but what it lists."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    settings = (ROOT / "pyproject.toml").read_text()
    assert "*" in lines
    assert sent == {"src", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert 'readme = "README.md"' in settings
    assert 'license-files = ["LICENSE"]' in settings
